"""Converts the times of files to RFC 3339 with an offset. Pure.

A time in this format is left unchanged, because update ids are derived from it.
"""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from tracking.load.records import unreadable
from tracking_shared.contracts.timestamps import parse_time

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")

_ACCEPTED = re.compile(
    r"(?:(?P<year>\d{4})-(?P<month>\d\d?)-(?P<day>\d\d?)|(?P<day2>\d\d?)\.(?P<month2>\d\d?)\.(?P<year2>\d{4}))"
    r"(?:(?:[Tt]|,? +)(?P<hour>\d\d?):(?P<minute>\d\d)(?::(?P<second>\d\d)(?P<fraction>\.\d+)?)?"
    r" ?(?P<offset>[Zz]|UTC|[+-]\d\d:?\d\d)?)?"
)
"""2026-01-31 08:15, 2026-01-31T08:15:00, 31.01.2026 8:15, 2026-01-31 08:15:00 +0100, 31.01.2026."""

_SLASHES = re.compile(r"\d\d?/\d\d?/\d{2,4}")

EXAMPLE = "write it like 2026-01-31T08:15:00+01:00"


def with_offset(text: str, zone: ZoneInfo | None, column: str) -> str:
    """The time as RFC 3339. One without an offset is in `zone`; a date is the beginning of that day.

    A local time that a change of the clocks repeats is the first of the two. One that it skips is refused,
    except for the beginning of a day: that is the first instant of the day.

    Raises:
        UnreadableRecord: it is no time, does not exist, or has neither offset nor zone.
    """
    if _RFC_3339.fullmatch(text):
        return text
    found = _ACCEPTED.fullmatch(text)
    if found is None:
        slashes = "with slashes, day and month cannot be told apart; " if _SLASHES.match(text) else ""
        raise unreadable("not a time", column, text, slashes + EXAMPLE)
    local = _local_time(found, text, column)
    if found["offset"]:
        return local.isoformat() + _offset(found["offset"])
    if zone is None:
        detail = "add it, or say whose time it is with --time-zone, like --time-zone Europe/Berlin"
        raise unreadable("a time without an offset", column, text, detail)
    return _in_zone(local, zone, is_date=found["hour"] is None, text=text, column=column)


def _local_time(found: re.Match[str], text: str, column: str) -> datetime:
    parts = found.groupdict()
    date = [int(parts[name] or parts[f"{name}2"]) for name in ("year", "month", "day")]
    clock = [int(parts[name] or 0) for name in ("hour", "minute", "second")]
    fraction = (parts["fraction"] or ".0")[1:7]
    try:
        return datetime(*date, *clock, int(fraction.ljust(6, "0")))  # type: ignore[arg-type,call-arg]  # noqa: DTZ001 - local
    except ValueError:
        raise unreadable("not a time", column, text, "there is no such day or hour") from None


def _offset(text: str) -> str:
    if text in ("Z", "z", "UTC"):
        return "Z"
    return text if ":" in text else f"{text[:3]}:{text[3:]}"


def _in_zone(local: datetime, zone: ZoneInfo, *, is_date: bool, text: str, column: str) -> str:
    first = local.replace(tzinfo=zone, fold=0)
    existing = first.astimezone(UTC).astimezone(zone)
    if existing.replace(tzinfo=None) == local:
        return first.isoformat()
    if is_date:
        return _first_instant(local, zone).isoformat()
    detail = "the clocks were put forward over it"
    raise unreadable(f"a time that did not exist in {zone.key}", column, text, detail)


def _first_instant(local: datetime, zone: ZoneInfo) -> datetime:
    # The clocks change at the instant that is midnight by the offset of the evening before.
    offset = (local - timedelta(hours=1)).replace(tzinfo=zone).utcoffset() or timedelta()
    return (local - offset).replace(tzinfo=UTC).astimezone(zone)


def instant_of(text: str) -> float | None:
    """The seconds since 1970 of an RFC 3339 time, to sort by; None if the text is not one."""
    try:
        return parse_time(text).timestamp()
    except (ValueError, OverflowError):
        return None
