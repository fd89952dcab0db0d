"""A sample school, to see the server with life in it: teachers, students, parents, a month of lessons, some chat,
when teachers have time, what families say of them, and five courses with their live classes (:mod:`domain.academy`).

Everything follows from the date: a day has the same lessons whenever the school is filled. So filling it again adds
the days that have come since, completes the lessons that are over since, and leaves alone what people have changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from typing import Final
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

from domain import academy
from domain.identity import Identity
from store import academy as store_academy
from store import bookings, school
from store.academy import SampleClass
from store.bookings import Status
from store.database import Pool
from store.errors import translated
from store.school import SampleEntry, SampleLesson, SamplePerson, SampleReview, SampleSlot

TEACHERS: Final = 20
STUDENTS: Final = 200
#: The first students are two siblings each, the others have a parent of their own.
SIBLINGS: Final = 80
#: Days before and after today that have lessons.
DAYS_AROUND: Final = 15
TIMEZONE: Final = "Europe/Berlin"
#: Hours of the school's day at which lessons start, by weekday from Monday.
HOURS: Final = (*(range(13, 20),) * 5, range(9, 14), range(0))
LESSON_LENGTH: Final = timedelta(minutes=50)
#: How many of a teacher's hours are booked.
BOOKED_SHARE: Final = 0.55
#: How many lessons are cancelled; of those to come, how many still wait for the teacher; in how many somebody writes.
CANCELLED_SHARE: Final = 0.1
PENDING_SHARE: Final = 0.3
CHAT_SHARE: Final = 0.4
#: How many of the hours without a lesson a teacher offers all the same.
OFFERED_SHARE: Final = 0.6
#: How many of the completed lessons are reviewed, and by how many stars; mostly good ones, as in life.
REVIEWED_SHARE: Final = 0.35
_STARS: Final = (5, 5, 5, 5, 4, 4, 4, 3, 2)

#: Whatever is made here has its id in this space.
_SPACE: Final = UUID("5f1f3a0e-6f0f-4f6e-9a53-1f6f8f1c2d40")

_TOPICS: Final = {
    "Mathematics": ("Fractions", "Linear equations", "Geometry", "Probability", "Derivatives"),
    "English": ("Essay writing", "Past tenses", "Reading Orwell", "Pronunciation", "Letters"),
    "Physics": ("Forces", "Electric circuits", "Optics", "Energy", "Waves"),
    "Chemistry": ("The periodic table", "Acids and bases", "Bonds", "Redox reactions", "Moles"),
    "Biology": ("Cells", "Genetics", "Photosynthesis", "Evolution", "The heart"),
    "History": ("Ancient Rome", "The Reformation", "Industrialisation", "The Cold War", "Working with sources"),
    "Computer science": ("First steps in Python", "Loops", "Sorting", "Web pages", "Databases"),
    "French": ("Passé composé", "Everyday talk", "Subjonctif", "Reading Camus", "Vocabulary"),
    "Spanish": ("Ser and estar", "Travel", "Pretérito", "Listening", "Short stories"),
    "Music": ("Reading notes", "Chords", "Rhythm", "Harmony", "The blues scale"),
}
_SUBJECTS: Final = tuple(_TOPICS)
_FIRST_NAMES: Final = (
    "Ada", "Amir", "Anna", "Ben", "Carla", "Chen", "Clara", "Daniel", "Elif", "Emil", "Emma", "Farah", "Felix", "Finn",
    "Grace", "Hana", "Hugo", "Ida", "Ivan", "Jana", "Jonas", "Julia", "Karim", "Lena", "Liam", "Lina", "Luca", "Maja",
    "Malik", "Marie", "Mila", "Nils", "Noor", "Omar", "Paula", "Ravi", "Rosa", "Samuel", "Sofia", "Yuki",
)  # fmt: skip
_LAST_NAMES: Final = (
    "Adeyemi", "Bauer", "Becker", "Costa", "Demir", "Dubois", "Fischer", "Garcia", "Haddad", "Hansen", "Hoffmann",
    "Ivanova", "Jensen", "Kaya", "Keller", "Kowalski", "Kumar", "Lang", "Larsson", "Lindner", "Meyer", "Moreau", "Mori",
    "Nguyen", "Novak", "Okoye", "Peters", "Petrov", "Popescu", "Richter", "Rossi", "Schmidt", "Silva", "Sommer",
    "Tanaka", "Vogel", "Wagner", "Weber", "Winter", "Zhang",
)  # fmt: skip
_BIOS: Final = (
    "I have taught {subject} for {years} years, and still like the moment when it clicks.",
    "Patient, with many examples. {subject} is easier than it looks, and {years} years of lessons say so.",
    "I studied {subject} and have prepared students for their exams for {years} years.",
    "No question is too small. {years} years of {subject}, from the first lesson to the finals.",
)
#: What is said in a lesson: by the student (s) or the teacher (t).
_CHATS: Final = (
    (
        ("s", "Hi! I did not get the last exercise on {topic}."),
        ("t", "No problem, let us go through it step by step."),
        ("s", "Ah, I had mixed up the first two steps."),
        ("t", "Exactly. Try the next one alone, I am here."),
        ("s", "Done, thank you!"),
    ),
    (
        ("t", "Good afternoon! Today we start with {topic}. Is the sound all right?"),
        ("s", "Yes, I hear you well."),
        ("t", "Then please open page 42."),
    ),
    (
        ("s", "May I send you my homework on {topic} tonight?"),
        ("t", "Gladly, I look at it tomorrow morning."),
    ),
    (
        ("t", "Well done today. For next time: exercises 3 to 7 on {topic}."),
        ("s", "Will do. See you next week!"),
    ),
)


#: What is said of a lesson, by its stars.
_PRAISE: Final = {
    5: ("Clear, patient and funny. We are very happy.", "My child asks for the next lesson every day.", ""),
    4: ("Good explanations, a little fast at times.", "Well prepared. The hour is over too soon.", ""),
    3: ("All right, but there could be more exercises.", ""),
    2: ("We began ten minutes late.",),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Filled:
    """What was added to the school, how many of its lessons were over and are `completed` now, and which days it has
    lessons on."""

    people: int
    lessons: int
    completed: int
    messages: int
    slots: int
    reviews: int
    courses: int
    classes: int
    first_day: date
    last_day: date


async def fill(pool: Pool, now: datetime) -> Filled:
    """Put into the database what of the school it does not have yet."""
    today = now.astimezone(ZoneInfo(TIMEZONE)).date()
    days = [today + timedelta(days=offset) for offset in range(-DAYS_AROUND, DAYS_AROUND + 1)]
    lessons = [lesson for day in days for lesson in lessons_of(day, now)]
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            # Whoever fills it at the same time waits here, and finds it filled.
            await bookings.take_turns(connection, [person.id for person in PEOPLE if person.role != "parent"])
            people = await school.add_people(connection, PEOPLE)
            over = await school.left_open(connection, [teacher.id for teacher in _TEACHERS], now=now)
            ours = [lesson for lesson in over if lesson.id == _lesson_id(lesson.teacher_id, lesson.start_time)]
            await school.complete(connection, ours)
            added = await school.add_lessons(connection, lessons)
            reviews = [review for lesson in added if (review := _review(lesson, now))]
            await school.add_reviews(connection, reviews)
            slots = await school.add_slots(connection, [slot for day in days for slot in slots_of(day, now)])
            courses = academy.courses(_TEACHERS, _STUDENTS, now)
            new_courses = await store_academy.add_courses(connection, courses)
            classes = await store_academy.add_classes(
                connection, [one for day in days for one in academy.classes_of(courses, day, now)]
            )
    logs = [*(lesson.entries for lesson in added), *(one.entries for one in classes)]
    return Filled(
        people=people,
        lessons=len(added),
        completed=len(ours),
        messages=sum(entry.kind == "message" for entries in logs for entry in entries),
        slots=slots,
        reviews=len(reviews),
        courses=new_courses,
        classes=len(classes),
        first_day=days[0],
        last_day=days[-1],
    )


def person(user_id: str) -> Identity | None:
    """Somebody of the school, as their token would say."""
    found = _BY_ID.get(user_id)
    if found is None:
        return None
    return Identity(
        user_id=found.id,
        role=found.role,
        first_name=found.first_name,
        last_name=found.last_name,
        email=found.email,
    )


def next_lesson(now: datetime) -> SampleLesson | None:
    """A confirmed lesson to show around with: the first that ends after `now`."""
    today = now.astimezone(ZoneInfo(TIMEZONE)).date()
    for offset in range(DAYS_AROUND + 1):
        coming = [
            lesson
            for lesson in lessons_of(today + timedelta(days=offset), now)
            if lesson.status == "confirmed" and lesson.end_time > now
        ]
        if coming:
            return min(coming, key=lambda lesson: (lesson.start_time, lesson.teacher_id))
    return None


def next_class(now: datetime) -> SampleClass | None:
    """A live class to show around with: the first that ends after `now`."""
    today = now.astimezone(ZoneInfo(TIMEZONE)).date()
    courses = academy.courses(_TEACHERS, _STUDENTS, now)
    coming = (
        one
        for offset in range(DAYS_AROUND + 1)
        for one in academy.classes_of(courses, today + timedelta(days=offset), now)
        if one.ended_at is None
    )
    return next(coming, None)


def slots_of(day: date, now: datetime) -> list[SampleSlot]:
    """The hours of one day after `now` that teachers offer: those that are booked, and some of the others."""
    random = Random(f"slots of {day}")
    booked = {(lesson.teacher_id, lesson.start_time) for lesson in lessons_of(day, now) if lesson.status != "cancelled"}
    slots = []
    for teacher in _TEACHERS:
        for hour in HOURS[day.weekday()]:
            offered = random.random() < OFFERED_SHARE
            start = datetime.combine(day, time(hour), ZoneInfo(TIMEZONE)).astimezone(UTC)
            if start > now and (offered or (teacher.id, start) in booked):
                slot_id = uuid5(_SPACE, f"slot {teacher.id} {start:%Y-%m-%dT%H:%M}")
                end = start + LESSON_LENGTH
                slots.append(SampleSlot(id=slot_id, teacher_id=teacher.id, start_time=start, end_time=end))
    return slots


def _review(lesson: SampleLesson, now: datetime) -> SampleReview | None:
    """What the family says of a lesson, on the evening of its day or a little later."""
    random = Random(f"review of {lesson.id}")
    if lesson.status != "completed" or random.random() >= REVIEWED_SHARE:
        return None
    stars = random.choice(_STARS)
    return SampleReview(
        booking_id=lesson.id,
        author_id=lesson.student_id if lesson.parent_id is None or random.random() < 0.5 else lesson.parent_id,
        rating=stars,
        comment=random.choice(_PRAISE[stars]),
        at=min(lesson.end_time + timedelta(hours=random.randint(1, 30)), now),
    )


def lessons_of(day: date, now: datetime) -> list[SampleLesson]:
    """The school's lessons of one day, as they are at `now`. Nobody is in two at a time."""
    random = Random(f"lessons of {day}")
    busy: set[tuple[str, int]] = set()
    lessons = []
    for index in range(TEACHERS):
        teacher = _TEACHERS[index]
        for hour in HOURS[day.weekday()]:
            # Drawn whether they are used or not: what follows does not depend on what came before.
            booked, fate, chatty = random.random(), random.random(), random.random()
            student = random.choice(_PUPILS[index])
            topic = random.choice(list(teacher.topics))
            chat = random.choice(_CHATS)
            if booked < BOOKED_SHARE and (student.id, hour) not in busy:
                busy.add((student.id, hour))
                start = datetime.combine(day, time(hour), ZoneInfo(TIMEZONE)).astimezone(UTC)
                said = chat if chatty < CHAT_SHARE else ()
                lessons.append(_lesson(teacher, student, start, topic, fate, said, now))
    return lessons


