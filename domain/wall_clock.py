"""Times on a wall clock, which goes forward and back twice a year."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

WEEK: Final = timedelta(days=7)


def moment_of(day: date, wall: time, zone: ZoneInfo) -> datetime | None:
    """When the clock shows `wall` on that day, in UTC: the first time where it does so twice, None where it never does.

    `day` lies away from the calendar's ends.
    """
    moment = datetime.combine(day, wall, tzinfo=zone).astimezone(UTC)
    shown = moment.astimezone(zone)
    # Python reads a time that the clock skips by the offset from before the change, and so lands after it.
    return moment if (shown.date(), shown.time()) == (day, wall) else None


def weekly_from(start: datetime, weeks: int, zone: ZoneInfo) -> Sequence[datetime]:
    """`start` and the same wall time in each of the following weeks, `weeks` moments in all, in UTC.

    A time that the clock shows twice is the first of the two. One that it skips is later by as much as the clock
    goes forward (RFC 5545 §3.3.5): 02:30 becomes 03:30. `start` itself stays what it is.
    """
    shown = start.astimezone(zone).replace(fold=0)
    return [start, *((shown + week * WEEK).astimezone(UTC) for week in range(1, weeks))]
