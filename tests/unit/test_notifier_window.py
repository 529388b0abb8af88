"""The window of recent events: exact, and bounded."""

from hypothesis import given
from hypothesis import strategies as st
from notifier_samples import ORDERS, History, changes

from tracking_notifier.hub import RecentEvents


@given(st.lists(changes, max_size=40), st.integers(0, 20_000), st.integers(0, 50), st.integers(1, 10))
def test_it_gives_what_follows_or_says_that_it_cannot(
    changes: list[tuple[str, str]], limit_bytes: int, after: int, limit: int
) -> None:
    history, window = History(), RecentEvents(2, limit_bytes)
    for change in changes:
        window.add(history.apply(*change))
    for partition, log in enumerate(history.log):
        events = window.after(partition, after, limit)
        if events is not None:
            wanted = range(after + 1, min(after + limit, len(log)) + 1)
            assert [event.seq for event in events] == list(wanted)


def test_it_keeps_the_newest_within_its_bound() -> None:
    history, window = History(partitions=1), RecentEvents(1, 20_000)
    for number in range(500):
        window.add(history.apply(ORDERS[number % 8], "in_transit"))
    held = window.after(0, 495, 10)
    assert held is not None
    assert [event.seq for event in held] == [496, 497, 498, 499, 500]
    assert window.after(0, 400, 10) is None


def test_an_empty_window_reaches_nowhere() -> None:
    assert RecentEvents(1, 20_000).after(0, 0, 10) is None
