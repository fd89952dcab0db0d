"""Recordings of Chime's, in a bucket of one's own.

A capture pipeline writes pieces of five seconds, and a concatenation pipeline waits for its end and makes one file of
them. Sources: botocore's service model `chime-sdk-media-pipelines` (2021-07-15), the developer guide.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractAsyncContextManager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from botocore.exceptions import ClientError

from meetings.chime_api import bounded, code_of, request_token, text, understood
from meetings.provider import (
    DEFAULT_LINK_SECONDS,
    Link,
    NotRecording,
    ProviderAway,
    ProviderError,
    ProviderFailed,
    Recording,
    RecordingKey,
    RecordingStatus,
    Room,
    StartedRecording,
    link_seconds,
    unsupported,
)

#: Objects looked at for the one file of a recording; there is one.
MAX_OBJECTS: Final = 20
#: Pages of a thousand pieces that are deleted at a time: an hour has less than one.
MAX_DELETED_PAGES: Final = 4
#: Where in the bucket recordings lie.
PREFIX: Final = "encounters"
#: What a recording's folder there has: the pieces that are written as it goes, and the one file that they become.
PIECES: Final = "pieces"
FILM: Final = "film"

_CAPTURE_STATUS: Final[dict[str, RecordingStatus]] = {
    "Failed": "failed",
    "Stopping": "processing",
    "Stopped": "processing",
}


class ChimeRecordings:
    """What Chime does with recordings: a part of :class:`meetings.chime.Chime`."""

    def __init__(self, *, meetings: Any, pipelines: Any, objects: Any, bucket: str | None, act_seconds: float) -> None:
        self._meetings = meetings
        self._pipelines = pipelines
        self._objects = objects
        self._bucket = bucket
        self._act_seconds = act_seconds

    def _act(self, gone: ProviderError | None = None) -> AbstractAsyncContextManager[None]:
        return bounded(self._act_seconds, gone)

    async def start_recording(self, room: Room, instance_id: str) -> StartedRecording:
        """The one file is ordered with the pieces, and waits for their end: it comes however the meeting ends."""
        film = f"{self._recording_bucket()}/{_folder(room, instance_id)}/{FILM}"
        async with self._act():
            try:
                pipeline_id, capture_arn = await self._capture(room, instance_id)
            except ClientError as error:
                if code_of(error) == "BadRequestException":
                    await self._meetings.list_attendees(MeetingId=room.id, MaxResults=1)  # NotFound says why
                raise
            try:
                await self._pipelines.create_media_concatenation_pipeline(
                    Sources=[_concatenated(capture_arn)],
                    Sinks=[{"Type": "S3Bucket", "S3BucketSinkConfiguration": {"Destination": film}}],
                    ClientRequestToken=request_token("concatenation", instance_id),
                )
            except ClientError:
                await self._pipelines.delete_media_capture_pipeline(MediaPipelineId=pipeline_id)
                raise
        return StartedRecording(recording_id=pipeline_id, started_at=datetime.now(UTC))

    async def _capture(self, room: Room, instance_id: str) -> tuple[str, str]:
        """The id and ARN of the pipeline that writes the pieces. However often it is asked for, it is one: the token
        is the same."""
        source = room.data.get("Meeting", {}).get("MeetingArn")
        if not isinstance(source, str):
            raise ProviderFailed("The video provider chime did not say which meeting is to be recorded.")
        made = await self._pipelines.create_media_capture_pipeline(
            SourceType="ChimeSdkMeeting",
            SourceArn=source,
            SinkType="S3Bucket",
            SinkArn=f"{self._recording_bucket()}/{_folder(room, instance_id)}/{PIECES}",
            ClientRequestToken=instance_id,
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
        with understood():
            capture = made["MediaCapturePipeline"]
            return text(capture["MediaPipelineId"]), text(capture["MediaPipelineArn"])

    async def stop_recording(self, room: Room, key: RecordingKey) -> None:
        self._recording_bucket()
        async with self._act(NotRecording("Nothing records this room.")):
            pipeline_id = key.recording_id
            if pipeline_id is None:  # the answer to its start was lost: the same question has the same answer
                try:
                    pipeline_id, _ = await self._capture(room, key.instance_id)
                except ClientError as error:
                    if code_of(error) == "BadRequestException":
                        raise NotRecording("Nothing records this room.") from error
                    raise
            await self._pipelines.delete_media_capture_pipeline(MediaPipelineId=pipeline_id)

    async def find_recording(
        self,
        room: Room,
        key: RecordingKey,
        *,
        since: datetime,
        until: datetime | None = None,
        others: Collection[str] = (),
    ) -> Recording | None:
        """The pieces are deleted as soon as the film is there."""
        self._recording_bucket()
        if key.recording_id is None:
            return None
        started_at: datetime | None = None
        status: RecordingStatus = "processing"
        try:
            async with self._act(NotRecording("It ended.")):
                found = await self._pipelines.get_media_capture_pipeline(MediaPipelineId=key.recording_id)
            with understood():
                capture = found["MediaCapturePipeline"]
                status = _CAPTURE_STATUS.get(capture["Status"], "in-progress")
                started_at = capture.get("CreatedTimestamp")
        except NotRecording:
            pass  # Chime forgets a capture some time after its end
        if status == "processing" and await self._file(room, key) is not None:
            status = "finished"
            with suppress(ProviderError):  # they go with the recording at the latest
                await self._delete_all(f"{_folder(room, key.instance_id)}/{PIECES}/")
        return Recording(id=key.recording_id, status=status, started_at=started_at)

    async def recording_link(self, room: Room, key: RecordingKey, *, seconds: int = DEFAULT_LINK_SECONDS) -> Link:
        self._recording_bucket()
        found = await self._file(room, key)
        if found is None:
            raise NotRecording("The video provider chime does not have this recording.")
        lifetime = link_seconds(seconds)
        expires_at = datetime.now(UTC) + timedelta(seconds=lifetime)
        async with self._act():
            url = await self._objects.generate_presigned_url(
                "get_object", Params={"Bucket": self._bucket, "Key": found}, ExpiresIn=lifetime
            )
        return Link(url=url, expires_at=expires_at)

    async def delete_recording(self, room: Room, key: RecordingKey) -> None:
        """The file and the pieces. A night of them is deleted page by page: what is left then is for the next time."""
        self._recording_bucket()
        await self._delete_all(f"{_folder(room, key.instance_id)}/")

    async def _delete_all(self, prefix: str) -> None:
        for _ in range(MAX_DELETED_PAGES):
            async with self._act(NotRecording("The bucket for recordings is not there.")):
                page = await self._objects.list_objects_v2(Bucket=self._bucket, Prefix=prefix)
                with understood():
                    keys = [{"Key": text(one["Key"])} for one in page.get("Contents", [])]
                if not keys:
                    return
                answer = await self._objects.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": keys, "Quiet": True}
                )
            if answer.get("Errors"):
                raise ProviderFailed("The video provider chime's bucket did not delete all of a recording.")
        raise ProviderAway("The video provider chime's bucket has more of this recording than is deleted at a time.")

    async def _file(self, room: Room, key: RecordingKey) -> str | None:
        """Where the recording's one file is in the bucket; None while there is none."""
        prefix = f"{_folder(room, key.instance_id)}/{FILM}/"
        async with self._act(NotRecording("The bucket for recordings is not there.")):
            page = await self._objects.list_objects_v2(Bucket=self._bucket, Prefix=prefix, MaxKeys=MAX_OBJECTS)
        with understood():
            keys = [text(one["Key"]) for one in page.get("Contents", [])]
        return next((one for one in keys if one.endswith(".mp4")), None)

    def _recording_bucket(self) -> str:
        """The bucket's ARN. Raises NotSupported where there is none."""
        if self._bucket is None:
            raise unsupported("chime", "record without CHIME_RECORDINGS_BUCKET")
        return f"arn:aws:s3:::{self._bucket}"


def _folder(room: Room, instance_id: str) -> str:
    return f"{PREFIX}/{room.name}/{instance_id}"


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