def _lesson(
    teacher: SamplePerson,
    student: SamplePerson,
    start: datetime,
    topic: str,
    fate: float,
    said: Sequence[tuple[str, str]],
    now: datetime,
) -> SampleLesson:
    lesson_id = _lesson_id(teacher.id, start)
    end = start + LESSON_LENGTH
    status = _status(fate, over=end <= now, begun=start <= now)
    # Booked up to nine days before, and decided upon the day after; never in the future.
    booked_at = min(start - timedelta(days=2 + int(fate * 70) % 8), now - timedelta(days=1, hours=2))
    changed_at = booked_at if status == "pending" else booked_at + timedelta(hours=20)
    begins = start if status == "completed" else booked_at + timedelta(hours=21)
    chat = () if status in ("pending", "cancelled") else said
    return SampleLesson(
        id=lesson_id,
        student_id=student.id,
        teacher_id=teacher.id,
        parent_id=student.parent_id,
        start_time=start,
        end_time=end,
        status=status,
        title=topic,
        # As readable as other rooms' names; nobody enters by a name alone.
        room_name=f"demo-{lesson_id.hex[:16]}",
        booked_at=booked_at,
        changed_at=end if status == "completed" else changed_at,
        entries=tuple(_entries(lesson_id, teacher, student, topic, status, chat, begins, end, changed_at)),
    )


