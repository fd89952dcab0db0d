"""The log's entries as clients see them: Socket.IO events, and lines of the timeline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from realtime.events import Event
from store.events import Kind, LogEntry
from store.messages import Appended, Message

EVENT_NAMES: Final[Mapping[Kind, str]] = {
    "message": "newMessage",
    "message_edited": "messageEdited",
    "message_deleted": "messageDeleted",
    "message_pinned": "messagePinned",
    "message_reaction": "messageReaction",
    "session_status": "sessionStatus",
    "session_settings": "sessionSettings",
    "hand_raised": "handRaised",
    "permissions_changed": "permissionsChanged",
    "participant_kicked": "participantKicked",
    "whiteboard_cleared": "whiteboardCleared",
    "recording_state": "recordingState",
}

_encode = msgspec.json.Encoder().encode


class MessageDocument(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, rename={"sender_name": "from"}
):
    """A message in REST answers, acks and `newMessage`. What it has not, such as `edited_at`, is left out."""

    id: UUID
    seq: int
    session_id: UUID
    sender_name: str
    user_id: str
    text: str
    created_at: datetime
    client_id: str | None = None
    edited_at: datetime | None = None
    deleted: bool = False
    #: How many people reacted with which emoji.
    reactions: Mapping[str, int] | None = None


class Posted(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of a message that was sent. `json` is its document, made once for the ack and for everybody.

    `repeated`: its `client_id` was written before.
    """

    message: Message
    repeated: bool
    json: msgspec.Raw


def posted(appended: Appended) -> Posted:
    message = appended.message
    return Posted(message=message, repeated=appended.repeated, json=msgspec.Raw(_encode(message_document(message))))


def message_event(message: Posted) -> Event:
    """The `newMessage` of a message that was written just now."""
    return Event(name=EVENT_NAMES["message"], data=message.json, seq=message.message.seq)


def event(entry: LogEntry) -> Event:
    """The event that tells clients of an entry (contract-realtime, *What a client receives*)."""
    data = _data(entry)
    name = EVENT_NAMES[entry.kind]
    if isinstance(data, MessageDocument):
        return Event(name=name, data=msgspec.Raw(_encode(data)), seq=entry.seq)
    return Event(name=name, data=msgspec.to_builtins(data), seq=entry.seq)


def _data(entry: LogEntry) -> MessageDocument | dict[str, Any]:
    data: dict[str, Any] = {"seq": entry.seq, "session_id": entry.session_id}
    if entry.kind == "message":
        assert entry.message_id is not None, "a message's entry has its id"
        return MessageDocument(
            id=entry.message_id,
            seq=entry.seq,
            session_id=entry.session_id,
            sender_name=entry.sender_name,
            user_id=entry.user_id or "",
            text=entry.text,
            created_at=entry.at,
            client_id=entry.client_id,
            edited_at=entry.edited_at,
            deleted=entry.deleted,
            reactions=entry.reactions,
        )
    if entry.kind == "message_edited":
        data |= {"id": entry.message_id, "text": entry.text, "edited_at": entry.at}
    elif entry.kind in ("message_deleted", "message_pinned", "message_reaction"):
        data |= {"id": entry.message_id, **entry.data}
    else:
        data |= entry.data
    return data


def message_document(message: Message) -> MessageDocument:
    return MessageDocument(
        id=message.id,
        seq=message.seq,
        session_id=message.session_id,
        sender_name=message.sender_name,
        user_id=message.user_id,
        text=message.text,
        created_at=message.created_at,
        client_id=message.client_id,
        edited_at=message.edited_at,
        deleted=message.deleted,
        reactions=message.reactions,
    )


def timeline_document(entry: LogEntry) -> dict[str, Any]:
    """A line of the timeline: `{seq, kind, at, user_id, data}`."""
    data: dict[str, Any] = msgspec.to_builtins(_data(entry))
    for name in ("seq", "session_id", "user_id", "created_at"):
        data.pop(name, None)
    return {"seq": entry.seq, "kind": entry.kind, "at": entry.at, "user_id": entry.user_id, "data": data}


def renew(kept: Iterable[Event], news: Event) -> None:
    """Have the events kept in memory say what the database says once a message was edited, deleted or reacted to
    (`news`)."""
    said = news.data
    message_id = said["id"].encode()
    for earlier in kept:
        # To look for the id in the JSON is much cheaper than to parse all that is kept.
        if earlier.name not in ("newMessage", "messageEdited") or message_id not in bytes(earlier.json):
            continue
        data = dict(earlier.data)
        if data["id"] != said["id"]:
            continue
        if news.name == "messageReaction":
            if earlier.name == "newMessage":
                data.pop("reactions", None)
                data |= {"reactions": said["reactions"]} if said["reactions"] else {}
                earlier.data = data
            continue
        data["text"] = said.get("text", "")
        if earlier.name == "newMessage":
            if news.name == "messageEdited":
                data["edited_at"] = said["edited_at"]
            else:
                data["deleted"] = True
                data.pop("reactions", None)
        earlier.data = data
