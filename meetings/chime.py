"""`chime`: meetings of the Amazon Chime SDK, recorded into a bucket of one's own.

A meeting ends by itself five minutes after the last person left: it is made when somebody comes, and made anew, under
another name, when it is gone. Sources: botocore's service model `chime-sdk-meetings` (2021-07-15), the Amazon Chime
SDK's developer guide. Credentials come from where AWS' clients look for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Any, Final, Protocol

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import ClientError

from meetings.chime_api import GONE, code_of, plain, request_token, text, understood
from meetings.chime_recordings import ChimeRecordings
from meetings.external_ids import external_id
from meetings.provider import (
    Ability,
    Attendee,
    Pass,
    Person,
    Provider,
    Room,
    RoomGone,
    RoomSpec,
)

NAME: Final = "chime"
#: Chime's own passes last as long as the meeting, unless their attendee is deleted.
PASS_SECONDS: Final = 12 * 60 * 60
#: The service's default quota of attendees in a meeting, and the most of `MeetingFeatures`.
MAX_PEOPLE: Final = 250
#: Seconds for one try, and for an act with its retries. botocore retries what may be done twice.
TRY_SECONDS: Final = 5.0
ACT_SECONDS: Final = 10.0
MAX_TRIES: Final = 3
#: Tries of a CreateMeeting that met another for the same meeting, and the seconds between them; and of a
#: CreateAttendee whose attendee was deleted by another.
MAX_CONFLICTS: Final = 3
CONFLICT_SECONDS: Final = 0.2
#: Pages of attendees that are looked through for one: more than MAX_PEOPLE are never there.
MAX_PAGES: Final = 4
PAGE_SIZE: Final = 99


class Options(Protocol):
    """The settings that this provider reads."""

    @property
    def chime_region(self) -> str | None: ...
    @property
    def chime_endpoint_url(self) -> str | None: ...
    @property
    def chime_recordings_bucket(self) -> str | None: ...


def problem(options: Options) -> str | None:
    """What is missing, as a sentence."""
    if options.chime_region is None:
        return "CHIME_REGION is not set; it is the AWS region that makes the meetings, such as eu-central-1."
    return None


@asynccontextmanager
async def opened(
    options: Options, *, try_seconds: float = TRY_SECONDS, act_seconds: float = ACT_SECONDS
) -> AsyncIterator[Provider]:
    """The provider, with its clients; `problem(options)` is None."""
    assert options.chime_region is not None, "it was checked"
    session = get_session()
    config = AioConfig(
        connect_timeout=try_seconds,
        read_timeout=try_seconds,
        retries={"mode": "standard", "total_max_attempts": MAX_TRIES},
    )
    # Links are signed as every region takes it; behind an endpoint of one's own, a bucket has no host name.
    addressing = "auto" if options.chime_endpoint_url is None else "path"
    of_objects = AioConfig(signature_version="s3v4", s3={"addressing_style": addressing})
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(
                session.create_client(
                    service,
                    region_name=options.chime_region,
                    endpoint_url=options.chime_endpoint_url,
                    config=config.merge(of_objects) if service == "s3" else config,
                )
            )
            for service in ("chime-sdk-meetings", "chime-sdk-media-pipelines", "s3")
        ]
        yield Chime(
            meetings=clients[0],
            pipelines=clients[1],
            objects=clients[2],
            region=options.chime_region,
            bucket=options.chime_recordings_bucket,
            act_seconds=act_seconds,
        )


class Chime(ChimeRecordings):
    """The provider. Without a `bucket` it does not record."""

    name = NAME
    places = None
    #: An empty meeting ends by itself after five minutes.
    makes_ahead = False
    pass_seconds = PASS_SECONDS
    permit_again_seconds = ()

    def __init__(
        self, *, meetings: Any, pipelines: Any, objects: Any, region: str, bucket: str | None, act_seconds: float
    ) -> None:
        super().__init__(
            meetings=meetings, pipelines=pipelines, objects=objects, bucket=bucket, act_seconds=act_seconds
        )
        self._region = region

    @property
    def abilities(self) -> frozenset[Ability]:
        return frozenset({"eject", "permit"} if self._bucket is None else {"record", "eject", "permit"})

    async def make_room(self, spec: RoomSpec) -> Room:
        wanted: dict[str, Any] = {
            "ClientRequestToken": request_token("meeting", spec.name),
            "MediaRegion": self._region,
            "ExternalMeetingId": spec.name,
        }
        if spec.max_people is not None:
            wanted["MeetingFeatures"] = {"Attendee": {"MaxCount": max(1, min(spec.max_people, MAX_PEOPLE))}}
        async with self._act():
            made = await self._create_meeting(wanted)
        with understood():
            meeting = plain(made["Meeting"])
            meeting_id = text(meeting["MeetingId"])
            text(meeting["MediaPlacement"]["AudioHostUrl"])
        return Room(provider=NAME, id=meeting_id, name=spec.name, data={"Meeting": meeting})

    async def _create_meeting(self, wanted: dict[str, Any]) -> Any:
        for tries_left in range(MAX_CONFLICTS - 1, -1, -1):
            try:
                return await self._meetings.create_meeting(**wanted)
            except ClientError as error:
                if code_of(error) != "ConflictException" or not tries_left:
                    raise
            await asyncio.sleep(CONFLICT_SECONDS)  # somebody makes the same one: next time it answers that
        raise AssertionError("the last try returns or raises")

    async def delete_room(self, room: Room) -> None:
        try:
            async with self._act():
                await self._meetings.delete_meeting(MeetingId=room.id)
        except RoomGone:
            return

    async def unmake_room(self, name: str) -> None:
        await self.delete_room(await self.make_room(RoomSpec(name=name)))  # only so it says which one it is

    async def admit(self, room: Room, person: Person, *, expires_at: datetime) -> Pass:
        """A pass lasts as long as the meeting, whatever `expires_at` says: who is to be kept out is ejected."""
        attendee = await self._attendee(room, person)
        return Pass(
            provider=NAME,
            token=attendee["JoinToken"],
            url=None,
            expires_at=expires_at,
            person_id=external_id(person.user_id),
            data={"Meeting": room.data.get("Meeting", {"MeetingId": room.id}), "Attendee": attendee},
        )

    async def attendee(self, room: Room, person: Person, *, expires_at: datetime) -> Attendee:
        attendee = await self._attendee(room, person)
        return Attendee(id=attendee["AttendeeId"], data=attendee)

    async def _attendee(self, room: Room, person: Person) -> dict[str, Any]:
        capabilities = _capabilities(person)
        async with self._act():
            for tries_left in range(MAX_CONFLICTS - 1, -1, -1):
                # A second one of the same person is the first, capabilities and all. NotFound: the meeting is gone.
                made = await self._meetings.create_attendee(
                    MeetingId=room.id, ExternalUserId=external_id(person.user_id), Capabilities=capabilities
                )
                with understood():
                    attendee = plain(made["Attendee"])
                    text(attendee["JoinToken"])
                    attendee_id = text(attendee["AttendeeId"])
                if attendee.get("Capabilities", capabilities) == capabilities:
                    return attendee
                try:
                    changed = await self._meetings.update_attendee_capabilities(
                        MeetingId=room.id, AttendeeId=attendee_id, Capabilities=capabilities
                    )
                except ClientError as error:
                    if code_of(error) not in GONE or not tries_left:
                        raise
                    continue  # ejected just now: the meeting goes on, and they are made anew
                attendee["Capabilities"] = plain(changed.get("Attendee", {})).get("Capabilities", capabilities)
                return attendee
        raise AssertionError("the last try returns or raises")

    async def eject(self, room: Room, user_id: str, *, ejected: int = 0) -> None:
        try:
            async with self._act():
                attendee_id = await self._find_attendee(room, user_id)
                if attendee_id is not None:
                    await self._meetings.delete_attendee(MeetingId=room.id, AttendeeId=attendee_id)
        except RoomGone:
            return

    async def permit(self, room: Room, person: Person) -> None:
        try:
            async with self._act():
                attendee_id = await self._find_attendee(room, person.user_id)
                if attendee_id is not None:
                    await self._meetings.update_attendee_capabilities(
                        MeetingId=room.id, AttendeeId=attendee_id, Capabilities=_capabilities(person)
                    )
        except RoomGone:
            return

    async def _find_attendee(self, room: Room, user_id: str) -> str | None:
        person_id = external_id(user_id)
        more: dict[str, str] = {}
        for _ in range(MAX_PAGES):
            page = await self._meetings.list_attendees(MeetingId=room.id, MaxResults=PAGE_SIZE, **more)
            with understood():
                for one in page["Attendees"]:
                    if one["ExternalUserId"] == person_id:
                        return text(one["AttendeeId"])
            if not page.get("NextToken"):
                return None
            more = {"NextToken": page["NextToken"]}
        return None


def _capabilities(person: Person) -> dict[str, str]:
    """What is taken is sending; everybody hears and sees. A shared screen goes with the camera."""
    camera = "SendReceive" if person.camera_allowed else "Receive"
    return {"Audio": "SendReceive" if person.mic_allowed else "Receive", "Video": camera, "Content": camera}
