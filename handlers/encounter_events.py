"""What clients send over Socket.IO: the payload of each event, as a typed struct."""

from __future__ import annotations

import msgspec


class InSession(msgspec.Struct, kw_only=True):
    session_id: str


class JoinSession(InSession):
    last_seq: int | None = None


class SendMessage(InSession):
    text: str
    client_id: str | None = None


class EditMessage(InSession):
    id: str
    text: str


class DeleteMessage(InSession):
    id: str


class SetTyping(InSession):
    typing: bool


class MarkRead(InSession):
    seq: int


class RaiseHand(InSession):
    raised: bool


class SetPermissions(InSession):
    user_id: str
    mic_allowed: bool | None = None
    camera_allowed: bool | None = None


class Kick(InSession):
    user_id: str


class RefreshAuth(msgspec.Struct, kw_only=True):
    token: str
