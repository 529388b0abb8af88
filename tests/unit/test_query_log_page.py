"""Pages of the log, without a database: fair windows, an order that never breaks, no event lost."""

from datetime import timedelta
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from tracking_query.log.log_page import LogPage, in_time_order, keys_of, share
from tracking_shared.contracts.cursors import Position
from tracking_shared.contracts.documents import EventDocument, position_key
from tracking_shared.contracts.timestamps import now

COUNTS = st.lists(st.integers(0, 40), min_size=1, max_size=8)
NOW = now()


def log_of(counts: list[int], times: st.DataObject) -> list[EventDocument]:
    """A log with `counts` events in its partitions; times may stand still and go back."""
    log: list[dict[str, Any]] = []
    for partition, count in enumerate(counts):
        for seq in range(1, count + 1):
            at = NOW + timedelta(seconds=times.draw(st.integers(0, 5)))
            key = position_key(partition, seq)
            log.append({"_id": key, "partition": partition, "seq": seq, "recorded_at": at})
    return cast(list[EventDocument], log)


def in_partition(events: list[EventDocument], partition: int) -> list[int]:
    return [event["seq"] for event in events if event["partition"] == partition]


@given(available=COUNTS, wanted=st.integers(1, 100), first=st.integers(0, 100))
def test_a_window_is_full_and_shared_evenly(available: list[int], wanted: int, first: int) -> None:
    shares = share(available, wanted, first)
    assert sum(shares) == min(wanted, sum(available))
    assert all(0 <= part <= there for part, there in zip(shares, available, strict=True))
    waiting = [part for part, there in zip(shares, available, strict=True) if part < there]
    assert not waiting or max(shares) - min(waiting) <= 1


def test_a_busy_partition_does_not_keep_the_others_waiting() -> None:
    assert share([10**6, 3, 0, 10], 12, first=0) == [5, 3, 0, 4]
    assert share([10**6, 10**6, 10**6], 1, first=5) == [0, 0, 1]


@given(counts=COUNTS, data=st.data())
def test_time_order_keeps_the_order_of_each_partition(counts: list[int], data: st.DataObject) -> None:
    log = log_of(counts, data)
    ordered = in_time_order(data.draw(st.permutations(log)))
    for partition, count in enumerate(counts):
        assert in_partition(ordered, partition) == list(range(1, count + 1))


@given(counts=COUNTS, data=st.data(), limit=st.integers(1, 30), width=st.integers(1, 30))
def test_pages_in_windows_hold_every_match_once(
    counts: list[int], data: st.DataObject, limit: int, width: int
) -> None:
    log = {event["_id"]: event for event in log_of(counts, data)}
    wanted = data.draw(st.sets(st.sampled_from(sorted(log)))) if log else set()
    head = Position("e", tuple(counts))
    found: list[EventDocument] = []
    seqs = [0] * len(counts)
    while True:
        page = LogPage(limit, head, seqs)
        while not (page.at_head or page.has_surplus):
            window = page.next_window(width)
            page.add(window, [log[key] for key in keys_of(window) if key in wanted])
        assert len(page.events) <= limit
        found += page.events
        seqs = list(page.position.seqs)
        if not page.has_surplus:
            break
        assert len(page.events) == limit
    assert {event["_id"] for event in found} == wanted
    assert len(found) == len(wanted)
    for partition in range(len(counts)):
        assert in_partition(found, partition) == sorted(in_partition(found, partition))


@given(counts=COUNTS, data=st.data(), limit=st.integers(1, 30))
def test_pages_from_a_sorted_run_hold_every_match_once(
    counts: list[int], data: st.DataObject, limit: int
) -> None:
    log = {event["_id"]: event for event in log_of(counts, data)}
    wanted = data.draw(st.sets(st.sampled_from(sorted(log)))) if log else set()
    found: list[EventDocument] = []
    seqs = [0] * len(counts)
    while True:
        page = LogPage(limit, Position("e", tuple(counts)), seqs)
        left = [log[key] for key in wanted if log[key]["seq"] > seqs[log[key]["partition"]]]
        left.sort(key=lambda event: (event["seq"], event["partition"]))
        page.add_sorted(left[: limit + 1])
        found += page.events
        if not page.has_surplus:
            break
        seqs = list(page.position.seqs)
        assert len(page.events) == limit
    assert page.at_head
    assert sorted(event["_id"] for event in found) == sorted(wanted)
