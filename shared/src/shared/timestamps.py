"""Times: always UTC, always milliseconds, written as RFC 3339 with a `Z`."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import orjson
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, PlainSerializer

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")


EARLIEST_TIME = datetime(1900, 1, 1, tzinfo=UTC)
"""No earlier one is taken from outside."""

UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""Before everything that was ever recorded."""


def now() -> datetime:
    """The current time in UTC, cut to milliseconds (what the database can hold)."""
    return to_milliseconds(datetime.now(UTC))


def to_milliseconds(time: datetime) -> datetime:
    """The same instant in UTC, cut to whole milliseconds. `time` must carry an offset."""
    utc = time.astimezone(UTC)
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000)


def format_time(time: datetime) -> str:
    """RFC 3339 in UTC with milliseconds: ``2026-01-31T08:15:00.000Z``. `time` must be in UTC."""
    text = orjson.dumps(
        time
    ).decode()  # in a third of the time of `isoformat`; whole seconds have no fraction
    return f"{text[1:24]}Z" if time.microsecond else f"{text[1:20]}.000Z"


def format_optional_time(time: datetime | None) -> str | None:
    """`format_time`, or None where there is no time."""
    return None if time is None else format_time(time)


def _in_range(time: datetime) -> datetime:
    # The years 1 and 9999 overflow when a time zone is applied; no order was moved in either.
    if not EARLIEST_TIME <= time <= datetime(2200, 1, 1, tzinfo=UTC):
        raise ValueError("must lie between the years 1900 and 2200")
    return to_milliseconds(time)


def _rfc_3339(value: object) -> object:
    # pydantic would take a string of digits for seconds since the epoch.
    if not isinstance(value, str):
        return value
    if not _RFC_3339.fullmatch(value):
        raise ValueError("must be an RFC 3339 time with an offset, like 2026-01-31T08:15:00Z")
    # Behind a validator written in Python, a strict model would refuse the text.
    return datetime.fromisoformat(value.upper())


Timestamp = Annotated[
    AwareDatetime,
    BeforeValidator(_rfc_3339),
    AfterValidator(_in_range),
    PlainSerializer(format_time, return_type=str, when_used="json"),
]
"""A time from outside: an offset is required; kept in UTC, cut to milliseconds."""

MAX_CLOCK_AHEAD = timedelta(minutes=5)
"""How far in the future a source's clock may be before its `occurred_at` is refused."""
