"""`daily`: private rooms of Daily, which records them into its cloud.

Sources: Daily's REST API reference: rooms, meeting-tokens, recordings, presence, eject, update-permissions.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, Protocol

import aiohttp
import msgspec

from meetings.daily_api import (
    DailyApi,
    Deleted,
    Patience,
    Refusal,
    Unreadable,
    Unsure,
    check_deleted,
    gone,
    room_path,
    undo,
)
from meetings.daily_recordings import DailyRecordings
from meetings.external_ids import external_id
from meetings.provider import (
    Ability,
    Attendee,
    Pass,
    Person,
    Provider,
    ProviderFailed,
    Room,
    RoomSpec,
)

NAME: Final = "daily"
#: Until when a token lets in; who is in stays. It says what its owner may send: somebody who was muted can come in
#: again with an older one, and is muted there again.
PASS_SECONDS: Final = 3 * 60
#: After a change, in seconds: when Daily lists who was just coming in, in between, and when no older token lets in.
PERMIT_AGAIN_SECONDS: Final = (15.0, 60.0, PASS_SECONDS + 15.0)
#: What a room of Daily takes unless Daily was asked to raise it.
MAX_PEOPLE: Final = 200
#: The most connections of one person that are told of changed permissions.
MAX_CONNECTIONS: Final = 20
#: Seconds for which a room that was seen is believed to be there, and rooms that are remembered: passes for a whole
#: class look for its room once.
SEEN_SECONDS: Final = 30.0
MAX_SEEN: Final = 1_000
#: The properties of a room that :class:`RoomSpec` stands for.
_WISHES: Final = ("nbf", "exp", "max_participants", "eject_at_room_exp", "enable_recording")
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
    config: dict[str, Any] = {}


class _Token(msgspec.Struct, frozen=True):
    token: str


class _Present(msgspec.Struct, frozen=True, rename="camel"):
    id: str
    user_id: str | None = None


class _Presence(msgspec.Struct, frozen=True):
    data: list[_Present]


class Daily(DailyRecordings):
    """The provider, over the API of one Daily domain."""

    name = NAME
    abilities: frozenset[Ability] = frozenset({"record", "eject", "permit"})
    places = None
    makes_ahead = True
    pass_seconds = PASS_SECONDS
    permit_again_seconds = PERMIT_AGAIN_SECONDS

    def __init__(self, api: DailyApi) -> None:
        super().__init__(api)
        #: Rooms that were there when they were looked for, and when that was, the oldest first.
        self._seen: OrderedDict[str, float] = OrderedDict()

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
            made = await self._made_before(spec.name, properties, refused)
        except (Unsure, Unreadable):
            await undo(self._delete(spec.name))
            raise
        if made.name != spec.name or made.privacy != "private":
            # A public room lets in whoever has its address: it must not stay.
            await undo(self._delete(made.name))
            raise ProviderFailed("The video provider daily made another room than it was asked for.")
        return Room(
            provider=NAME,
            id=made.id,
            name=made.name,
            url=made.url,
            data={"url": made.url, "roomName": made.name},
        )

    async def _made_before(self, name: str, properties: dict[str, Any], refused: Refusal) -> _Room:
        """The room, where the refusal was that there is one: an earlier try made it, whose answer was lost. What was
        wished otherwise then is changed."""
        if refused.status != 400:
            raise refused
        try:
            made = await self._api.call("GET", room_path(name), _Room, again=True)
        except Refusal:
            raise refused from None
        had = made.config
        other = {key: properties.get(key) for key in _WISHES if (properties.get(key) or None) != (had.get(key) or None)}
        if not other:
            return made
        body = {"privacy": "private", "properties": other}
        return await self._api.call("POST", room_path(name), _Room, body=body, again=True)

    async def delete_room(self, room: Room) -> None:
        await self._delete(room.name)

    async def unmake_room(self, name: str) -> None:
        await self._delete(name)

    async def _delete(self, name: str) -> None:
        self._seen.pop(name, None)
        try:
            answer = await self._api.call("DELETE", room_path(name), Deleted, rate="slow", again=True)
        except Refusal as refused:
            if refused.status != 404:
                raise
        else:
            check_deleted(answer)

    async def admit(self, room: Room, person: Person, *, expires_at: datetime) -> Pass:
        """A meeting token. Daily would give one for a room that is gone, too."""
        await self._look_for(room)
        person_id = _person_id(person.user_id, person.ejected)
        properties: dict[str, Any] = {
            "room_name": room.name,  # without it, the token would open every room
            "is_owner": person.is_owner,
            # Whoever begins one there passes by everybody's consent, and nobody here would know of it.
            "enable_recording_ui": False,
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

    async def _look_for(self, room: Room) -> None:
        """Raises RoomGone."""
        if time.monotonic() - self._seen.get(room.name, -SEEN_SECONDS) < SEEN_SECONDS:
            return
        try:
            await self._api.call("GET", room_path(room.name), _Room, again=True)
        except Refusal as refused:
            if refused.status == 404:
                raise gone() from refused
            raise
        self._seen[room.name] = time.monotonic()
        self._seen.move_to_end(room.name)
        if len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)

    async def attendee(self, room: Room, person: Person, *, expires_at: datetime) -> Attendee:
        admitted = await self.admit(room, person, expires_at=expires_at)
        return Attendee(id=admitted.person_id, data={"token": admitted.token, "url": admitted.url})

    async def eject(self, room: Room, user_id: str, *, ejected: int = 0) -> None:
        """Their pass opens the room no more, either. Daily takes no ban back: let back in, they have another id."""
        body = {"user_ids": [_person_id(user_id, ejected)], "ban": True}
        path = f"{room_path(room.name)}/eject"
        try:
            await self._api.call("POST", path, dict[str, Any], body=body, rate="urgent", again=True)
        except Refusal as refused:
            if refused.status != 404:  # nobody is in the room, or it is gone
                raise

    async def permit(self, room: Room, person: Person) -> None:
        query = {"userId": _person_id(person.user_id, person.ejected), "limit": str(MAX_CONNECTIONS)}
        path = f"{room_path(room.name)}/presence"
        try:
            present = await self._api.call("GET", path, _Presence, query=query, rate="urgent", again=True)
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
            path = f"{room_path(room.name)}/update-permissions"
            await self._api.call("POST", path, dict[str, Any], body=body, rate="urgent", again=True)
        except Refusal as refused:
            if refused.status != 404:  # they have left meanwhile
                raise


def _person_id(user_id: str, ejected: int) -> str:
    return external_id(f"{user_id}\0{ejected}" if ejected else user_id)


def _permissions(person: Person) -> dict[str, Any]:
    return {"hasPresence": True, "canSend": _can_send(person), "canAdmin": False}


def _can_send(person: Person) -> bool | list[str]:
    if person.mic_allowed and person.camera_allowed:
        return True
    allowed = (["audio"] if person.mic_allowed else []) + (["video", *_SCREEN] if person.camera_allowed else [])
    return allowed or False
