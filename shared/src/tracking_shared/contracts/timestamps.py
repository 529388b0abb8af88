"""Times: always UTC, always milliseconds, written as RFC 3339 with a `Z`."""

import re
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Annotated
from zoneinfo import available_timezones

import orjson
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, PlainSerializer

_RFC_3339 = re.compile(
    r"(?P<minute>[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ](?P<hour>[0-9]{2}):[0-9]{2}):"
    r"(?P<second>[0-9]{2})(?P<fraction>\.[0-9]{1,9})?(?P<offset>[Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_OFFSET = re.compile(r"[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9]")
_MINUTES_OF_A_DAY = 24 * 60


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


def parse_time(text: str) -> datetime:
    """The time that an RFC 3339 text names, with its offset.

    A leap second, which Python has no value for, is the last millisecond of its minute.

    Raises:
        ValueError: it names none. The message is for its sender.
    """
    found = _RFC_3339.fullmatch(text)
    if found is None:
        raise ValueError("must be an RFC 3339 time with an offset, like 2026-01-31T08:15:00Z")
    if not _OFFSET.fullmatch(found["offset"]):
        raise ValueError("must have an offset of Z or ±hh:mm, hours to 23, minutes to 59")
    is_leap_second = found["second"] == "60"
    whole = f"{found['minute']}:59.999{found['offset']}" if is_leap_second else text
    try:
        time = datetime.fromisoformat(whole.upper())
    except ValueError:
        raise ValueError("must be a day and a time of day that exist") from None
    if found["hour"] == "24":  # newer versions of Python take it for the next day's midnight
        raise ValueError("must be a day and a time of day that exist")
    if is_leap_second and not _ends_a_day_in_utc(time):
        raise ValueError("must not have a second 60 elsewhere than at 23:59 UTC, where leap seconds are")
    return time


def _ends_a_day_in_utc(time: datetime) -> bool:
    # By minutes alone: the first and the last days of the calendar have no instant in UTC.
    offset = time.utcoffset() or timedelta()
    minutes = time.hour * 60 + time.minute - offset // timedelta(minutes=1)
    return minutes % _MINUTES_OF_A_DAY == _MINUTES_OF_A_DAY - 1


def _rfc_3339(value: object) -> object:
    # pydantic would take a string of digits for seconds since the epoch. And behind a validator written in
    # Python, a strict model would refuse the text.
    return parse_time(value) if isinstance(value, str) else value


Timestamp = Annotated[
    AwareDatetime,
    BeforeValidator(_rfc_3339),
    AfterValidator(_in_range),
    PlainSerializer(format_time, return_type=str, when_used="json"),
]
"""A time from outside: an offset is required; kept in UTC, cut to milliseconds."""

MAX_CLOCK_AHEAD = timedelta(minutes=5)
"""A source's clock may be so far in the future before its `occurred_at` is refused."""


# Whose clock it is: the time zones that may be named from outside.

_NO_PLACE = frozenset({"localtime", "posixrules", "Factory"})
"""Files beside the zones in many systems: the clock of whoever answers, and stand-ins for one."""

_VARIANTS = ("posix/", "right/")


@cache
def time_zones() -> frozenset[str]:
    """The IANA names that are known here. Each means the same everywhere."""
    return frozenset(
        name for name in available_timezones() if name not in _NO_PLACE and not name.startswith(_VARIANTS)
    )
