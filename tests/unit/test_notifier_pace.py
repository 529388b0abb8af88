"""The pace of the feed: single events go out at once, what comes fast travels together."""

import pytest

from notifier.pace import ALLOWED_SECONDS, MAX_REST_SECONDS, REST_FACTOR, Pace


def rests(*flushes: tuple[float, float]) -> list[float]:
    """The rests after flushes, each told by how much later than possible it began and how long it took."""
    pace, now = Pace(), 100.0
    found: list[float] = []
    for idle, took in flushes:
        began_at = now + idle
        found.append(pace.rest_after(began_at, began_at + took))
        now = began_at + took + found[-1]
    return found


def test_single_events_to_a_thousand_dashboards_are_not_delayed() -> None:
    assert rests(*[(0.040 - 0.009, 0.009)] * 1000) == [0.0] * 1000


def test_one_slow_flush_among_single_events_delays_nobody() -> None:
    assert rests((0.030, 0.008), (0.030, 0.016), *[(0.030, 0.008)] * 10) == [0.0] * 12


def test_flushes_that_follow_each_other_soon_get_a_quarter_of_the_time() -> None:
    found = rests(*[(0.0, 0.008)] * 100)
    assert found[0] == 0
    assert found[50:] == [pytest.approx(REST_FACTOR * 0.008)] * 50


def test_a_rest_is_bounded_and_so_is_what_is_owed() -> None:
    found = rests(*[(0.0, 1.0)] * 10, (ALLOWED_SECONDS + MAX_REST_SECONDS, 0.001))
    assert max(found) == pytest.approx(MAX_REST_SECONDS)
    assert found[-1] == 0
