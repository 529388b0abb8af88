"""Times: written in one way, and read as RFC 3339 has them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from tracking.upkeep.audit import parse_instant
from tracking_shared.contracts.timestamps import Timestamp, format_time, to_milliseconds

EARLIEST, LATEST = (datetime(year, 1, 3, tzinfo=UTC).replace(tzinfo=None) for year in (1900, 2199))

from_outside = TypeAdapter(Timestamp).validate_python


def at(microseconds: int) -> datetime:
    """Since 1970."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


@example(datetime(2026, 1, 31, 8, 15, tzinfo=UTC))
@example(datetime(2026, 1, 31, 8, 15, 0, 999, tzinfo=UTC))
@given(st.integers(-2_208_988_800_000_000, 7_258_118_400_000_000).map(at))
def test_a_time_is_written_with_milliseconds_and_read_back(time: datetime) -> None:
    text = format_time(time)
    assert len(text) == len("2026-01-31T08:15:00.000Z")
    assert text.endswith("Z")
    assert datetime.fromisoformat(text) == to_milliseconds(time)


@pytest.mark.parametrize(
    "text",
    [
        "2016-12-31T23:59:60Z",
        "2016-12-31T23:59:60.25Z",
        "2017-01-01T05:29:60+05:30",
        "2016-12-31t15:59:60-08:00",
    ],
)
def test_a_leap_second_is_the_last_millisecond_of_its_minute(text: str) -> None:
    last = datetime(2016, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
    assert from_outside(text) == last
    assert parse_instant(text) == last


@pytest.mark.parametrize(
    "text", ["2016-12-31T23:58:60Z", "2016-12-31T23:59:60+01:00", "2016-12-31T22:59:60+23:59"]
)
def test_a_second_60_is_at_no_other_minute(text: str) -> None:
    with pytest.raises(ValidationError, match="23:59 UTC"):
        from_outside(text)
    assert parse_instant(text) is None


@pytest.mark.parametrize("offset", ["+00:60", "+24:00", "-99:99", "+23:99"])
def test_an_offset_has_hours_to_23_and_minutes_to_59(offset: str) -> None:
    text = f"2026-01-31T08:15:00{offset}"
    with pytest.raises(ValidationError, match="an offset of Z or ±hh:mm, hours to 23, minutes to 59"):
        from_outside(text)
    assert parse_instant(text) is None


@pytest.mark.parametrize(
    "text", ["2026-02-30T08:15:00Z", "2026-01-31T24:00:00Z", "2026-01-31T08:60:00Z", "2026-01-31T08:15:61Z"]
)
def test_what_the_calendar_or_the_clock_has_not_is_told_in_words_of_ours(text: str) -> None:
    with pytest.raises(ValidationError, match="must be a day and a time of day that exist"):
        from_outside(text)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:60+23:59", "9999-12-31T23:59:60-23:59"])
def test_a_leap_second_at_the_end_of_the_calendar_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        from_outside(text)
    assert parse_instant(text) is None


@given(
    st.datetimes(EARLIEST, LATEST),
    st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
def test_every_time_that_rfc_3339_can_write_is_read(local: datetime, offset: timezone) -> None:
    time = local.replace(tzinfo=offset)
    assert from_outside(time.isoformat()) == to_milliseconds(time)


def test_seconds_may_be_left_out_on_the_command_line() -> None:
    assert parse_instant("2026-01-31T08:15+01:00") == datetime(2026, 1, 31, 7, 15, tzinfo=UTC)
