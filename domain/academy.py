"""The courses of the sample school (:mod:`domain.school`), and their live classes: one evening a week each.

As there, everything follows from the date.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from typing import Final
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

from store.academy import SampleClass, SampleCourse, SampleVisit
from store.school import SampleEntry, SamplePerson

#: The hour at which classes begin: lessons are over by then, so that nobody is in two places.
CLASS_HOUR: Final = 20
CLASS_LENGTH: Final = timedelta(minutes=75)
#: Students of the smallest and the largest course; how many of them are `premium`.
LEAST_STUDENTS: Final = 25
MOST_STUDENTS: Final = 80
PREMIUM_SHARE: Final = 0.2
#: How many of its students come to a class; of these, how many leave early, and how many are lost for some minutes.
ATTENDING_SHARE: Final = 0.75
EARLY_SHARE: Final = 0.1
LOST_SHARE: Final = 0.08
#: More than anybody expects to come.
MAX_PARTICIPANTS: Final = 100
#: When the first of them were announced: before everything else that a sample school remembers.
ANNOUNCED: Final = timedelta(days=60)

_SPACE: Final = UUID("a6a0f6f1-2f59-4c62-9d0e-8f6f8d7a9b10")

#: Title, what it says of itself, and its topics, one evening after the other. The first is on Mondays, and so on.
_COURSES: Final = (
    (
        "Algebra from the ground up",
        "Ten evenings from terms to systems of equations, with exercises that are solved together.",
        ("Terms", "Linear equations", "Systems of equations", "Quadratic equations", "Functions"),
    ),
    (
        "English for exams",
        "Reading, writing and listening as the exam asks for them, and how to use the time one has.",
        ("Reading for gist", "Essay structure", "Listening", "Grammar that costs points", "A mock exam"),
    ),
    (
        "Physics by experiment",
        "Every evening begins with something that moves, shines or sparks; the formulas come second.",
        ("Falling things", "Electric circuits", "Light and lenses", "Energy", "Waves"),
    ),
    (
        "First steps in Python",
        "From the first line to a game of one's own. Nobody needs to know anything before.",
        ("Values and names", "Decisions", "Loops", "Functions", "A game"),
    ),
    (
        "The history of Europe since 1789",
        "Revolutions, nations, wars and treaties, read from the sources of their time.",
        ("The French Revolution", "Napoleon", "1848", "Industrialisation", "The First World War"),
    ),
)
#: What is said in a class: by the host (h), or by one of those who came (a number).
_CHATS: Final = (
    (
        ("h", "Good evening everybody! Today: {topic}. Can you all hear me?"),
        (0, "Yes!"),
        (1, "Loud and clear"),
        (2, "Sorry, I had to reconnect. Did I miss anything?"),
        ("h", "Not a word, we are just beginning."),
        (3, "Could you show the last step again?"),
        ("h", "Of course. Look at the whiteboard."),
        (3, "Thank you, now I see it."),
        (4, "Will the slides be online?"),
        ("h", "Tonight. For next week, please read the first chapter."),
    ),
    (
        ("h", "Welcome! We go on with {topic}."),
        (0, "I tried the exercises, number 4 does not come out right."),
        (1, "Same here"),
        ("h", "Then we begin with number 4, all together."),
        (2, "Ahh, the sign!"),
        (0, "That was it. Thanks!"),
        ("h", "That is all for today. Questions are welcome here, any time."),
    ),
    (
        (0, "Good evening!"),
        ("h", "Good evening! {topic}: who has heard of it before?"),
        (1, "Only the name"),
        (2, "We had it at school last year, but I forgot nearly everything"),
        ("h", "Perfect, then you are right here."),
        (3, "This is so much clearer than in my book"),
        ("h", "Well done, everybody. See you next week!"),
        (4, "See you!"),
    ),
)


def courses(teachers: Sequence[SamplePerson], students: Sequence[SamplePerson], since: datetime) -> list[SampleCourse]:
    """The academy's courses, by these teachers, with some of these students each."""
    made = []
    for number, (title, description, topics) in enumerate(_COURSES):
        random = Random(f"course {number}")
        enrolled = random.sample(list(students), random.randint(LEAST_STUDENTS, MOST_STUDENTS))
        made.append(
            SampleCourse(
                id=uuid5(_SPACE, title),
                title=title,
                description=description,
                instructor=teachers[number],
                students=enrolled,
                premium=round(PREMIUM_SHARE * len(enrolled)),
                created_at=since - ANNOUNCED,
                topics=topics,
            )
        )
    return made


