"""Every event that clients may send in a session: its payload and its act."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from domain.live import Live
from handlers.encounters import membership, messages, participants, recordings, sessions, signals, whiteboard
from handlers.encounters.payloads import InSession
from realtime.connection import Answer, Connection

#: Acts on a decoded payload. What it raises is said in the ack.
Act = Callable[[Live, Connection, Any], Answer]

EVENTS: Final[Mapping[str, tuple[type[InSession], Act]]] = {
    "joinSession": (membership.JoinSession, membership.join),
    "leaveSession": (InSession, membership.leave),
    "sendMessage": (messages.SendMessage, messages.send),
    "editMessage": (messages.EditMessage, messages.edit),
    "deleteMessage": (messages.DeleteMessage, messages.delete),
    "pinMessage": (messages.PinMessage, messages.pin),
    "react": (messages.React, messages.react),
    "typing": (messages.SetTyping, messages.set_typing),
    "markRead": (messages.MarkRead, messages.mark_read),
    "raiseHand": (participants.RaiseHand, participants.raise_hand),
    "setPermissions": (participants.SetPermissions, participants.set_permissions),
    "kick": (participants.Kick, participants.kick),
    "admit": (participants.Admit, participants.admit),
    "signal": (signals.Signal, signals.send),
    "setSession": (sessions.SetSession, sessions.configure),
    "endSession": (InSession, sessions.end),
    "startRecording": (InSession, recordings.start),
    "stopRecording": (recordings.StopRecording, recordings.stop),
    "consent": (recordings.Consent, recordings.consent),
    "whiteboard": (whiteboard.Draw, whiteboard.draw),
    "getWhiteboard": (whiteboard.GetWhiteboard, whiteboard.show),
    "clearWhiteboard": (InSession, whiteboard.clear),
}
