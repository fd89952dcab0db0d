"""`chime`: meetings of the Amazon Chime SDK, recorded into a bucket of one's own.

A meeting ends by itself five minutes after the last person left: it is made when somebody comes, and made anew, under
another name, when it is gone. A recording is a capture pipeline, which writes pieces of five seconds, and a
concatenation pipeline, which waits for its end and writes one file. Sources: botocore's service models
`chime-sdk-meetings` and `chime-sdk-media-pipelines` (2021-07-15), the Amazon Chime SDK's developer guide.
Credentials come from where AWS' clients look for them.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError
from botocore.parsers import ResponseParserError

from meetings.external_ids import external_id
from meetings.provider import (
    DEFAULT_LINK_SECONDS,
    Ability,
    Attendee,
    Link,
    NotRecording,
    Pass,
    Person,
    Provider,
    ProviderAway,
    ProviderError,
    ProviderFailed,
    Recording,
    RecordingStatus,
    Room,
    RoomGone,
    RoomSpec,
    StartedRecording,
    link_seconds,
    unsupported,
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
#: Objects looked at for the one file of a recording; there is one.
MAX_OBJECTS: Final = 20
#: The longest piece of AWS' own words that an error repeats.
MAX_INFO_CHARACTERS: Final = 200
#: Where in the bucket recordings lie.
PREFIX: Final = "encounters"

_CAPTURE_STATUS: Final[dict[str, RecordingStatus]] = {
    "Failed": "failed",
    "Stopping": "processing",
    "Stopped": "processing",
}
#: What comes of reading an answer that has something else in the place of what should be there.
_NONSENSE: Final = (KeyError, TypeError, AttributeError, ValueError)
_GONE: Final = frozenset({"NotFoundException", "NoSuchKey", "404"})
_BUSY: Final = frozenset(
    {
        "ThrottlingException",
        "ThrottledClientException",
        "ServiceUnavailableException",
        "ServiceFailureException",
        "SlowDown",
    }
)


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


class Chime:
    """The provider. Without a `bucket` it does not record."""

    name = NAME
    pass_seconds = PASS_SECONDS

    def __init__(
        self, *, meetings: Any, pipelines: Any, objects: Any, region: str, bucket: str | None, act_seconds: float
    ) -> None:
        self._meetings = meetings
        self._pipelines = pipelines
        self._objects = objects
        self._region = region
        self._bucket = bucket
        self._act_seconds = act_seconds

    @property
    def abilities(self) -> frozenset[Ability]:
        return frozenset({"eject", "permit"} if self._bucket is None else {"record", "eject", "permit"})

    async def make_room(self, spec: RoomSpec) -> Room:
        wanted: dict[str, Any] = {
            "ClientRequestToken": _request_token("meeting", spec.name),
            "MediaRegion": self._region,
            "ExternalMeetingId": spec.name,
        }
        if spec.max_people is not None:
            wanted["MeetingFeatures"] = {"Attendee": {"MaxCount": max(1, min(spec.max_people, MAX_PEOPLE))}}
        async with self._act():
            made = await self._create_meeting(wanted)
        with _understood():
            meeting = _plain(made["Meeting"])
            meeting_id = _text(meeting["MeetingId"])
            _text(meeting["MediaPlacement"]["AudioHostUrl"])
        return Room(provider=NAME, id=meeting_id, name=spec.name, data={"Meeting": meeting})

    async def _create_meeting(self, wanted: dict[str, Any]) -> Any:
        for tries_left in range(MAX_CONFLICTS - 1, -1, -1):
            try:
                return await self._meetings.create_meeting(**wanted)
            except ClientError as error:
                if _code(error) != "ConflictException" or not tries_left:
                    raise
            await asyncio.sleep(CONFLICT_SECONDS)  # somebody makes the same one: next time it answers that
        raise AssertionError("the last try returns or raises")

    async def delete_room(self, room: Room) -> None:
        try:
            async with self._act():
                await self._meetings.delete_meeting(MeetingId=room.id)
        except RoomGone:
            return

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
                with _understood():
                    attendee = _plain(made["Attendee"])
                    _text(attendee["JoinToken"])
                    attendee_id = _text(attendee["AttendeeId"])
                if attendee.get("Capabilities", capabilities) == capabilities:
                    return attendee
                try:
                    changed = await self._meetings.update_attendee_capabilities(
                        MeetingId=room.id, AttendeeId=attendee_id, Capabilities=capabilities
                    )
                except ClientError as error:
                    if _code(error) not in _GONE or not tries_left:
                        raise
                    continue  # ejected just now: the meeting goes on, and they are made anew
                attendee["Capabilities"] = _plain(changed.get("Attendee", {})).get("Capabilities", capabilities)
                return attendee
        raise AssertionError("the last try returns or raises")

    async def eject(self, room: Room, user_id: str) -> None:
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
            with _understood():
                for one in page["Attendees"]:
                    if one["ExternalUserId"] == person_id:
                        return _text(one["AttendeeId"])
            if not page.get("NextToken"):
                return None
            more = {"NextToken": page["NextToken"]}
        return None

    async def start_recording(self, room: Room) -> StartedRecording:
        bucket = self._recording_bucket()
        source = room.data.get("Meeting", {}).get("MeetingArn")
        if not isinstance(source, str):
            raise ProviderFailed("The video provider chime did not say which meeting is to be recorded.")
        instance = uuid.uuid4().hex
        # As many tries as botocore makes of it, they are one request to Chime: the token is the same.
        async with self._act():
            made = await self._pipelines.create_media_capture_pipeline(
                SourceType="ChimeSdkMeeting",
                SourceArn=source,
                SinkType="S3Bucket",
                SinkArn=f"{bucket}/{PREFIX}/{room.name}/{instance}",
                ClientRequestToken=instance,
                ChimeSdkMeetingConfiguration={
                    "ArtifactsConfiguration": {
                        "Audio": {"MuxType": "AudioWithCompositedVideo"},
                        "Video": {"State": "Disabled"},
                        "Content": {"State": "Disabled"},
                        "CompositedVideo": {
                            "Layout": "GridView",
                            "Resolution": "HD",
                            "GridViewConfiguration": {"ContentShareLayout": "PresenterOnly"},
                        },
                    }
                },
            )
        with _understood():
            pipeline_id = _text(made["MediaCapturePipeline"]["MediaPipelineId"])
        return StartedRecording(instance_id=pipeline_id, recording_id=pipeline_id, started_at=datetime.now(UTC))

    async def stop_recording(self, room: Room, instance_id: str) -> None:
        """The one file is ordered first, and waits for the capture's end: if that fails, it can be stopped again."""
        bucket = self._recording_bucket()
        async with self._act(NotRecording("Nothing records this room.")):
            found = await self._pipelines.get_media_capture_pipeline(MediaPipelineId=instance_id)
            with _understood():
                capture_arn = _text(found["MediaCapturePipeline"]["MediaPipelineArn"])
            await self._pipelines.create_media_concatenation_pipeline(
                Sources=[_concatenated(capture_arn)],
                Sinks=[
                    {
                        "Type": "S3Bucket",
                        "S3BucketSinkConfiguration": {"Destination": f"{bucket}/{_folder(room, instance_id)}"},
                    }
                ],
                ClientRequestToken=_request_token("concatenation", instance_id),
            )
            await self._pipelines.delete_media_capture_pipeline(MediaPipelineId=instance_id)

    async def recordings(self, room: Room, known: Sequence[str]) -> Sequence[Recording]:
        self._recording_bucket()
        found = [await self._recording(room, recording_id) for recording_id in known]
        oldest = datetime.min.replace(tzinfo=UTC)
        return sorted(found, key=lambda one: one.started_at or oldest, reverse=True)

    async def _recording(self, room: Room, recording_id: str) -> Recording:
        started_at: datetime | None = None
        status: RecordingStatus = "processing"
        try:
            async with self._act(NotRecording("It ended.")):
                found = await self._pipelines.get_media_capture_pipeline(MediaPipelineId=recording_id)
            with _understood():
                capture = found["MediaCapturePipeline"]
                status = _CAPTURE_STATUS.get(capture["Status"], "in-progress")
                started_at = capture.get("CreatedTimestamp")
        except NotRecording:
            pass  # Chime forgets a capture some time after its end
        if status == "processing" and await self._file(room, recording_id) is not None:
            status = "finished"
        return Recording(id=recording_id, status=status, started_at=started_at)

    async def recording_link(self, room: Room, recording_id: str, *, seconds: int = DEFAULT_LINK_SECONDS) -> Link:
        self._recording_bucket()
        key = await self._file(room, recording_id)
        if key is None:
            raise NotRecording("The video provider chime does not have this recording.")
        lifetime = link_seconds(seconds)
        expires_at = datetime.now(UTC) + timedelta(seconds=lifetime)
        async with self._act():
            url = await self._objects.generate_presigned_url(
                "get_object", Params={"Bucket": self._bucket, "Key": key}, ExpiresIn=lifetime
            )
        return Link(url=url, expires_at=expires_at)

    async def delete_recording(self, room: Room, recording_id: str) -> None:
        self._recording_bucket()
        key = await self._file(room, recording_id)
        if key is not None:
            async with self._act():
                await self._objects.delete_object(Bucket=self._bucket, Key=key)

    async def _file(self, room: Room, recording_id: str) -> str | None:
        """The key of the recording's one file; None while there is none."""
        prefix = f"{_folder(room, recording_id)}/composited-video/"
        async with self._act(NotRecording("The bucket for recordings is not there.")):
            page = await self._objects.list_objects_v2(Bucket=self._bucket, Prefix=prefix, MaxKeys=MAX_OBJECTS)
        with _understood():
            keys = [_text(one["Key"]) for one in page.get("Contents", [])]
        return next((key for key in keys if key.endswith(".mp4")), None)

    def _recording_bucket(self) -> str:
        """The bucket's ARN. Raises NotSupported where there is none."""
        if self._bucket is None:
            raise unsupported(NAME, "record without CHIME_RECORDINGS_BUCKET")
        return f"arn:aws:s3:::{self._bucket}"

    @asynccontextmanager
    async def _act(self, gone: ProviderError | None = None) -> AsyncIterator[None]:
        """Bound what happens in time, and turn botocore's errors into ours; `gone` is for what is not there."""
        try:
            async with asyncio.timeout(self._act_seconds):
                yield
        except ClientError as error:
            raise _refusal(error, gone) from error
        except NoCredentialsError as error:
            raise ProviderFailed("There are no AWS credentials for the video provider chime.") from error
        except (ParamValidationError, ResponseParserError, *_NONSENSE) as error:
            # botocore's parsers take it for granted that an object is one.
            raise ProviderFailed("The video provider chime was asked, or answered, what makes no sense.") from error
        except (BotoCoreError, OSError, TimeoutError) as error:
            raise ProviderAway("The video provider chime cannot be reached, or did not answer in time.") from error


