"""The buckets of the reports: whole hours and days of a zone, without holes, whatever its clocks do."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking_query.reports.figures import MAX_BUCKETS, Buckets, Interval, TooManyBuckets, cut

ZONES = ["UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Kolkata", "Australia/Lord_Howe", "America/Havana"]


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def hours(buckets: Buckets) -> list[float]:
    ends = [*buckets.starts[1:], buckets.end]
    return [(end - start) / timedelta(hours=1) for start, end in zip(buckets.starts, ends, strict=True)]


@pytest.mark.parametrize(
    ("zone", "start", "end", "expected"),
    [
        ("Europe/Berlin", "2026-03-27T23:00", "2026-03-30T22:00", [24, 23, 24]),
        ("Europe/Berlin", "2026-10-23T22:00", "2026-10-26T23:00", [24, 25, 24]),
        ("America/Sao_Paulo", "2017-10-14T03:00", "2017-10-17T02:00", [24, 23, 24]),
        ("America/Sao_Paulo", "2018-02-17T02:00", "2018-02-20T03:00", [25, 24, 24]),
        ("America/Havana", "2026-10-31T04:00", "2026-11-03T05:00", [24, 25, 24]),
    ],
)
def test_a_day_is_as_long_as_it_is_in_its_zone(
    zone: str, start: str, end: str, expected: list[float]
) -> None:
    assert hours(cut(day(start), day(end), "day", ZoneInfo(zone))) == expected


def test_the_hour_that_comes_twice_is_two_hours() -> None:
    buckets = cut(day("2026-10-25T00:00"), day("2026-10-25T02:00"), "hour", ZoneInfo("Europe/Berlin"))
    assert [buckets.local(number) for number in (0, 1)] == [
        "2026-10-25T02:00:00+02:00",
        "2026-10-25T02:00:00+01:00",
    ]


def test_a_day_whose_midnight_comes_twice_starts_at_the_first() -> None:
    second_half_past_midnight = day("2026-11-01T05:30")
    buckets = cut(second_half_past_midnight, day("2026-11-02T05:00"), "day", ZoneInfo("America/Havana"))
    assert buckets.starts == (day("2026-11-01T04:00"),)


def test_the_first_bucket_holds_only_what_is_in_the_range() -> None:
    buckets = cut(day("2026-03-01T12:30"), day("2026-03-03T00:00"), "day", ZoneInfo("UTC"))
    assert buckets.starts == (day("2026-03-01"), day("2026-03-02"))
    assert buckets.index(day("2026-03-01T12:29")) is None
    assert buckets.index(day("2026-03-01T12:30")) == 0
    assert buckets.index(day("2026-03-03")) is None


@given(
    zone=st.sampled_from(ZONES),
    start=st.integers(0, 12 * 365 * 24 * 60).map(
        lambda minutes: day("2015-01-01") + timedelta(minutes=minutes)
    ),
    length=st.timedeltas(timedelta(0), timedelta(days=20)),
    interval=st.sampled_from(["hour", "day"]),
    part=st.floats(0, 1, exclude_max=True),
)
def test_every_time_of_the_range_is_in_the_bucket_of_its_local_hour_or_day(
    zone: str, start: datetime, length: timedelta, interval: Interval, part: float
) -> None:
    end = start + length
    buckets = cut(start, end, interval, ZoneInfo(zone))
    assert list(buckets.starts) == sorted(set(buckets.starts))
    time = start + part * length
    number = buckets.index(time)
    if not start <= time < end:
        assert number is None
        return
    assert number is not None
    begin = buckets.starts[number]
    assert begin <= time
    local, local_begin = time.astimezone(ZoneInfo(zone)), begin.astimezone(ZoneInfo(zone))
    assert local.date() == local_begin.date()
    if interval == "hour" and zone != "Australia/Lord_Howe":  # it sets its clocks by half an hour
        assert local.hour == local_begin.hour
        assert time - begin < timedelta(hours=1)


def test_a_range_of_too_many_buckets_is_refused_before_they_are_made() -> None:
    start = day("2000-01-01")
    with pytest.raises(TooManyBuckets):
        cut(start, start + timedelta(hours=MAX_BUCKETS + 1), "hour", ZoneInfo("UTC"))
