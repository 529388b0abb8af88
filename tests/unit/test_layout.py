"""The layout of partitions: whatever is added, an order keeps its home, and positions stay valid."""

from hypothesis import given
from hypothesis import strategies as st

from tracking_shared.contracts.cursors import Position, is_before, resync_reason
from tracking_shared.contracts.identifiers import partition_of
from tracking_shared.contracts.layout import (
    Layout,
    Routing,
    Switch,
    layout_in,
    layout_of,
    padded,
    refusal_of,
    routing_of,
    switch_of,
)

COUNTS = st.lists(st.integers(1, 40), min_size=1, max_size=6).map(tuple)
ORDER_IDS = st.text("abcdef0123456789-", min_size=1, max_size=20)


def test_each_generation_adds_its_partitions_behind_those_before() -> None:
    layout = Layout((4, 16, 8))
    assert layout.partitions == 28
    assert layout.generation == 2
    first, second, third = layout.homes("acme-1001")
    assert first in range(4)
    assert second in range(4, 20)
    assert third in range(20, 28)
    assert layout.new_home("acme-1001") == third


@given(st.integers(1, 1024), ORDER_IDS)
def test_in_the_first_generation_the_home_is_the_partition_of_the_hash(count: int, order_id: str) -> None:
    assert Layout((count,)).homes(order_id) == [partition_of(order_id, count)]


@given(COUNTS, st.integers(1, 40), ORDER_IDS)
def test_a_change_keeps_every_possible_home(counts: tuple[int, ...], count: int, order_id: str) -> None:
    before = Layout(counts)
    after = before.with_generation(count)
    assert after.homes(order_id)[:-1] == before.homes(order_id)
    assert after.new_home(order_id) in range(before.partitions, after.partitions)


@given(COUNTS)
def test_the_documents_of_the_partitions_tell_the_layout(counts: tuple[int, ...]) -> None:
    documents = [
        {"added_in": generation} if generation else {}
        for generation, count in enumerate(counts)
        for _ in range(count)
    ]
    assert layout_in(documents) == Layout(counts)


def test_settings_of_an_earlier_release_have_one_generation() -> None:
    settings = {"_id": "partitions", "count": 4, "epoch": "e"}
    assert layout_of(settings) == Layout((4,))
    assert routing_of(settings) == Routing(Layout((4,)))
    assert switch_of(settings) is None


def test_settings_tell_the_change_that_is_under_way() -> None:
    switch = {"count": 8, "phase": "fenced", "attempt": 3}
    settings = {"count": 16, "counts": [4, 16], "route": 1, "switch": switch}
    assert routing_of(settings) == Routing(Layout((4, 16)), 1, is_fenced=True)
    assert switch_of(settings) == Switch(8, "fenced", 3)


def test_a_number_that_cannot_be_is_refused() -> None:
    assert refusal_of(Layout((4,)), 0)
    assert refusal_of(Layout((4,)), 1025)
    assert refusal_of(Layout((1000,)), 25)
    assert refusal_of(Layout((1000,)), 24) is None


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=5), st.integers(0, 4))
def test_a_position_from_before_a_change_goes_on_as_one_that_has_read_nothing_of_the_new_partitions(
    pairs: list[tuple[int, int]], added: int
) -> None:
    seqs = tuple(min(pair) for pair in pairs)
    end = (*(max(pair) for pair in pairs), *range(added))
    before = Position("e", seqs)
    after = Position("e", padded(seqs, len(end)))
    assert resync_reason(before, Position("e", end)) is None
    assert resync_reason(after, Position("e", end)) is None
    assert is_before(before, Position("e", end)) == is_before(after, Position("e", end))


def test_a_position_of_more_partitions_than_the_log_has_is_none_of_it() -> None:
    assert resync_reason(Position("e", (1, 0)), Position("e", (1,))) == "epoch-changed"


def test_a_position_of_fewer_partitions_than_the_log_had_at_its_start_is_none_of_it() -> None:
    end = Position("e", (1, 0, 0), first_partitions=2)
    assert resync_reason(Position("e", (1,)), end) == "epoch-changed"
    assert resync_reason(Position("e", (1, 0)), end) is None