def _lesson_id(teacher_id: str, start: datetime) -> UUID:
    """The id of the school's own lesson at that time; one that people have booked or moved has another."""
    return uuid5(_SPACE, f"{teacher_id} {start.astimezone(UTC):%Y-%m-%dT%H:%M}")


def _status(fate: float, *, over: bool, begun: bool) -> Status:
    if fate < CANCELLED_SHARE:
        return "cancelled"
    if over:
        return "completed"
    return "pending" if not begun and fate < CANCELLED_SHARE + PENDING_SHARE else "confirmed"


def _entries(
    lesson_id: UUID,
    teacher: SamplePerson,
    student: SamplePerson,
    topic: str,
    status: Status,
    chat: Sequence[tuple[str, str]],
    begins: datetime,
    end: datetime,
    changed_at: datetime,
) -> Iterator[SampleEntry]:
    if status == "completed":
        yield _moved(lesson_id, teacher, begins, "live")
    for number, (side, text) in enumerate(chat, 1):
        sender = teacher if side == "t" else student
        yield SampleEntry(
            kind="message",
            id=uuid5(lesson_id, f"message {number}"),
            user_id=sender.id,
            sender_name=f"{sender.first_name} {sender.last_name}",
            text=text.format(topic=topic[0].lower() + topic[1:]),
            at=begins + timedelta(minutes=2 * number, seconds=7 * number % 60),
        )
    if status in ("completed", "cancelled"):
        yield _moved(lesson_id, teacher, end if status == "completed" else changed_at, "ended")


