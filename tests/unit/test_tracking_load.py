"""How a load cuts records into batches, and what it counts."""

from collections import deque
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tracking.batch_client import is_decided
from tracking.load import BATCH_BYTES, BATCH_RECORDS, Summary, lane_of, take_batch
from tracking.load_view import describe
from tracking.records import Record


def _record(order_id: str, number: int = 0, size: int = 10, *, creates: bool = False) -> Record:
    return Record(f"a.csv:{number}", 0, body=b"x" * size, order_key=order_id, creates=creates)


@given(st.lists(st.integers(0, 20), max_size=200))
def test_batches_keep_the_order_of_each_order_and_hold_it_once(order_numbers: list[int]) -> None:
    records = [_record(f"o-{order}", n) for n, order in enumerate(order_numbers)]
    waiting = deque(records)
    sent: list[Record] = []
    while waiting:
        batch = take_batch(waiting)
        assert batch
        assert len({record.order_key for record in batch}) == len(batch)
        sent += batch

    for order in {record.order_key for record in records}:
        assert [r for r in sent if r.order_key == order] == [r for r in records if r.order_key == order]


def test_a_batch_is_bounded_by_number_and_by_bytes() -> None:
    many = deque(_record(f"o-{n}") for n in range(BATCH_RECORDS + 1))
    large = deque(_record(f"o-{n}", size=60_000) for n in range(30))

    assert len(take_batch(many)) == BATCH_RECORDS
    assert len(many) == 1
    batch = take_batch(large)
    assert BATCH_BYTES - 61_000 < sum(len(record.body) for record in batch) < BATCH_BYTES


def test_one_record_larger_than_the_bound_goes_alone() -> None:
    waiting = deque([_record("o-1", size=BATCH_BYTES + 1), _record("o-2")])

    assert [record.order_key for record in take_batch(waiting)] == ["o-1"]


def test_an_order_stays_in_its_lane() -> None:
    assert len({lane_of(_record("o-1", n), 8) for n in range(20)}) == 1
    assert len({lane_of(_record(f"o-{n}"), 8) for n in range(200)}) == 8


def _rejected(slug: str, status: int) -> dict[str, Any]:
    problem = {"type": f"/problems/{slug}", "status": status, "title": "No", "detail": "Not so."}
    return {"outcome": "rejected", "problem": problem}


def test_outages_and_unknown_outcomes_are_not_decided() -> None:
    assert is_decided({"outcome": "applied"})
    assert is_decided({"outcome": "duplicate"})
    assert is_decided(_rejected("invalid-transition", 409))
    assert not is_decided({"outcome": "accepted"})
    assert not is_decided(_rejected("broker-unavailable", 503))
    assert not is_decided(_rejected("too-many-requests", 429))


def test_the_summary_counts_and_tells_the_first_refusals() -> None:
    summary = Summary()
    summary.add_result(_record("o-1", 2, creates=True), {"outcome": "applied"})
    summary.add_result(_record("o-1", 3), {"outcome": "duplicate"})
    for number in range(20):
        summary.add_result(_record("o-1", number), _rejected("invalid-transition", 409))
    summary.add_fault(Record("a.csv:9", 0, fault="not JSON"))

    text = describe(summary)

    assert "orders 1, updates 21: applied 1, duplicate 1, rejected 20 (20 invalid-transition)" in text
    assert "not readable, not sent: 1" in text
    assert "a.csv:0: Not so." in text
    assert len(summary.examples) == 10
