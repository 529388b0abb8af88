"""Times of files: with and without an offset, and around a change of the clocks."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking.load.records import UnreadableRecord
from tracking.load.times import instant_of, with_offset

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T08:15:00+01:00",
        "2026-01-31 08:15:00.123456z",
        "2026-06-30T23:59:60Z",
        "2026-13-01T00:00:00Z",
    ],
)
def test_what_is_written_as_rfc_3339_stays_as_it_is_written(text: str) -> None:
    assert with_offset(text, BERLIN, "occurred_at") == text


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-01-31 08:15", "2026-01-31T08:15:00+01:00"),
        ("2026-07-31T08:15:07.5", "2026-07-31T08:15:07.500000+02:00"),
        ("31.01.2026 8:15", "2026-01-31T08:15:00+01:00"),
        ("1.7.2026, 08:15:01", "2026-07-01T08:15:01+02:00"),
        ("31.01.2026", "2026-01-31T00:00:00+01:00"),
        ("2026-01-31", "2026-01-31T00:00:00+01:00"),
        ("2026-01-31 08:15:00 +0530", "2026-01-31T08:15:00+05:30"),
        ("2026-01-31 08:15 UTC", "2026-01-31T08:15:00Z"),
    ],
)
def test_a_time_without_an_offset_is_one_of_the_zone(text: str, time: str) -> None:
    assert with_offset(text, BERLIN, "occurred_at") == time


def test_of_an_hour_that_comes_twice_the_first_is_meant() -> None:
    assert with_offset("2026-10-25 02:30", BERLIN, "t") == "2026-10-25T02:30:00+02:00"


def test_an_hour_that_was_skipped_is_refused_and_a_day_begins_with_its_first_moment() -> None:
    with pytest.raises(UnreadableRecord, match="did not exist in Europe/Berlin"):
        with_offset("2026-03-29 02:30", BERLIN, "t")
    assert with_offset("2017-10-15", ZoneInfo("America/Sao_Paulo"), "t") == "2017-10-15T01:00:00-02:00"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("gestern", "not a time; write it like"),
        ("01/02/2026", "day and month cannot be told apart"),
        ("31.02.2026", "there is no such day"),
        ("2026-01-31 25:00", "there is no such day or hour"),
        ("1769847300", "not a time"),
    ],
)
def test_what_is_no_time_is_told(text: str, fault: str) -> None:
    with pytest.raises(UnreadableRecord, match=fault):
        with_offset(text, BERLIN, "t")


def test_without_a_zone_it_is_told_how_to_say_one() -> None:
    with pytest.raises(UnreadableRecord, match=r't "2026-01-31 08:15": a time without an offset; .*--time-z'):
        with_offset("2026-01-31 08:15", None, "t")


@given(
    st.integers(-600_000_000, 4_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    st.sampled_from(["Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kathmandu"]),
)
def test_every_moment_of_a_zone_is_read_as_itself_or_as_the_first_of_its_name(
    moment: datetime, name: str
) -> None:
    zone = ZoneInfo(name)
    local = moment.astimezone(zone)

    read = datetime.fromisoformat(with_offset(f"{local:%Y-%m-%d %H:%M:%S}", zone, "t"))

    assert read.astimezone(UTC) == local.replace(fold=0).astimezone(UTC)
    assert local.fold or read == moment


def test_what_orders_the_records_is_the_moment_and_not_the_text() -> None:
    assert instant_of("2026-01-31T08:15:00+01:00") == instant_of("2026-01-31 07:15:00z")
    assert instant_of("2026-01-31T08:15:00") is None
    assert instant_of("soon") is None