def _moved(lesson_id: UUID, teacher: SamplePerson, at: datetime, status: str) -> SampleEntry:
    return SampleEntry(kind="session_status", id=uuid5(lesson_id, status), user_id=teacher.id, at=at, status=status)


def _teacher(number: int) -> SamplePerson:
    random = Random(f"teacher {number}")
    subjects = (_SUBJECTS[number % len(_SUBJECTS)], _SUBJECTS[(number + 1 + number // len(_SUBJECTS)) % len(_SUBJECTS)])
    return SamplePerson(
        id=f"demo-teacher-{number + 1:02}",
        role="teacher",
        **_named(_FIRST_NAMES[number * 7 % len(_FIRST_NAMES)], _LAST_NAMES[number * 11 % len(_LAST_NAMES)]),
        timezone=TIMEZONE,
        bio=random.choice(_BIOS).format(subject=subjects[0].lower(), years=random.randint(2, 25)),
        subjects=subjects,
        topics=(*random.sample(_TOPICS[subjects[0]], 3), *random.sample(_TOPICS[subjects[1]], 2)),
    )


def _parent(number: int) -> SamplePerson:
    first_name = _FIRST_NAMES[(number * 13 + 5) % len(_FIRST_NAMES)]
    return SamplePerson(
        id=f"demo-parent-{number + 1:03}",
        role="parent",
        **_named(first_name, _LAST_NAMES[number * 17 % len(_LAST_NAMES)]),
        timezone=TIMEZONE,
    )


def _student(number: int) -> SamplePerson:
    parent = _PARENTS[number // 2 if number < SIBLINGS else number - SIBLINGS // 2]
    return SamplePerson(
        id=f"demo-student-{number + 1:03}",
        role="student",
        **_named(_FIRST_NAMES[(number * 3 + number // 40) % len(_FIRST_NAMES)], parent.last_name),
        timezone=TIMEZONE,
        parent_id=parent.id,
    )


def _named(first_name: str, last_name: str) -> dict[str, str]:
    email = f"{first_name}.{last_name}@demo.invalid".lower()
    return {"first_name": first_name, "last_name": last_name, "email": email}


_TEACHERS: Final = tuple(_teacher(number) for number in range(TEACHERS))
_PARENTS: Final = tuple(_parent(number) for number in range(STUDENTS - SIBLINGS // 2))
_STUDENTS: Final = tuple(_student(number) for number in range(STUDENTS))
#: Each teacher's students: every student has two teachers, some of them three.
_PUPILS: Final = tuple(
    [
        student
        for number, student in enumerate(_STUDENTS)
        if teacher in {number % TEACHERS, (number * 7 + 3) % TEACHERS, number // 10 % TEACHERS}
    ]
    for teacher in range(TEACHERS)
)
#: Everybody, parents before their children.
PEOPLE: Final = (*_TEACHERS, *_PARENTS, *_STUDENTS)
_BY_ID: Final = {one.id: one for one in PEOPLE}
