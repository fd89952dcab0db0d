"""What every video provider does, the values it speaks in, and how it fails.

::

    ProviderError
    ├── ProviderFailed        it answered, and not with what was asked of it
    │   ├── RoomGone          the room is not there any more: make another one
    │   ├── MeetingEmpty      nobody is in the room, so that there is nothing to record
    │   ├── AlreadyRecording  the room is being recorded
    │   ├── RecordingRefused  it does not record this room: nothing was begun
    │   ├── NotRecording      nothing records the room, or there is no such recording
    │   └── NotSupported      this provider has no such act: see `Provider.abilities`
    └── ProviderAway          it cannot be reached, is too slow or has too much to do: later, perhaps

Every error has a stable ``code`` for programs and a sentence for people, which never holds a key or a token.
Rooms are named by us: a name is made of `[a-zA-Z0-9_-]`, is 2 to :data:`MAX_NAME_CHARACTERS` long, and serves
for one room only. Whoever needs another room takes another name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Final, Literal, Protocol

#: Chime takes 64 characters; Daily at times counts its own domain in, and takes 41 of both.
MAX_NAME_CHARACTERS: Final = 64
#: What Daily and S3 let a link live at most, in seconds: twelve hours.
MAX_LINK_SECONDS: Final = 43_200
DEFAULT_LINK_SECONDS: Final = 3_600

_NAME: Final = re.compile(rf"[a-zA-Z0-9_-]{{2,{MAX_NAME_CHARACTERS}}}")

#: What a provider can do besides letting people in. `record`: it records by itself; without it the host's browser
#: does, and uploads. `eject`: it takes somebody out of a running meeting. `permit`: it mutes somebody there.
Ability = Literal["record", "eject", "permit"]
RecordingStatus = Literal["in-progress", "processing", "finished", "failed"]


class ProviderError(Exception):
    """A provider did not do what it was asked for. `retry_after`: seconds, where it said so."""

    default_code: ClassVar[str] = "provider_failed"

    def __init__(self, message: str, *, code: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.retry_after = retry_after


class ProviderFailed(ProviderError):
    """It answered, and not with what was asked of it. The same again brings the same."""


class RoomGone(ProviderFailed):
    """The room is not there any more."""

    default_code = "room_gone"


class MeetingEmpty(ProviderFailed):
    """Nobody is in the room."""

    default_code = "meeting_empty"


class AlreadyRecording(ProviderFailed):
    """The room is being recorded."""

    default_code = "already_recording"


class RecordingRefused(ProviderFailed):
    """It does not record this room, and has begun nothing."""

    default_code = "recording_refused"


class NotRecording(ProviderFailed):
    """Nothing records the room, or there is no such recording."""

    default_code = "not_recording"


class NotSupported(ProviderFailed):
    """This provider has no such act."""

    default_code = "not_supported"


class ProviderAway(ProviderError):
    """It cannot be reached, is too slow or has too much to do. The same may succeed later."""

    default_code = "provider_away"


@dataclass(frozen=True, kw_only=True, slots=True)
class RoomSpec:
    """The room that is wanted. It opens and closes at these times, where given; `max_people` None: as many as come."""

    name: str
    max_people: int | None = None
    opens_at: datetime | None = None
    closes_at: datetime | None = None
    recorded: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"a room is called by 2 to {MAX_NAME_CHARACTERS} of a-z, A-Z, 0-9, _ and -")


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """A room that was made. `id` is the provider's, `data` what it told of it: JSON, to be stored with the room.

    Members see `data`; it holds nothing that lets anybody in.
    """

    provider: str
    id: str
    name: str
    url: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """Who comes. The owner may do in the meeting what its provider lets a host do. `ejected`: how often they were put
    out of this room, and let back in."""

    user_id: str
    name: str
    is_owner: bool = False
    mic_allowed: bool = True
    camera_allowed: bool = True
    ejected: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Pass:
    """What lets one person into one room until `expires_at`.

    `token` None: the provider asks for none. `person_id` is what the provider calls the person. `data` is what a
    client needs besides. All of it but `person_id` is secret.
    """

    provider: str
    token: str | None = field(repr=False)
    url: str | None = field(repr=False)
    expires_at: datetime
    person_id: str
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Attendee:
    """A person as a provider registered them for a room; the same again is the same one."""

    id: str
    data: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class StartedRecording:
    """A recording that has begun. `recording_id` None: the provider names it later."""

    recording_id: str | None
    started_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordingKey:
    """What a recording is found by: the UUID that it was started with, ours, and the provider's id once it is known."""

    instance_id: str
    recording_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """A recording as its provider has it."""

    id: str
    status: RecordingStatus
    started_at: datetime | None = None
    duration_seconds: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """Where a recording is read until `expires_at`, by anybody."""

    url: str = field(repr=False)
    expires_at: datetime