def _refusal(error: ClientError, gone: ProviderError | None) -> ProviderError:
    code = _code(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _GONE:
        return gone or RoomGone("The video provider chime does not have this meeting any more.")
    if code in _BUSY or status == 429 or status >= 500:
        return ProviderAway("The video provider chime has no room at the moment.")
    if status in (401, 403):
        return ProviderFailed("The video provider chime does not accept the AWS credentials, or they may not do this.")
    info = str(error.response.get("Error", {}).get("Message", ""))[:MAX_INFO_CHARACTERS]
    said = "".join(character for character in f"{status} {code[:80]}: {info}" if character.isprintable())
    return ProviderFailed(f"The video provider chime refused: {said.rstrip(': .')}.")


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def _understood() -> Iterator[None]:
    """What lacks a part that it must have, or has another in its place, raises ProviderFailed."""
    try:
        yield
    except _NONSENSE as error:
        raise ProviderFailed("The video provider chime answered what cannot be read.") from error


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("no text")
    return value


def _plain(value: Any) -> dict[str, Any]:
    """A structure of botocore's as JSON has it: without the parts of the envelope."""
    return {key: part for key, part in dict(value).items() if key != "ResponseMetadata"}


def _request_token(kind: str, name: str) -> str:
    """The same for the same, so that a second request finds what the first one made; 64 characters."""
    return hashlib.sha256(f"{kind} {name}".encode()).hexdigest()


def _folder(room: Room, recording_id: str) -> str:
    return f"{PREFIX}/{room.name}/{recording_id}"


def _capabilities(person: Person) -> dict[str, str]:
    """What is taken is sending; everybody hears and sees. A shared screen goes with the camera."""
    camera = "SendReceive" if person.camera_allowed else "Receive"
    return {"Audio": "SendReceive" if person.mic_allowed else "Receive", "Video": camera, "Content": camera}


def _concatenated(capture_arn: str) -> dict[str, Any]:
    enabled, disabled = {"State": "Enabled"}, {"State": "Disabled"}
    return {
        "Type": "MediaCapturePipeline",
        "MediaCapturePipelineSourceConfiguration": {
            "MediaPipelineArn": capture_arn,
            "ChimeSdkMeetingConfiguration": {
                "ArtifactsConfiguration": {
                    "Audio": enabled,
                    "Video": disabled,
                    "Content": disabled,
                    "DataChannel": disabled,
                    "TranscriptionMessages": disabled,
                    "MeetingEvents": disabled,
                    "CompositedVideo": enabled,
                }
            },
        },
    }
