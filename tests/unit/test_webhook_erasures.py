"""Whether a customer may have been erased since an event was read, as the end of the log says."""

from time import monotonic
from typing import cast

from hypothesis import given
from hypothesis import strategies as st
from webhook_memory import MemoryLog

from tracking_shared.contracts.cursors import Position
from tracking_webhooks.adapters.log_reader import LogReader
from tracking_webhooks.domain.recent_erasures import RecentErasures
from tracking_webhooks.processing.tail import RECENT_EVENTS, Tail

ORDERS = st.sampled_from("abcde")


@given(erased=st.lists(ORDERS, max_size=12), order_id=ORDERS, read_at=st.integers(0, 15))
def test_an_erasure_after_the_reading_is_never_overlooked(
    erased: list[str], order_id: str, read_at: int
) -> None:
    erasures = RecentErasures(maximum=3)
    erasures.start(0)
    for moment, erased_id in enumerate(erased, 1):
        erasures.add(erased_id, moment)
    erased_since = order_id in erased[max(read_at - 1, 0) :]

    assert erasures.may_concern(order_id, read_at) or not erased_since
    if read_at and len(set(erased)) <= 3:
        assert erasures.may_concern(order_id, read_at) == erased_since


def test_before_the_first_look_nothing_is_known() -> None:
    assert RecentErasures().may_concern("a", monotonic())


async def test_an_event_is_unchanged_until_its_order_is_erased() -> None:
    log, tail = _log_and_tail()
    await tail._look()
    first, other = log.add("a"), log.add("c")
    read_at = monotonic()
    await tail._look()
    assert tail.is_unchanged(first, read_at, read_at)

    log.erase("a")
    assert tail.is_unchanged(first, read_at, read_at)
    assert not tail.is_unchanged(first, read_at, monotonic())  # the tail has not looked since
    until = monotonic()
    await tail._look()
    assert not tail.is_unchanged(first, read_at, until)
    assert tail.is_unchanged(other, read_at, until)
    assert tail.is_unchanged(first, monotonic() + 1, until)  # read again


async def test_of_events_that_were_left_out_and_of_archived_orders_nothing_is_known() -> None:
    log, tail = _log_and_tail()
    await tail._look()
    event = log.add("a")
    read_at = monotonic()
    await tail._look()
    log.erase("a")
    others = (event | {"seq": 3 + number} for number in range(RECENT_EVENTS + 1))
    log.events[event["partition"]] += list(others)
    await tail._look()
    assert not tail.is_unchanged(event, read_at, read_at)

    log, tail = _log_and_tail()
    await tail._look()
    event = log.add("a")
    await tail._look()
    assert tail.is_unchanged(event, monotonic(), 0)
    log.archived.add("a")
    await tail._look()
    assert not tail.is_unchanged(event, monotonic(), 0)


async def test_of_events_of_a_replaced_log_with_fewer_partitions_nothing_is_known() -> None:
    log, tail = _log_and_tail()
    await tail._look()
    event = log.add("a")
    await tail._look()
    assert event["partition"] == 1
    tail.start = Position("another", (0,))
    tail._start(tail.start)
    assert not tail.is_unchanged(event, 0.0, 0.0)


def _log_and_tail() -> tuple[MemoryLog, Tail]:
    log = MemoryLog()
    return log, Tail(cast(LogReader, log))
