"""The throttle of the feed: single events are sent at once, frequent ones share a message."""

import pytest

from tracking_notifier.log.feed import BURST_SECONDS, MAX_PAUSE_SECONDS, PAUSE_FACTOR, FlushThrottle


def pauses(*flushes: tuple[float, float]) -> list[float]:
    """The pauses after flushes, each given by the idle time before it and by its duration."""
    throttle, now = FlushThrottle(), 100.0
    found: list[float] = []
    for idle, took in flushes:
        began_at = now + idle
        found.append(throttle.pause_after(began_at, began_at + took))
        now = began_at + took + found[-1]
    return found


def test_single_events_to_a_thousand_dashboards_are_not_delayed() -> None:
    assert pauses(*[(0.040 - 0.009, 0.009)] * 1000) == [0.0] * 1000


def test_one_slow_flush_among_single_events_delays_nobody() -> None:
    assert pauses((0.030, 0.008), (0.030, 0.016), *[(0.030, 0.008)] * 10) == [0.0] * 12


def test_flushes_that_follow_each_other_soon_get_a_quarter_of_the_time() -> None:
    found = pauses(*[(0.0, 0.008)] * 100)
    assert found[0] == 0
    assert found[50:] == [pytest.approx(PAUSE_FACTOR * 0.008)] * 50


def test_a_pause_is_bounded_and_so_is_the_pause_time_that_is_owed() -> None:
    found = pauses(*[(0.0, 1.0)] * 10, (BURST_SECONDS + MAX_PAUSE_SECONDS, 0.001))
    assert max(found) == pytest.approx(MAX_PAUSE_SECONDS)
    assert found[-1] == 0
