"""The log's entries, as clients see them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args
from uuid import UUID

import msgspec
import pytest

from domain.events import EVENT_NAMES, event, message_document, message_event, posted, renew, timeline_document
from realtime.events import Event
from store.events import Kind, LogEntry
from store.messages import Appended, Message

AT = datetime(2030, 1, 2, 3, 4, 5, 600000, tzinfo=UTC)
LATER = datetime(2030, 1, 2, 4, 0, tzinfo=UTC)
SESSION_ID, MESSAGE_ID = UUID(int=1), UUID(int=2)
S, M = str(SESSION_ID), str(MESSAGE_ID)


def entry(kind: Kind, *, user_id: str = "teach", **fields: Any) -> LogEntry:
    return LogEntry(session_id=SESSION_ID, seq=7, kind=kind, user_id=user_id, at=AT, **fields)


SAID: dict[str, Any] = {"message_id": MESSAGE_ID, "sender_name": "Kid", "text": "hi", "user_id": "kid"}


@pytest.mark.parametrize(
    ("of", "name", "data"),
    [
        (
            entry("message", **SAID, client_id="c"),
            "newMessage",
            {"id": M, "from": "Kid", "user_id": "kid", "text": "hi", "created_at": "2030-01-02T03:04:05.600000Z",
             "client_id": "c"},
        ),
        (
            entry("message", **SAID | {"text": ""}, deleted=True, edited_at=LATER),
            "newMessage",
            {"id": M, "from": "Kid", "user_id": "kid", "text": "", "created_at": "2030-01-02T03:04:05.600000Z",
             "edited_at": "2030-01-02T04:00:00Z", "deleted": True},
        ),
        (
            entry("message_edited", **SAID, edited_at=LATER),
            "messageEdited",
            {"id": M, "text": "hi", "edited_at": "2030-01-02T03:04:05.600000Z"},
        ),
        (entry("message_deleted", **SAID), "messageDeleted", {"id": M}),
        (
            entry("message", **SAID, reactions={"👍": 2}),
            "newMessage",
            {"id": M, "from": "Kid", "user_id": "kid", "text": "hi", "created_at": "2030-01-02T03:04:05.600000Z",
             "reactions": {"👍": 2}},
        ),
        (entry("message_pinned", message_id=MESSAGE_ID), "messagePinned", {"id": M}),
        (entry("message_pinned"), "messagePinned", {"id": None}),
        (
            entry("message_reaction", **SAID, data={"userId": "kid", "emoji": "👍", "reacted": True,
                                                    "reactions": {"👍": 1}}),
            "messageReaction",
            {"id": M, "userId": "kid", "emoji": "👍", "reacted": True, "reactions": {"👍": 1}},
        ),
        (entry("session_status", data={"status": "live"}), "sessionStatus", {"status": "live"}),
        (entry("session_settings", data={"locked": True}), "sessionSettings", {"locked": True}),
        (entry("whiteboard_cleared"), "whiteboardCleared", {}),
        (
            entry("recording_state", data={"state": "ready", "recording_id": M, "at": "2030-01-02T03:04:05Z"}),
            "recordingState",
            {"state": "ready", "recording_id": M, "at": "2030-01-02T03:04:05Z"},
        ),
        (entry("hand_raised", data={"userId": "kid", "raised": True}), "handRaised", {"userId": "kid", "raised": True}),
        (
            entry("permissions_changed", data={"userId": "kid", "micAllowed": False, "cameraAllowed": True}),
            "permissionsChanged",
            {"userId": "kid", "micAllowed": False, "cameraAllowed": True},
        ),
        (entry("participant_kicked", data={"userId": "kid"}), "participantKicked", {"userId": "kid"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_an_entry_is_the_contracts_event(of: LogEntry, name: str, data: dict[str, Any]) -> None:
    assert event(of) == Event(name=name, data={"seq": 7, "session_id": S} | data, seq=7)
    line = timeline_document(of)
    assert (line["seq"], line["kind"], line["at"], line["user_id"]) == (7, of.kind, AT, of.user_id)
    assert line["data"] == {k: v for k, v in data.items() if k not in ("user_id", "created_at")}


def test_every_kind_has_its_event() -> None:
    assert set(EVENT_NAMES) == set(get_args(Kind))
    assert len(set(EVENT_NAMES.values())) == len(EVENT_NAMES)


def test_a_message_reads_the_same_in_an_answer_and_as_an_event() -> None:
    message = Message(
        id=MESSAGE_ID, session_id=SESSION_ID, seq=7, user_id="kid", sender_name="Kid", text="hi", client_id=None,
        created_at=AT,
    )  # fmt: skip
    document = msgspec.to_builtins(message_document(message))
    assert set(document) == {"id", "seq", "session_id", "from", "user_id", "text", "created_at"}
    shown = event(entry("message", **SAID))
    assert shown.seq == 7
    assert shown.data == document
    posting = posted(Appended(message=message, repeated=False))
    assert message_event(posting) == shown
    assert msgspec.json.decode(posting.json) == document


def said(seq: int, message_id: str = M, name: str = "newMessage") -> Event:
    return Event(name=name, data={"id": message_id, "seq": seq, "text": "a secret"}, seq=seq)


def test_a_deletion_takes_the_text_from_what_is_kept_at_hand() -> None:
    deletion = Event(name="messageDeleted", data={"id": M, "seq": 9}, seq=9)
    kept = [said(1), said(2, name="messageEdited"), said(3, message_id="another"), deletion]
    renew(kept, deletion)
    assert [one.data.get("text") for one in kept] == ["", "", "a secret", None]
    assert kept[0].data["deleted"] is True
    assert "deleted" not in kept[1].data


def test_an_edit_replaces_it() -> None:
    edit = Event(name="messageEdited", data={"id": M, "seq": 9, "text": "better", "edited_at": "then"}, seq=9)
    earlier = said(1)
    renew([earlier], edit)
    assert earlier.data == {"id": M, "seq": 1, "text": "better", "edited_at": "then"}


def reaction(**counts: int) -> Event:
    data = {"id": M, "seq": 9, "userId": "kid", "emoji": "a", "reacted": True, "reactions": counts}
    return Event(name="messageReaction", data=data, seq=9)


def test_a_reaction_is_counted_on_what_is_kept_and_is_gone_when_nobody_is_left() -> None:
    earlier, edited, another = said(1), said(2, name="messageEdited"), said(3, message_id="another")
    kept = [earlier, edited, another]
    renew(kept, reaction(a=1, b=2))
    assert earlier.data["reactions"] == {"a": 1, "b": 2}
    assert "reactions" not in edited.data | another.data
    renew(kept, reaction())
    assert earlier.data == {"id": M, "seq": 1, "text": "a secret"}


def test_a_deletion_takes_the_reactions_along() -> None:
    earlier = said(1)
    renew([earlier], reaction(a=1))
    renew([earlier], Event(name="messageDeleted", data={"id": M, "seq": 10}, seq=10))
    assert earlier.data == {"id": M, "seq": 1, "text": "", "deleted": True}
