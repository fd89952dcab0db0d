"""The log's entries as clients see them: Socket.IO events, and lines of the timeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from realtime.events import Event
from store.events import Kind, LogEntry
from store.messages import Message

EVENT_NAMES: Final[Mapping[Kind, str]] = {
    "message": "newMessage",
    "message_edited": "messageEdited",
    "message_deleted": "messageDeleted",
    "session_status": "sessionStatus",
    "hand_raised": "handRaised",
    "permissions_changed": "permissionsChanged",
    "participant_kicked": "participantKicked",
}


def event(entry: LogEntry) -> Event:
    """The event that tells clients of an entry (contract-realtime, *What a client receives*)."""
    data: dict[str, Any] = {"seq": entry.seq, "session_id": entry.session_id}
    if entry.kind == "message":
        data = message_document(
            Message(
                id=entry.message_id,  # type: ignore[arg-type]  # a message's entry has its id
                session_id=entry.session_id,
                seq=entry.seq,
                user_id=entry.user_id or "",
                sender_name=entry.sender_name,
                text=entry.text,
                client_id=entry.client_id,
                created_at=entry.at,
                edited_at=entry.edited_at,
                deleted=entry.deleted,
            )
        )
    elif entry.kind == "message_edited":
        data |= {"id": entry.message_id, "text": entry.text, "edited_at": entry.at}
    elif entry.kind == "message_deleted":
        data |= {"id": entry.message_id}
    else:
        data |= entry.data
    return Event(name=EVENT_NAMES[entry.kind], data=msgspec.to_builtins(data), seq=entry.seq)


def message_document(message: Message) -> dict[str, Any]:
    """A message in REST answers, acks and `newMessage`. What it has not, such as `edited_at`, is left out."""
    document: dict[str, Any] = {
        "id": message.id,
        "seq": message.seq,
        "session_id": message.session_id,
        "from": message.sender_name,
        "user_id": message.user_id,
        "text": message.text,
        "created_at": message.created_at,
    }
    if message.client_id is not None:
        document["client_id"] = message.client_id
    if message.edited_at is not None:
        document["edited_at"] = message.edited_at
    if message.deleted:
        document["deleted"] = True
    return document


def timeline_document(entry: LogEntry) -> dict[str, Any]:
    """A line of the timeline: `{seq, kind, at, user_id, data}`."""
    data = dict(event(entry).data)
    for name in ("seq", "session_id", "user_id", "created_at"):
        data.pop(name, None)
    return {"seq": entry.seq, "kind": entry.kind, "at": entry.at, "user_id": entry.user_id, "data": data}


def renew(earlier: Event, news: Event) -> None:
    """Have an event kept in memory say what the database says once its message was edited or deleted (`news`)."""
    data = earlier.data
    if earlier.name not in ("newMessage", "messageEdited") or data.get("id") != news.data["id"]:
        return
    data["text"] = news.data.get("text", "")
    if earlier.name == "newMessage":
        data |= {"edited_at": news.data["edited_at"]} if news.name == "messageEdited" else {"deleted": True}
