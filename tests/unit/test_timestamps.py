"""Times are written in one way, whatever their fraction."""

from datetime import UTC, datetime, timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from shared.timestamps import format_time, to_milliseconds


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
