"""Sequence arithmetic: whatever arrives, repeated or missing, each event is delivered once and in order."""

from hypothesis import given
from hypothesis import strategies as st

from tracking_notifier.stream.events import (
    FetchRange,
    PublishRange,
    has_reached,
    lagging_partitions,
    plan_batch,
)
from tracking_shared.contracts.cursors import Position, resync_reason


def test_what_follows_is_taken() -> None:
    assert plan_batch(4, [5, 6, 7]) == [PublishRange(0, 3)]


def test_what_was_delivered_is_dropped() -> None:
    assert plan_batch(4, [3, 4]) == []
    assert plan_batch(4, [3, 4, 5]) == [PublishRange(2, 3)]


def test_a_jump_is_fetched_first() -> None:
    assert plan_batch(4, [7, 8]) == [FetchRange(5, 6), PublishRange(0, 2)]
    assert plan_batch(0, [1, 2, 5, 5, 6]) == [
        PublishRange(0, 2),
        FetchRange(3, 4),
        PublishRange(2, 3),
        PublishRange(4, 5),
    ]


@given(
    length=st.integers(0, 60),
    batches=st.lists(st.lists(st.integers(1, 60), max_size=20), max_size=20),
)
def test_any_arrival_delivers_the_log_once_and_in_order(length: int, batches: list[list[int]]) -> None:
    delivered: list[int] = []
    for batch in batches:
        seqs = [seq for seq in batch if seq <= length]
        for step in plan_batch(len(delivered), seqs):
            if isinstance(step, FetchRange):
                delivered += range(step.first, step.last + 1)
            else:
                delivered += seqs[step.start : step.stop]
    for step in plan_batch(len(delivered), [length] if length else []):  # the check of the end of the log
        delivered += [length] if isinstance(step, PublishRange) else range(step.first, step.last + 1)
    assert delivered == list(range(1, length + 1))


def test_behind_and_reached() -> None:
    assert lagging_partitions((1, 5, 3), (2, 5, 9)) == [0, 2]
    assert has_reached((2, 5), (2, 5))
    assert has_reached((3, 5), (2, 5))
    assert not has_reached((3, 4), (2, 5))


def test_which_positions_cannot_be_joined() -> None:
    heads = Position("abc", (5, 5))
    assert resync_reason(Position("abc", (0, 5)), heads) is None
    assert resync_reason(heads, heads) is None
    assert resync_reason(Position("abc", (0, 6)), heads) == "position-unknown"
    assert resync_reason(Position("xyz", (0, 0)), heads) == "epoch-changed"
    assert resync_reason(Position("abc", (0,)), heads) is None, "from before a partition was added"
    assert resync_reason(Position("abc", (0, 0, 0)), heads) == "epoch-changed"
