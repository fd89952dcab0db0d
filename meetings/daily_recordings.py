"""Recordings of Daily's, in its cloud.

Sources: Daily's REST API reference: rooms/recordings, recordings.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from meetings.daily_api import (
    DailyApi,
    Deleted,
    Refusal,
    Unreadable,
    Unsure,
    check_deleted,
    gone,
    path_of,
    room_path,
    undo,
)
from meetings.provider import (
    DEFAULT_LINK_SECONDS,
    AlreadyRecording,
    Link,
    MeetingEmpty,
    NotRecording,
    ProviderError,
    ProviderFailed,
    Recording,
    RecordingKey,
    RecordingRefused,
    RecordingStatus,
    Room,
    StartedRecording,
    link_seconds,
)

#: The most recordings of one room that are looked at, the newest: a page of Daily's.
MAX_RECORDINGS: Final = 100
#: Seconds that a recording may last, and that it goes on in an empty room.
MAX_RECORDING_SECONDS: Final = 6 * 60 * 60
IDLE_SECONDS: Final = 300

_STATUS: Final[dict[str, RecordingStatus]] = {
    "finished": "finished",
    "in-progress": "in-progress",
    "canceled": "failed",
}


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


class DailyRecordings:
    """What Daily does with recordings: a part of :class:`meetings.daily.Daily`."""

    def __init__(self, api: DailyApi) -> None:
        self._api = api

    async def start_recording(self, room: Room, instance_id: str) -> StartedRecording:
        body = {
            "type": "cloud",
            "instanceId": instance_id,
            "maxDuration": MAX_RECORDING_SECONDS,
            "minIdleTimeOut": IDLE_SECONDS,
        }
        path = f"{room_path(room.name)}/recordings/start"
        key, started_at = RecordingKey(instance_id=instance_id), datetime.now(UTC)
        try:
            started = await self._api.call("POST", path, _Started, body=body, rate="recording", again=False)
        except (Unsure, Unreadable):
            await undo(self.stop_recording(room, key))
            raise
        except Refusal as refused:
            if refused.status == 404:
                raise await self._gone_or_empty(room) from refused
            if refused.status == 400 and await self._is_recorded(room):
                raise AlreadyRecording("This room is being recorded.") from refused
            raise RecordingRefused(refused.message) from refused
        return StartedRecording(
            recording_id=started.recording_id or await self._running(room, key, started_at), started_at=started_at
        )

    async def _is_recorded(self, room: Room) -> bool:
        """Whether something records it, as far as Daily says: its words for a refusal are not fixed, its list is."""
        try:
            return any(one.status == "in-progress" for one in await self._listed(room))
        except ProviderError:
            return False

    async def _gone_or_empty(self, room: Room) -> ProviderFailed:
        """Daily has the same answer for a room that is not there and for one in which nobody is."""
        try:
            await self._api.call("GET", room_path(room.name), dict[str, Any], again=True)
        except Refusal as refused:
            return gone() if refused.status == 404 else refused
        return MeetingEmpty("Nobody is in this room.")

    async def _running(self, room: Room, key: RecordingKey, since: datetime) -> str | None:
        """The recording that was just started, where Daily did not name it; None where it is not listed yet."""
        try:
            found = await self.find_recording(room, key, since=since)
        except ProviderError:
            return None  # it runs; a webhook or a later look names it
        return found.id if found is not None and found.status == "in-progress" else None

    async def stop_recording(self, room: Room, key: RecordingKey) -> None:
        path, body = f"{room_path(room.name)}/recordings/stop", {"instanceId": key.instance_id}
        try:
            await self._api.call("POST", path, dict[str, Any], body=body, rate="urgent", again=True)
        except Refusal as refused:
            if refused.status in (400, 404):
                raise NotRecording("Nothing records this room.") from refused
            raise

    async def find_recording(
        self,
        room: Room,
        key: RecordingKey,
        *,
        since: datetime,
        until: datetime | None = None,
        others: Collection[str] = (),
    ) -> Recording | None:
        if key.recording_id is None:
            listed = [one for one in await self._listed(room) if one.id not in others]
            fresh = [one for one in listed if began_between(one.started_at, since, until)]
            return fresh[0] if len(fresh) == 1 else None
        try:
            return _recording(
                await self._api.call("GET", path_of("/recordings", key.recording_id), _Recording, again=True)
            )
        except Refusal as refused:
            if refused.status == 404:
                return None
            raise

    async def _listed(self, room: Room) -> Sequence[Recording]:
        query = {"room_name": room.name, "limit": str(MAX_RECORDINGS)}
        listed = await self._api.call("GET", "/recordings", _Recordings, query=query, rate="slow", again=True)
        return [_recording(one) for one in listed.data if one.room_name in (None, room.name)]

    async def recording_link(self, room: Room, key: RecordingKey, *, seconds: int = DEFAULT_LINK_SECONDS) -> Link:
        if key.recording_id is None:
            raise _no_recording()
        path = f"{path_of('/recordings', key.recording_id)}/access-link"
        query = {"valid_for_secs": str(link_seconds(seconds))}
        try:
            link = await self._api.call("GET", path, _Link, query=query, rate="links", again=True)
        except Refusal as refused:
            if refused.status == 404:
                raise _no_recording() from refused
            raise
        expires_at = _instant(link.expires)
        if expires_at is None or not link.download_link.startswith(("https://", "http://")):
            raise ProviderFailed("The video provider daily gave a link that leads nowhere.")
        return Link(url=link.download_link, expires_at=expires_at)

    async def delete_recording(self, room: Room, key: RecordingKey) -> None:
        if key.recording_id is None:
            return
        path = path_of("/recordings", key.recording_id)
        try:
            answer = await self._api.call("DELETE", path, Deleted, rate="slow", again=True)
        except Refusal as refused:
            if refused.status != 404:
                raise
        else:
            check_deleted(answer)


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


def began_between(started_at: datetime | None, since: datetime, until: datetime | None) -> bool:
    """Whether a recording that Daily says began then may be the one that it was asked for at `since`: the next one was
    asked for at `until`. No recording is in two such spans."""
    if started_at is None or started_at < _whole_second(since):
        return False
    return until is None or started_at < _whole_second(until)


def _whole_second(at: datetime) -> datetime:
    """Daily's times have no fractions, and its clock is its own: a second's grace."""
    return datetime.fromtimestamp(int(at.timestamp()) - 1, UTC)


def _no_recording() -> NotRecording:
    return NotRecording("The video provider daily does not have this recording.")