def classes_of(courses: Sequence[SampleCourse], day: date, now: datetime) -> list[SampleClass]:
    """The academy's classes of one day, as they are at `now`."""
    return [_class(course, day, now) for weekday, course in enumerate(courses) if weekday == day.weekday()]


def _class(course: SampleCourse, day: date, now: datetime) -> SampleClass:
    class_id = uuid5(course.id, f"{day}")
    random = Random(f"class {class_id}")
    start = datetime.combine(day, time(CLASS_HOUR), ZoneInfo(course.instructor.timezone)).astimezone(UTC)
    end = start + CLASS_LENGTH
    topic = course.topics[day.toordinal() // 7 % len(course.topics)]
    chat = random.choice(_CHATS)
    came = [student for student in course.students if random.random() < ATTENDING_SHARE]
    over = end <= now
    return SampleClass(
        id=class_id,
        course_id=course.id,
        host_id=course.instructor.id,
        title=f"{course.title}: {topic}",
        room_name=f"demo-class-{class_id.hex[:16]}",
        starts_at=start,
        ended_at=end if over else None,
        created_at=min(start - timedelta(days=7), now - timedelta(days=1)),
        max_participants=MAX_PARTICIPANTS,
        entries=tuple(_entries(class_id, course.instructor, came, topic, chat, start, end)) if over else (),
        visits=tuple(_visits(random, course.instructor, came, start, end)) if over else (),
    )


def _entries(
    class_id: UUID,
    host: SamplePerson,
    came: Sequence[SamplePerson],
    topic: str,
    chat: Sequence[tuple[str | int, str]],
    start: datetime,
    end: datetime,
) -> Iterator[SampleEntry]:
    yield _moved(class_id, host, start, "live")
    for number, (speaker, text) in enumerate(chat, 1):
        sender = came[speaker % len(came)] if isinstance(speaker, int) else host
        yield SampleEntry(
            kind="message",
            id=uuid5(class_id, f"message {number}"),
            user_id=sender.id,
            sender_name=f"{sender.first_name} {sender.last_name}",
            text=text.format(topic=topic),
            at=start + CLASS_LENGTH * number / (len(chat) + 1),
        )
    yield _moved(class_id, host, end, "ended")


def _moved(class_id: UUID, host: SamplePerson, at: datetime, status: str) -> SampleEntry:
    return SampleEntry(kind="session_status", id=uuid5(class_id, status), user_id=host.id, at=at, status=status)


def _visits(
    random: Random, host: SamplePerson, came: Sequence[SamplePerson], start: datetime, end: datetime
) -> Iterator[SampleVisit]:
    yield SampleVisit(user_id=host.id, joined_at=start - timedelta(minutes=6), left_at=end)
    for student in came:
        joined = start + timedelta(seconds=random.randint(-240, 480))
        left = end - timedelta(minutes=random.randint(15, 45)) if random.random() < EARLY_SHARE else end
        if random.random() < LOST_SHARE:
            lost = start + timedelta(minutes=random.randint(10, 25))
            yield SampleVisit(user_id=student.id, joined_at=joined, left_at=lost)
            joined = lost + timedelta(seconds=random.randint(20, 240))
        yield SampleVisit(user_id=student.id, joined_at=joined, left_at=left)
