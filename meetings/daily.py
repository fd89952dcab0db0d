"""`daily`: private rooms of Daily, which records them into its cloud.

Sources: Daily's REST API reference: rooms, meeting-tokens, recordings, presence, eject, update-permissions.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final, Protocol
from urllib.parse import quote

import aiohttp
import msgspec

from meetings.daily_api import DailyApi, Patience, Refusal, Unreadable, Unsure
from meetings.external_ids import external_id
from meetings.provider import (
    DEFAULT_LINK_SECONDS,
    Ability,
    AlreadyRecording,
    Attendee,
    Link,
    NotRecording,
    Pass,
    Person,
    Provider,
    ProviderError,
    ProviderFailed,
    Recording,
    RecordingStatus,
    Room,
    RoomGone,
    RoomSpec,
    StartedRecording,
    link_seconds,
)

NAME: Final = "daily"
#: Until when a token lets in; who is in stays. It says what its owner may send: somebody who was muted could come in
#: again with an older one, and speak.
PASS_SECONDS: Final = 3 * 60
#: What a room of Daily takes unless Daily was asked to raise it.
MAX_PEOPLE: Final = 200
#: The most recordings of one room that are looked at, the newest: a page of Daily's.
MAX_RECORDINGS: Final = 100
#: Seconds that a recording may last, and that it goes on in an empty room.
MAX_RECORDING_SECONDS: Final = 6 * 60 * 60
IDLE_SECONDS: Final = 300
#: The most connections of one person that are told of changed permissions.
MAX_CONNECTIONS: Final = 20
#: Seconds that it may take to take back what failed half-way.
UNDO_SECONDS: Final = 2.0

_STATUS: Final[dict[str, RecordingStatus]] = {
    "finished": "finished",
    "in-progress": "in-progress",
    "canceled": "failed",
}
_SCREEN: Final = ("screenVideo", "screenAudio")


class Options(Protocol):
    """The settings that this provider reads."""

    @property
    def daily_api_key(self) -> str | None: ...
    @property
    def daily_api_url(self) -> str: ...


def problem(options: Options) -> str | None:
    """What is missing, as a sentence."""
    if options.daily_api_key is None:
        return "DAILY_API_KEY is not set; Daily's dashboard shows it under Developers."
    return None


@asynccontextmanager
async def opened(options: Options, patience: Patience = Patience()) -> AsyncIterator[Provider]:  # noqa: B008
    """The provider, with its connections; `problem(options)` is None."""
    assert options.daily_api_key is not None, "it was checked"
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield Daily(DailyApi(session, options.daily_api_url, options.daily_api_key, patience))


class _Room(msgspec.Struct, frozen=True):
    id: str
    name: str
    url: str
    privacy: str


class _Deleted(msgspec.Struct, frozen=True):
    deleted: bool


class _Token(msgspec.Struct, frozen=True):
    token: str


class _Started(msgspec.Struct, frozen=True, rename="camel"):
    recording_id: str | None = None


class _Recording(msgspec.Struct, frozen=True):
    id: str
    status: str
    start_ts: float | None = None
    duration: float | None = None
    room_name: str | None = None


class _Recordings(msgspec.Struct, frozen=True):
    data: list[_Recording]


class _Link(msgspec.Struct, frozen=True):
    download_link: str
    expires: float


class _Present(msgspec.Struct, frozen=True, rename="camel"):
    id: str
    user_id: str | None = None


class _Presence(msgspec.Struct, frozen=True):
    data: list[_Present]


class Daily:
    """The provider, over the API of one Daily domain."""

    name = NAME
    abilities: frozenset[Ability] = frozenset({"record", "eject", "permit"})
    pass_seconds = PASS_SECONDS

    def __init__(self, api: DailyApi) -> None:
        self._api = api

    async def make_room(self, spec: RoomSpec) -> Room:
        properties: dict[str, Any] = {"eject_at_room_exp": spec.closes_at is not None}
        if spec.max_people is not None:
            properties["max_participants"] = min(spec.max_people, MAX_PEOPLE)
        if spec.opens_at is not None:
            properties["nbf"] = int(spec.opens_at.timestamp())
        if spec.closes_at is not None:
            properties["exp"] = int(spec.closes_at.timestamp())
        if spec.recorded:
            properties["enable_recording"] = "cloud"
        body = {"name": spec.name, "privacy": "private", "properties": properties}
        try:
            made = await self._api.call("POST", "/rooms", _Room, body=body, again=True)
        except Refusal as refused:
            made = await self._made_before(spec.name, refused)
        except (Unsure, Unreadable):
            await _undo(self._delete(spec.name))
            raise
        if made.name != spec.name or made.privacy != "private":
            # A public room lets in whoever has its address: it must not stay.
            await _undo(self._delete(made.name))
            raise ProviderFailed("The video provider daily made another room than it was asked for.")
        return Room(
            provider=NAME,
            id=made.id,
            name=made.name,
            url=made.url,
            data={"url": made.url, "roomName": made.name},
        )

    async def _made_before(self, name: str, refused: Refusal) -> _Room:
        """The room, where the refusal was that there is one: an earlier try made it, whose answer was lost."""
        if refused.status != 400:
            raise refused
        try:
            return await self._api.call("GET", _room(name), _Room, again=True)
        except Refusal:
            raise refused from None

    async def delete_room(self, room: Room) -> None:
        await self._delete(room.name)

    async def _delete(self, name: str) -> None:
        try:
            answer = await self._api.call("DELETE", _room(name), _Deleted, rate="slow", again=True)
        except Refusal as refused:
            if refused.status != 404:
                raise
        else:
            _check_deleted(answer)

    async def admit(self, room: Room, person: Person, *, expires_at: datetime) -> Pass:
        """A meeting token. Daily gives one for a room that is gone, too; then its page says so."""
        person_id = external_id(person.user_id)
        properties: dict[str, Any] = {
            "room_name": room.name,  # without it, the token would open every room
            "is_owner": person.is_owner,
            "user_id": person_id,
            "exp": int(expires_at.timestamp()),
            "eject_at_token_exp": False,
        }
        if person.name:
            properties["user_name"] = person.name
        if not person.is_owner:
            properties["permissions"] = _permissions(person)
        made = await self._api.call("POST", "/meeting-tokens", _Token, body={"properties": properties}, again=True)
        if not made.token:
            raise ProviderFailed("The video provider daily gave no token.")
        return Pass(
            provider=NAME,
            token=made.token,
            url=room.url,
            expires_at=expires_at,
            person_id=person_id,
            data={"roomName": room.name},
        )

    async def attendee(self, room: Room, person: Person, *, expires_at: datetime) -> Attendee:
        admitted = await self.admit(room, person, expires_at=expires_at)
        return Attendee(id=admitted.person_id, data={"token": admitted.token, "url": admitted.url})

    async def eject(self, room: Room, user_id: str) -> None:
        """Their pass opens the room no more, either, and no new one does: Daily takes no ban back."""
        body = {"user_ids": [external_id(user_id)], "ban": True}
        try:
            await self._api.call("POST", f"{_room(room.name)}/eject", dict[str, Any], body=body, again=True)
        except Refusal as refused:
            if refused.status != 404:  # nobody is in the room, or it is gone
                raise

    async def permit(self, room: Room, person: Person) -> None:
        query = {"userId": external_id(person.user_id), "limit": str(MAX_CONNECTIONS)}
        try:
            present = await self._api.call("GET", f"{_room(room.name)}/presence", _Presence, query=query, again=True)
        except Refusal as refused:
            if refused.status == 404:
                return
            raise
        theirs = [one.id for one in present.data if one.user_id == query["userId"]]
        if not theirs:
            return
        changes = {"canSend": _can_send(person)}
        body = {"data": dict.fromkeys(theirs, changes)}
        try:
            await self._api.call(
                "POST", f"{_room(room.name)}/update-permissions", dict[str, Any], body=body, again=True
            )
        except Refusal as refused:
            if refused.status != 404:  # they have left meanwhile
                raise

    async def start_recording(self, room: Room) -> StartedRecording:
        instance_id = str(uuid.uuid4())
        body = {
            "type": "cloud",
            "instanceId": instance_id,
            "maxDuration": MAX_RECORDING_SECONDS,
            "minIdleTimeOut": IDLE_SECONDS,
        }
        path = f"{_room(room.name)}/recordings/start"
        started_at = datetime.now(UTC)
        try:
            started = await self._api.call("POST", path, _Started, body=body, rate="recording", again=False)
        except (Unsure, Unreadable):
            await _undo(self.stop_recording(room, instance_id))
            raise
        except Refusal as refused:
            if refused.status == 404:
                raise _gone() from refused
            # Daily's words for why are not fixed, its list of recordings is.
            if refused.status == 400 and any(one.status == "in-progress" for one in await self.recordings(room, ())):
                raise AlreadyRecording("This room is being recorded.") from refused
            raise
        return StartedRecording(
            instance_id=instance_id,
            recording_id=started.recording_id or await self._running(room, started_at),
            started_at=started_at,
        )

    async def _running(self, room: Room, since: datetime) -> str | None:
        """The recording that was just started, where Daily did not name it; None where it is not listed yet."""
        try:
            listed = await self.recordings(room, ())
        except ProviderError:
            return None  # it runs; a webhook or a later look names it
        running = [one for one in listed if one.status == "in-progress"]
        fresh = [one for one in running if one.started_at is None or one.started_at >= _whole_second(since)]
        return fresh[0].id if len(fresh) == 1 else None

    async def stop_recording(self, room: Room, instance_id: str) -> None:
        path = f"{_room(room.name)}/recordings/stop"
        body = {"instanceId": instance_id}
        try:
            await self._api.call("POST", path, dict[str, Any], body=body, rate="recording", again=True)
        except Refusal as refused:
            if refused.status in (400, 404):
                raise NotRecording("Nothing records this room.") from refused
            raise

    async def recordings(self, room: Room, known: Sequence[str]) -> Sequence[Recording]:
        query = {"room_name": room.name, "limit": str(MAX_RECORDINGS)}
        listed = await self._api.call("GET", "/recordings", _Recordings, query=query, rate="slow", again=True)
        return [_recording(one) for one in listed.data if one.room_name in (None, room.name)]

    async def recording_link(self, room: Room, recording_id: str, *, seconds: int = DEFAULT_LINK_SECONDS) -> Link:
        query = {"valid_for_secs": str(link_seconds(seconds))}
        try:
            link = await self._api.call(
                "GET", f"{_path('/recordings', recording_id)}/access-link", _Link, query=query, again=True
            )
        except Refusal as refused:
            if refused.status == 404:
                raise _no_recording() from refused
            raise
        expires_at = _instant(link.expires)
        if expires_at is None or not link.download_link.startswith(("https://", "http://")):
            raise ProviderFailed("The video provider daily gave a link that leads nowhere.")
        return Link(url=link.download_link, expires_at=expires_at)

    async def delete_recording(self, room: Room, recording_id: str) -> None:
        try:
            answer = await self._api.call(
                "DELETE", _path("/recordings", recording_id), _Deleted, rate="slow", again=True
            )
        except Refusal as refused:
            if refused.status != 404:
                raise
        else:
            _check_deleted(answer)


async def _undo(act: Coroutine[Any, Any, None]) -> None:
    """Try to take back what may have been done; who asked for it is not kept waiting."""
    with contextlib.suppress(ProviderError, TimeoutError):
        async with asyncio.timeout(UNDO_SECONDS):
            await act


def _check_deleted(answer: _Deleted) -> None:
    if not answer.deleted:
        raise ProviderFailed("The video provider daily did not delete what it was asked to.")


def _room(name: str) -> str:
    return _path("/rooms", name)


def _path(collection: str, id: str) -> str:
    return f"{collection}/{quote(id, safe='')}"


def _permissions(person: Person) -> dict[str, Any]:
    return {"hasPresence": True, "canSend": _can_send(person), "canAdmin": False}


def _can_send(person: Person) -> bool | list[str]:
    if person.mic_allowed and person.camera_allowed:
        return True
    allowed = (["audio"] if person.mic_allowed else []) + (["video", *_SCREEN] if person.camera_allowed else [])
    return allowed or False


def _recording(one: _Recording) -> Recording:
    return Recording(
        id=one.id,
        status=_STATUS.get(one.status, "processing"),
        started_at=None if one.start_ts is None else _instant(one.start_ts),
        duration_seconds=None if one.duration is None else max(0, round(one.duration)),
    )


def _instant(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _whole_second(at: datetime) -> datetime:
    """Daily's times have no fractions, and its clock is its own: a second's grace."""
    return datetime.fromtimestamp(int(at.timestamp()) - 1, UTC)


def _gone() -> RoomGone:
    return RoomGone("The video provider daily does not have this room any more.")


def _no_recording() -> NotRecording:
    return NotRecording("The video provider daily does not have this recording.")
