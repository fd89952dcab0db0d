"""Daily's REST API as its reference has it: rooms, tokens, presence, recordings; and the webhooks that it sends.

Unknown properties are refused, as are wrong types, a missing key and a room that is not there.
"""

from __future__ import annotations

import math
import re
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import jwt
import msgspec
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Handler, Middleware

from meetings.webhooks import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from tests.standins.faults import Faults

T = TypeVar("T")

API_KEY = "the-key-of-a-daily-domain-for-tests"
DOMAIN = "school"
#: What Daily allows a second of what; everything counts for the first.
RATES = {
    "all": (20, re.compile("")),
    "slow": (2, re.compile("DELETE /v1/rooms/|GET /v1/recordings$")),
    "start": (1, re.compile("POST /v1/rooms/[^/]+/recordings/start")),
}
#: Daily signs its tokens with a secret of its own.
TOKEN_SECRET = "a secret that only Daily knows, which is long enough"
MAX_USER_ID = 36
MEDIA = {"video", "audio", "screenVideo", "screenAudio", "customVideo", "customAudio"}
ADMIN = {"participants", "streaming", "transcription"}


class Properties(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    nbf: int | None = None
    exp: int | None = None
    max_participants: int | None = None
    eject_at_room_exp: bool = False
    enable_recording: str | None = None


class NewRoom(msgspec.Struct, forbid_unknown_fields=True):
    name: str | None = None
    privacy: str = "public"
    properties: Properties = msgspec.field(default_factory=Properties)


class ChangedRoom(msgspec.Struct, forbid_unknown_fields=True):
    privacy: str | None = None
    properties: dict[str, Any] = msgspec.field(default_factory=dict)


class Permissions(msgspec.Struct, forbid_unknown_fields=True, rename="camel", omit_defaults=True):
    has_presence: bool = True
    can_send: bool | list[str] = True
    can_admin: bool | list[str] = False


class TokenProperties(msgspec.Struct, forbid_unknown_fields=True):
    room_name: str | None = None
    is_owner: bool = False
    user_name: str | None = None
    user_id: str | None = None
    nbf: int | None = None
    exp: int | None = None
    eject_at_token_exp: bool = False
    enable_recording: str | None = None
    enable_recording_ui: bool = True
    permissions: Permissions | None = None


class NewToken(msgspec.Struct, forbid_unknown_fields=True):
    properties: TokenProperties


class Start(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    type: str = "cloud"
    instance_id: str | None = None
    max_duration: int | None = None
    min_idle_time_out: int | None = None


class Stop(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    type: str = "cloud"
    instance_id: str | None = None


class Eject(msgspec.Struct, forbid_unknown_fields=True):
    ids: list[str] | None = None
    user_ids: list[str] | None = None
    ban: bool = False


class Changes(msgspec.Struct, forbid_unknown_fields=True):
    data: dict[str, Permissions]


class Refused(Exception):
    def __init__(self, status: int, kind: str, info: str) -> None:
        super().__init__(info)
        self.status, self.kind, self.info = status, kind, info


@dataclass(slots=True)
class Present:
    """Somebody in a room."""

    id: str
    user_id: str
    is_owner: bool
    can_send: bool | list[str]

    def may_send(self, kind: str) -> bool:
        return self.can_send if isinstance(self.can_send, bool) else kind in self.can_send


@dataclass(slots=True)
class RoomOfDaily:
    id: str
    name: str
    privacy: str
    properties: Properties
    present: list[Present] = field(default_factory=list)
    banned: set[str] = field(default_factory=set)
    recording: dict[str, Any] | None = None
    instance_id: str | None = None


class DailyStandin:
    """The server. `faults` says what goes wrong.

    `names_recordings` off: starting one answers without its id. `lags`: what happens from now on is in no list until
    this is off again. `stops` off: what is stopped runs on. `rate_seconds`: what comes faster than
    RATES in so many seconds is refused; 0: nothing is.
    """

    def __init__(self) -> None:
        self.faults = Faults()
        self.stops = True
        self.rate_seconds = 0.0
        self._hidden: set[str] = set()
        self._lags = False
        self._calls: dict[str, list[float]] = {}
        #: How many came too fast.
        self.refused = 0
        self.rooms: dict[str, RoomOfDaily] = {}
        self.recordings: list[dict[str, Any]] = []
        self.names_recordings = True
        self.url = ""

    @property
    def lags(self) -> bool:
        return self._lags

    @lags.setter
    def lags(self, lags: bool) -> None:
        self._lags = lags
        self._hidden.clear()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        app = web.Application(
            middlewares=[cast("Middleware", self.faults.middleware), errors_as_documented, self._check_rate]
        )
        app.add_routes(
            [
                web.post("/v1/rooms", self.create_room),
                web.get("/v1/rooms/{name}", self.get_room),
                web.post("/v1/rooms/{name}", self.update_room),
                web.delete("/v1/rooms/{name}", self.delete_room),
                web.post("/v1/meeting-tokens", self.create_token),
                web.get("/v1/rooms/{name}/presence", self.presence),
                web.post("/v1/rooms/{name}/eject", self.eject),
                web.post("/v1/rooms/{name}/update-permissions", self.update_permissions),
                web.post("/v1/rooms/{name}/recordings/start", self.start),
                web.post("/v1/rooms/{name}/recordings/stop", self.stop),
                web.get("/v1/recordings", self.list_recordings),
                web.get("/v1/recordings/{id}", self.get_recording),
                web.get("/v1/recordings/{id}/access-link", self.access_link),
                web.delete("/v1/recordings/{id}", self.delete_recording),
            ]
        )
        async with TestServer(app) as server:
            self.url = str(server.make_url("/v1"))
            try:
                yield
            finally:
                self.faults.close()

    @web.middleware
    async def _check_rate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self.rate_seconds:
            now = time.monotonic()
            for kind, (allowed, concerns) in RATES.items():
                if concerns.match(f"{request.method} {request.path}"):
                    calls = self._calls[kind] = [at for at in self._calls.get(kind, []) if now - at < self.rate_seconds]
                    if len(calls) >= allowed:
                        self.refused += 1
                        raise Refused(429, "rate-limit-error", "too many requests")
                    calls.append(now)
        return await handler(request)

    # What people do

    def join(self, name: str, token: str | None, *, after: float = 0) -> Present | None:
        """What Daily's page does with a token, so many seconds from now: in, or None."""
        room = self.rooms.get(name)
        if room is None:
            return None
        if token is None:
            return None if room.privacy == "private" else self._enter(room, Present(str(uuid.uuid4()), "", False, True))
        try:
            claims = jwt.decode(token, TOKEN_SECRET, algorithms=["HS256"])
        except jwt.InvalidTokenError:
            return None
        if claims.get("exp", math.inf) <= time.time() + after:
            return None
        if claims.get("r", name) != name or claims["ud"] in room.banned:
            return None
        return self._enter(room, Present(str(uuid.uuid4()), claims["ud"], claims["o"], claims["p"]))

    def _enter(self, room: RoomOfDaily, person: Present) -> Present:
        room.present.append(person)
        if self._lags:
            self._hidden.add(person.id)
        return person

    def end_call(self, name: str) -> None:
        """Everybody leaves, and with them whoever records."""
        room = self.rooms[name]
        room.present = []
        if room.recording is not None:
            room.recording["status"] = "processing"
            room.recording = None

    def finish(self, recording_id: str, seconds: int = 90) -> None:
        """The recording was processed."""
        for one in self.recordings:
            if one["id"] == recording_id:
                one |= {"status": "finished", "duration": seconds, "s3key": f"{DOMAIN}/{recording_id}"}

    # The API

    async def create_room(self, request: web.Request) -> web.Response:
        new = await body(request, NewRoom)
        name = new.name or uuid.uuid4().hex[:20]
        if re.search(r"[^A-Za-z0-9_-]", name) or len(name) > 128:
            raise invalid("name may only contain letters, numbers, dashes and underscores")
        if new.privacy not in ("public", "private"):
            raise invalid("privacy must be one of public, private")
        if new.properties.enable_recording not in (None, "cloud", "cloud-audio-only", "local", "raw-tracks"):
            raise invalid("enable_recording is not one of its options")
        if new.properties.max_participants is not None and not 1 <= new.properties.max_participants <= 200:
            raise invalid("max_participants must be at most 200")
        if name in self.rooms:
            raise invalid(f"a room named {name} already exists")
        self.rooms[name] = RoomOfDaily(str(uuid.uuid4()), name, new.privacy, new.properties)
        return web.json_response(self._shown(self.rooms[name]))

    def _shown(self, room: RoomOfDaily) -> dict[str, Any]:
        return {
            "id": room.id,
            "name": room.name,
            "api_created": True,
            "privacy": room.privacy,
            "url": f"https://{DOMAIN}.daily.co/{room.name}",
            "created_at": "2026-11-21T19:00:00.000Z",
            "config": msgspec.to_builtins(room.properties),
        }

    async def update_room(self, request: web.Request) -> web.Response:
        room = self._room(request)
        wishes = await body(request, ChangedRoom)
        changed = msgspec.to_builtins(room.properties) | wishes.properties
        room.properties = msgspec.convert({k: v for k, v in changed.items() if v is not None}, Properties)
        room.privacy = wishes.privacy or room.privacy
        return web.json_response(self._shown(room))

    async def get_room(self, request: web.Request) -> web.Response:
        return web.json_response(self._shown(self._room(request)))

    async def delete_room(self, request: web.Request) -> web.Response:
        room = self._room(request)
        if room.recording is not None:  # nobody says that it would survive
            room.recording["status"] = "canceled"
            room.recording = None
        self.end_call(room.name)
        del self.rooms[room.name]
        return web.json_response({"deleted": True, "name": room.name})

    async def create_token(self, request: web.Request) -> web.Response:
        wanted = (await body(request, NewToken)).properties
        if wanted.user_id is not None and len(wanted.user_id) > MAX_USER_ID:
            raise invalid("user_id is longer than 36 characters")
        if wanted.exp is not None and wanted.exp <= time.time():
            raise invalid("exp is in the past")
        if wanted.permissions is not None:
            check_permissions(wanted.permissions)
        claims = {
            "r": wanted.room_name,
            "o": wanted.is_owner,
            "u": wanted.user_name,
            "ud": wanted.user_id or "",
            "p": True if wanted.permissions is None else wanted.permissions.can_send,
            "exp": wanted.exp,
            "d": DOMAIN,
        }
        token = jwt.encode({k: v for k, v in claims.items() if v is not None}, TOKEN_SECRET, "HS256")
        return web.json_response({"token": token})

    async def presence(self, request: web.Request) -> web.Response:
        room = self._room(request)
        wanted = request.query.get("userId")
        found = [one for one in room.present if wanted in (None, one.user_id) and one.id not in self._hidden]
        data = [
            {
                "room": room.name,
                "id": one.id,
                "userId": one.user_id or None,
                "userName": None,
                "joinTime": "2026-11-21T19:00:00.000Z",
                "duration": 5,
            }
            for one in found[: int(request.query.get("limit", "100"))]
        ]
        return web.json_response({"total_count": len(data), "data": data})

    async def eject(self, request: web.Request) -> web.Response:
        room = self._room(request)
        wanted = await body(request, Eject)
        if (wanted.ids is None) == (wanted.user_ids is None):
            raise invalid("ids or user_ids is required")
        gone = [one for one in room.present if one.id in (wanted.ids or ()) or one.user_id in (wanted.user_ids or ())]
        room.present = [one for one in room.present if one not in gone]
        if wanted.ban:
            room.banned |= set(wanted.user_ids or ())
        return web.json_response({"ejectedIds": [one.id for one in gone]})

    async def update_permissions(self, request: web.Request) -> web.Response:
        room = self._room(request)
        for id, permissions in (await body(request, Changes)).data.items():
            check_permissions(permissions)
            person = next((one for one in room.present if one.id == id), None)
            if person is None and id != "*":
                raise Refused(404, "not-found", f"participant {id} is not in the room")
            if person is not None:
                person.can_send = permissions.can_send
        return web.json_response({})

    async def start(self, request: web.Request) -> web.Response:
        room = self._room(request)
        if not room.present:
            raise Refused(404, "not-found", f"room {room.name} does not seem to be hosting a call currently")
        wanted = await body(request, Start)
        if wanted.type not in ("cloud", "cloud-audio-only", "raw-tracks"):
            raise invalid("type is not one of its options")
        if wanted.instance_id is not None and str(uuid.UUID(wanted.instance_id)) != wanted.instance_id:
            raise invalid("instanceId is no UUID")
        if room.properties.enable_recording != wanted.type:
            raise invalid(f"recording is not enabled on room {room.name}")
        if room.recording is not None:
            raise invalid(f"room {room.name} has an active stream")
        room.instance_id = wanted.instance_id
        room.recording = {
            "id": str(uuid.uuid4()),
            "room_name": room.name,
            "start_ts": int(time.time()),
            "status": "in-progress",
            "max_participants": 1,
            "share_token": "x",
            "s3key": "",
        }
        self.recordings.insert(0, room.recording)
        if self._lags:
            self._hidden.add(room.recording["id"])
        return web.json_response({"recordingId": room.recording["id"]} if self.names_recordings else {})

    async def stop(self, request: web.Request) -> web.Response:
        room = self._room(request)
        wanted = await body(request, Stop)
        if room.recording is None or wanted.instance_id not in (None, room.instance_id):
            raise invalid("room has no active stream")
        if not self.stops:
            return web.json_response({})
        room.recording["status"] = "processing"
        room.recording = None
        return web.json_response({})

    async def list_recordings(self, request: web.Request) -> web.Response:
        limit = int(request.query.get("limit", "100"))
        if not 1 <= limit <= 100:
            raise invalid("limit must be at most 100")
        name = request.query.get("room_name")
        listed = [one for one in self.recordings if one["id"] not in self._hidden]
        found = [one for one in listed if name in (None, one["room_name"])]
        return web.json_response({"total_count": len(found), "data": found[:limit]})

    async def get_recording(self, request: web.Request) -> web.Response:
        return web.json_response(self._recording(request))

    async def access_link(self, request: web.Request) -> web.Response:
        recording = self._recording(request)
        seconds = int(request.query.get("valid_for_secs", "3600"))
        if not 1 <= seconds <= 43_200:
            raise invalid("valid_for_secs must be at most 43200")
        if recording["status"] != "finished":
            raise Refused(404, "not-found", "the recording is not finished")
        link = f"https://recordings.example/{recording['id']}?signature=x"
        return web.json_response({"download_link": link, "expires": int(time.time()) + seconds})

    async def delete_recording(self, request: web.Request) -> web.Response:
        recording = self._recording(request)
        self.recordings.remove(recording)
        return web.json_response({"deleted": True, "id": recording["id"]})

    def _room(self, request: web.Request) -> RoomOfDaily:
        room = self.rooms.get(request.match_info["name"])
        if room is None:
            raise Refused(404, "not-found", f"room {request.match_info['name']} not found")
        return room

    def _recording(self, request: web.Request) -> dict[str, Any]:
        for one in self.recordings:
            if one["id"] == request.match_info["id"]:
                return one
        raise Refused(404, "not-found", "recording not found")


def invalid(info: str) -> Refused:
    return Refused(400, "invalid-request-error", info)


def check_permissions(permissions: Permissions) -> None:
    if isinstance(permissions.can_send, list) and not set(permissions.can_send) <= MEDIA:
        raise invalid("canSend has what cannot be sent")
    if isinstance(permissions.can_admin, list) and not set(permissions.can_admin) <= ADMIN:
        raise invalid("canAdmin has what cannot be done")


async def body(request: web.Request, shape: type[T]) -> T:
    raw = await request.read()
    try:
        msgspec.json.decode(raw)
    except msgspec.DecodeError:
        raise Refused(400, "json-parsing-error", "cannot parse the body") from None
    try:
        return msgspec.json.decode(raw, type=shape)
    except msgspec.ValidationError as error:
        raise invalid(str(error)) from None


@web.middleware
async def errors_as_documented(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        header = request.headers.get("Authorization", "")
        if not header.startswith("Bearer "):
            raise Refused(400, "authorization-header-error", "bad Authorization header format")
        if header != f"Bearer {API_KEY}":
            raise Refused(401, "authentication-error", "the API key is not valid")
        response: web.StreamResponse = await handler(request)
    except Refused as refused:
        return web.json_response({"error": refused.kind, "info": refused.info}, status=refused.status)
    return response


def delivery(
    secret: bytes, kind: str, payload: dict[str, Any], *, id: str | None = None, at: float | None = None
) -> tuple[dict[str, str], bytes]:
    """A webhook's headers and body."""
    sent_at = time.time() if at is None else at
    envelope = {
        "version": "1.0.0",
        "type": kind,
        "id": id or str(uuid.uuid4()),
        "payload": payload,
        "event_ts": sent_at,
    }
    content = msgspec.json.encode(envelope)
    timestamp = str(int(sent_at))
    return {TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: sign(secret, timestamp, content)}, content
