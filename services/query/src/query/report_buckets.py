"""Days and hours of a time zone, as they really are: a day can have 23 or 25 hours. Pure."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

Interval = Literal["hour", "day"]

MAX_BUCKETS = 10_000
"""More than a year of hours, 27 years of days."""

_LENGTH: dict[Interval, timedelta] = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
_STEP = timedelta(minutes=30)
"""No change of the clocks is a smaller one."""


class TooManyBuckets(ValueError):
    """The range has more than `MAX_BUCKETS` of the intervals."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """The times from `start` up to, not including, `end`, cut into intervals."""

    start: datetime
    end: datetime
    zone: ZoneInfo
    starts: tuple[datetime, ...]
    """Where each bucket starts, in UTC. The first one may start before the range, and so be there in part."""

    def index(self, time: datetime) -> int | None:
        """The number of the bucket that `time` is in; None outside of the range."""
        if not self.start <= time < self.end:
            return None
        return bisect_right(self.starts, time) - 1

    def local(self, number: int) -> str:
        """Where a bucket starts, by the clocks of the zone, with their offset."""
        return self.starts[number].astimezone(self.zone).isoformat(timespec="seconds")


def cut(start: datetime, end: datetime, interval: Interval | None, zone: ZoneInfo) -> Buckets:
    """The range in buckets; without an interval it is one.

    Raises:
        TooManyBuckets: the range is too long for this interval.
    """
    if interval is None:
        return Buckets(start, end, zone, (start,))
    if (end - start) / _LENGTH[interval] > MAX_BUCKETS:
        raise TooManyBuckets
    return Buckets(start, end, zone, tuple(_starts(start, end, interval, zone)))


def _starts(start: datetime, end: datetime, interval: Interval, zone: ZoneInfo) -> Iterator[datetime]:
    current = _floor(start, interval, zone)
    while current < end:
        yield current
        time = current + _LENGTH[interval]
        # Where the clocks are set back, an interval later can still be the same one.
        while (following := _floor(time, interval, zone)) <= current:
            time += _STEP
        current = following


def _floor(time: datetime, interval: Interval, zone: ZoneInfo) -> datetime:
    # An hour that comes twice is two hours (fold stays); a midnight that comes twice starts the day once.
    local = time.astimezone(zone).replace(minute=0, second=0, microsecond=0)
    if interval == "day":
        local = local.replace(hour=0, fold=0)
    return local.astimezone(UTC)
