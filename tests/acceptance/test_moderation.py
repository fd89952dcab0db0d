"""What a host does to people takes effect at once, on whichever worker they are, for REST and sockets alike."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.acceptance.conftest import Arrange, Pair, Sit
from tests.acceptance.lessons import Person, Seat, rest, until

#: Promised: "takes effect on open sockets within 1 s".
AT_ONCE = 1.0


def code(ack: dict[str, Any]) -> tuple[int, str]:
    """Status and code of a refusal."""
    assert ack["ok"] is False, ack
    return ack["error"]["status_code"], ack["error"]["error"]


@pytest.mark.parametrize("by", ["the socket", "REST"])
async def test_a_kicked_student_is_out_everywhere_until_let_back_in(
    pair: Pair, arrange: Arrange, sit: Sit, by: str
) -> None:
    lesson = await arrange(pair.one.url)
    teacher = await sit(pair.one.url, lesson, lesson.teacher)
    parent = await sit(pair.two.url, lesson, lesson.parent)
    tabs = [await sit(url, lesson, lesson.student) for url in pair.urls]
    await tabs[1].call("raiseHand", raised=True)

    kicked_at = time.monotonic()
    if by == "the socket":
        assert await teacher.call("kick", userId=lesson.student.id) == {"ok": True}
    else:
        done = await lesson.call(
            "PATCH", f"/participants/{lesson.student.id}", {"wasKicked": True}, by=lesson.teacher, url=pair.two.url
        )
        assert (done.status, done.body["wasKicked"]) == (200, True)
    for tab in tabs:
        assert await tab.hears("kicked") == {"sessionId": lesson.id, "session_id": lesson.id}
    assert time.monotonic() - kicked_at < AT_ONCE
    for seat in (teacher, parent):
        told = await seat.hears("participantKicked")
        assert told == {"userId": lesson.student.id, "seq": 2, "session_id": lesson.id}
        left = await seat.hears("participantLeft")
        assert (left["userId"], left["reason"]) == (lesson.student.id, "kicked")
    await teacher.say("now that we are alone")
    await parent.hears_up_to(3)

    for tab in tabs:
        assert tab.texts == []
        assert code(await tab.call("sendMessage", text="let me in")) == (403, "not_joined")
        assert code(await tab.call("joinSession", lastSeq=0)) == (403, "kicked")
    for url in pair.urls:
        for method, path, body in (
            ("GET", "/messages", None),
            ("POST", "/messages", {"text": "let me in"}),
            ("GET", "/participants", None),
            ("GET", "/timeline", None),
            ("GET", "", None),
        ):
            refused = await lesson.call(method, path, body, by=lesson.student, url=url)
            assert (refused.status, refused.body["error"]) == (403, "kicked"), (method, path)

    back = await lesson.call("PATCH", f"/participants/{lesson.student.id}", {"wasKicked": False}, by=lesson.teacher)
    assert (back.status, back.body["wasKicked"]) == (200, False)
    for tab in tabs:
        joined = await tab.call("joinSession", lastSeq=1)
        assert joined["ok"], joined
        assert [e["event"] for e in joined["events"]] == ["participantKicked", "newMessage"]
    message = await tabs[0].say("thank you")
    await teacher.hears("newMessage", id=message["id"])
    # The hand went down with them.
    assert joined["you"]["handRaised"] is False


async def test_only_the_host_moderates_and_stays(pair: Pair, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(pair.one.url)
    teacher = await sit(pair.one.url, lesson, lesson.teacher)
    student = await sit(pair.two.url, lesson, lesson.student)
    for event, payload in (
        ("kick", {"userId": lesson.teacher.id}),
        ("setPermissions", {"userId": lesson.student.id, "micAllowed": True}),
        ("endSession", {}),
    ):
        assert code(await student.call(event, **payload)) == (403, "not_host"), event
    assert code(await teacher.call("kick", userId=lesson.teacher.id)) == (409, "host_stays")
    stranger = lesson.person("student", "Stran Ger")
    await lesson.meet(stranger)
    assert code(await teacher.call("kick", userId=stranger.id)) == (404, "participant_not_found")
    assert code(await teacher.call("kick", userId="nobody at all")) == (404, "participant_not_found")
    assert await lesson.timeline() == []


async def test_a_stranger_gets_in_nowhere(pair: Pair, arrange: Arrange, sit: Sit) -> None:
    lesson, other = await arrange(pair.one.url), await arrange(pair.one.url)
    seat = await sit(pair.one.url, other, other.student)
    for name, payload in (
        ("joinSession", {"sessionId": lesson.id}),
        ("joinSession", {"sessionId": lesson.id, "lastSeq": 0}),
        ("sendMessage", {"sessionId": lesson.id, "text": "hello"}),
        ("typing", {"sessionId": lesson.id, "typing": True}),
        ("markRead", {"sessionId": lesson.id, "seq": 1}),
        ("raiseHand", {"sessionId": lesson.id, "raised": True}),
        ("kick", {"sessionId": lesson.id, "userId": lesson.student.id}),
        ("endSession", {"sessionId": lesson.id}),
        ("leaveSession", {"sessionId": lesson.id}),
    ):
        ack = await seat.client.call(name, payload)
        assert ack["ok"] is False, (name, ack)
        assert ack["error"]["status_code"] == 403, (name, ack)
    unknown = await seat.client.call("joinSession", {"sessionId": "no-such-room"})
    assert code(unknown) == (404, "session_not_found")
    assert await lesson.timeline() == []
    assert await lesson.online() == set()


async def test_permissions_and_hands_are_seen_by_all_and_by_those_who_come_later(
    pair: Pair, arrange: Arrange, sit: Sit
) -> None:
    lesson = await arrange(pair.one.url)
    teacher = await sit(pair.one.url, lesson, lesson.teacher)
    student = await sit(pair.two.url, lesson, lesson.student)
    assert await teacher.call("setPermissions", userId=lesson.student.id, micAllowed=False) == {"ok": True}
    for seat in (teacher, student):
        assert await seat.hears("permissionsChanged") == {
            "userId": lesson.student.id,
            "micAllowed": False,
            "cameraAllowed": True,
            "seq": 1,
            "session_id": lesson.id,
        }
    # The same again changes nothing, and says nothing.
    await teacher.call("setPermissions", userId=lesson.student.id, micAllowed=False)
    assert await student.call("raiseHand", raised=True) == {"ok": True}
    assert await student.call("raiseHand", raised=True) == {"ok": True}
    raised = {"userId": lesson.student.id, "raised": True, "seq": 2, "session_id": lesson.id}
    for seat in (teacher, student):
        assert await seat.hears("handRaised") == raised
    await student.call("raiseHand", raised=False)
    await teacher.hears("handRaised", raised=False, seq=3)
    await student.call("raiseHand", raised=True)
    await teacher.hears_up_to(4)
    for url in pair.urls:
        late = await sit(url, lesson, lesson.parent)
        entry = next(p for p in late.ack["participants"] if p["userId"] == lesson.student.id)
        assert (entry["micAllowed"], entry["cameraAllowed"], entry["handRaised"]) == (False, True, True)


async def test_permissions_of_somebody_who_has_not_come_yet_hold_when_they_come(
    pair: Pair, arrange: Arrange, sit: Sit
) -> None:
    lesson = await arrange(pair.one.url)
    teacher = await sit(pair.one.url, lesson, lesson.teacher)
    await teacher.call("setPermissions", userId=lesson.student.id, cameraAllowed=False)
    student = await sit(pair.two.url, lesson, lesson.student)
    assert student.ack["you"]["cameraAllowed"] is False
    joined = await teacher.hears("participantJoined", userId=lesson.student.id)
    assert (joined["micAllowed"], joined["cameraAllowed"]) == (True, False)


async def test_the_end_of_a_session_completes_its_booking_and_leaves_the_chat_open(
    pair: Pair, arrange: Arrange, sit: Sit
) -> None:
    lesson = await arrange(pair.one.url)
    teacher = await sit(pair.one.url, lesson, lesson.teacher)
    student = await sit(pair.two.url, lesson, lesson.student)
    assert await teacher.call("endSession") == {"ok": True}
    for seat in (teacher, student):
        assert await seat.hears("sessionStatus") == {"status": "ended", "seq": 1, "session_id": lesson.id}
    booking = await rest(pair.two.url, "GET", f"/bookings/{lesson.id}", token=lesson.student.token())
    assert booking.body["status"] == "completed"
    assert await teacher.call("endSession") == {"ok": True}
    message = await student.say("One more question")
    await teacher.hears("newMessage", id=message["id"], seq=2)
    assert (await sit(pair.one.url, lesson, lesson.parent)).ack["session"]["status"] == "ended"


async def test_a_cancelled_booking_can_be_read_and_not_written(pair: Pair, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(pair.one.url)
    teacher = await sit(pair.one.url, lesson, lesson.teacher)
    student = await sit(pair.two.url, lesson, lesson.student)
    message = await student.say("I cannot come")
    cancelled = await rest(
        pair.one.url, "PATCH", f"/bookings/{lesson.id}", {"status": "cancelled"}, token=lesson.student.token()
    )
    assert cancelled.body["status"] == "cancelled"
    for seat in (teacher, student):
        await seat.hears("sessionStatus", status="ended", seq=2)
        assert code(await seat.call("sendMessage", text="too late")) == (409, "booking_cancelled")
    assert code(await student.call("editMessage", id=message["id"], text="too late")) == (409, "booking_cancelled")
    posted = await lesson.post("too late", by=lesson.student, url=pair.two.url)
    assert (posted.status, posted.body["error"]) == (409, "booking_cancelled")
    back = await sit(pair.one.url, lesson, lesson.parent, last_seq=0)
    assert [e["event"] for e in back.ack["events"]] == ["newMessage", "sessionStatus"]


async def test_a_parent_whose_link_is_gone_is_out_at_once(pair: Pair, arrange: Arrange, sit: Sit) -> None:
    # The parent at the time of the booking stays the booking's; one who was linked later belongs by the link alone.
    lesson = await arrange(pair.one.url)
    later = Person(f"later-{lesson.parent.id}", "parent", "La Ter")
    await lesson.meet(later)
    await lesson.set_parent(later.id)
    teacher = await sit(pair.one.url, lesson, lesson.teacher)
    seats: list[Seat] = [await sit(url, lesson, later) for url in pair.urls]
    await teacher.hears("participantJoined", userId=later.id)
    changed_at = time.monotonic()
    await lesson.set_parent(None)
    for seat in seats:
        await seat.hears("kicked", session_id=lesson.id)
    assert time.monotonic() - changed_at < AT_ONCE
    await teacher.hears("participantLeft", userId=later.id)
    await teacher.say("not for later")
    for seat in seats:
        assert code(await seat.call("sendMessage", text="still here?")) == (403, "not_joined")
        assert code(await seat.call("joinSession")) == (403, "forbidden")
        assert seat.texts == []
    await until(lambda: len(teacher.came("participantLeft")) == 1, "one left")


async def test_a_new_name_stands_on_what_is_said_next(pair: Pair, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(pair.one.url)
    student = await sit(pair.two.url, lesson, lesson.student)
    assert (await student.say("before"))["from"] == "Stu Dent"
    body = {"user_id": lesson.student.id, "role": "student", "profile_data": {"name": "Stella Dent", "email": None}}
    saved = await rest(pair.one.url, "POST", "/profiles", body, token=lesson.student.token())
    assert saved.status == 200, saved

    async def is_new() -> bool:
        return bool((await student.say("after"))["from"] == "Stella Dent")

    await until(is_new, "the new name", AT_ONCE)
    assert (await lesson.history())[0]["from"] == "Stu Dent"
