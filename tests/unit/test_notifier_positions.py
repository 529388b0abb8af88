"""Sequence arithmetic: whatever arrives, repeated or missing, each event is delivered once and in order."""

from hypothesis import given
from hypothesis import strategies as st

from notifier.positions import Fetch, Take, behind, plan, reached, unjoinable_because
from shared.cursors import Position


def test_what_follows_is_taken() -> None:
    assert plan(4, [5, 6, 7]) == [Take(0, 3)]


def test_what_was_delivered_is_dropped() -> None:
    assert plan(4, [3, 4]) == []
    assert plan(4, [3, 4, 5]) == [Take(2, 3)]


def test_a_jump_is_fetched_first() -> None:
    assert plan(4, [7, 8]) == [Fetch(5, 6), Take(0, 2)]
    assert plan(0, [1, 2, 5, 5, 6]) == [Take(0, 2), Fetch(3, 4), Take(2, 3), Take(4, 5)]


@given(
    length=st.integers(0, 60),
    batches=st.lists(st.lists(st.integers(1, 60), max_size=20), max_size=20),
)
def test_any_arrival_delivers_the_log_once_and_in_order(length: int, batches: list[list[int]]) -> None:
    delivered: list[int] = []
    for batch in batches:
        seqs = [seq for seq in batch if seq <= length]
        for step in plan(len(delivered), seqs):
            if isinstance(step, Fetch):
                delivered += range(step.first, step.through + 1)
            else:
                delivered += seqs[step.start : step.stop]
    for step in plan(len(delivered), [length] if length else []):  # the look at the end of the log
        delivered += [length] if isinstance(step, Take) else range(step.first, step.through + 1)
    assert delivered == list(range(1, length + 1))


def test_behind_and_reached() -> None:
    assert behind((1, 5, 3), (2, 5, 9)) == [0, 2]
    assert reached((2, 5), (2, 5))
    assert reached((3, 5), (2, 5))
    assert not reached((3, 4), (2, 5))


def test_which_positions_cannot_be_joined() -> None:
    heads = Position("abc", (5, 5))
    assert unjoinable_because(Position("abc", (0, 5)), heads) is None
    assert unjoinable_because(heads, heads) is None
    assert unjoinable_because(Position("abc", (0, 6)), heads) == "position-unknown"
    assert unjoinable_because(Position("xyz", (0, 0)), heads) == "epoch-changed"
    assert unjoinable_because(Position("abc", (0,)), heads) == "epoch-changed"