class Provider(Protocol):
    """One provider. Every act raises ProviderAway and ProviderFailed; those below say which others they raise.

    An act that fails leaves nothing half done, as far as the provider can be reached to undo it. An act that one
    of :data:`Ability` stands for raises NotSupported where the provider has it not.
    """

    @property
    def name(self) -> str:
        """As MEETING_PROVIDER has it."""
        ...

    @property
    def abilities(self) -> frozenset[Ability]: ...

    @property
    def places(self) -> int | None:
        """People whom a room takes, where that is for us to count; None where the provider does."""
        ...

    @property
    def makes_ahead(self) -> bool:
        """Whether a room is made when its lesson is planned: it is there until then, and making it may fail."""
        ...

    @property
    def pass_seconds(self) -> int:
        """How long a pass should open its room: longer than anybody comes and goes, or no longer than it must, where
        nothing but its end keeps somebody out."""
        ...

    @property
    def permit_again_seconds(self) -> Sequence[float]:
        """When to `permit` again, counted from the change: a pass of before may let somebody in with what it says, and
        who has just come in may not be seen yet. None where permissions are kept by person."""
        ...

    async def make_room(self, spec: RoomSpec) -> Room:
        """The room of that name; made by an earlier call that seemed to have failed, it is the same."""
        ...

    async def delete_room(self, room: Room) -> None:
        """End the meeting for everybody. A room that is not there any more counts as deleted."""
        ...

    async def unmake_room(self, name: str) -> None:
        """Have no room of that name, which `make_room` may have made, and may not."""
        ...

    async def admit(self, room: Room, person: Person, *, expires_at: datetime) -> Pass:
        """A pass for this person and this room alone. Raises RoomGone where the provider can tell."""
        ...

    async def attendee(self, room: Room, person: Person, *, expires_at: datetime) -> Attendee:
        """Register a person. Raises RoomGone where the provider can tell."""
        ...

    async def eject(self, room: Room, user_id: str, *, ejected: int = 0) -> None:
        """`eject`: take somebody out, who was `ejected` so often before; not there: nothing happens. Passes from before
        are worth nothing; giving none is left to who gives them."""
        ...

    async def permit(self, room: Room, person: Person) -> None:
        """`permit`: give or take microphone and camera in the running meeting. Not there: nothing happens."""
        ...

    async def start_recording(self, room: Room, instance_id: str) -> StartedRecording:
        """`record`: record the room, under a new UUID of the caller's.

        Raises RoomGone, MeetingEmpty, AlreadyRecording, RecordingRefused: then nothing was begun. After any other
        failure something may run, until it is stopped.
        """
        ...

    async def stop_recording(self, room: Room, key: RecordingKey) -> None:
        """`record`: end a recording, which then is processed. Raises NotRecording: it does not run, or not yet."""
        ...

    async def find_recording(
        self,
        room: Room,
        key: RecordingKey,
        *,
        since: datetime,
        until: datetime | None = None,
        others: Collection[str] = (),
    ) -> Recording | None:
        """`record`: a recording as its provider has it; None where it has none.

        One whose id is not known is the only one of the room that began at `since` or later, before what was asked for
        at `until`, and is none of `others`.
        """
        ...

    async def recording_link(self, room: Room, key: RecordingKey, *, seconds: int = DEFAULT_LINK_SECONDS) -> Link:
        """`record`: a link to a finished recording, for 1 to MAX_LINK_SECONDS. Raises NotRecording."""
        ...

    async def delete_recording(self, room: Room, key: RecordingKey) -> None:
        """`record`: delete a recording and all that there is of it. One that is not there counts as deleted."""
        ...


def unsupported(provider: str, act: str) -> NotSupported:
    """The refusal of an act that `provider` does not have."""
    return NotSupported(f"The video provider {provider} cannot {act}.")


def link_seconds(seconds: int) -> int:
    """`seconds` within what a link may live."""
    return max(1, min(seconds, MAX_LINK_SECONDS))


class WithoutRecording:
    """The acts of `record` for providers that do not have it: the host's browser records."""

    name: str

    async def start_recording(self, room: Room, instance_id: str) -> StartedRecording:
        raise unsupported(self.name, "record")

    async def stop_recording(self, room: Room, key: RecordingKey) -> None:
        raise unsupported(self.name, "record")

    async def find_recording(
        self,
        room: Room,
        key: RecordingKey,
        *,
        since: datetime,
        until: datetime | None = None,
        others: Collection[str] = (),
    ) -> Recording | None:
        raise unsupported(self.name, "record")

    async def recording_link(self, room: Room, key: RecordingKey, *, seconds: int = DEFAULT_LINK_SECONDS) -> Link:
        raise unsupported(self.name, "record")

    async def delete_recording(self, room: Room, key: RecordingKey) -> None:
        raise unsupported(self.name, "record")
