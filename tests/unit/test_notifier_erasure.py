"""The notifier forgets an erased customer: in its window, in cached pages, and in pages being read."""

import asyncio
from typing import Any, cast

from notifier_samples import History

from tracking_notifier.hub import Hub
from tracking_notifier.log.event_log import EventLog
from tracking_notifier.log.shared_pages import SharedPages
from tracking_notifier.stream.events import Event, event_of
from tracking_shared.contracts.cursors import Position
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

ERASED_AT = "2026-03-02T09:41:00.250Z"
LIMIT_BYTES = 1024 * 1024


def events_of(number: int, *, with_erasure: bool = True) -> list[Event]:
    """Changes of two orders in turn; the last one erases the customer of the first order."""
    history = History(partitions=1)
    for index in range(number):
        history.apply(f"o-{index % 2}", "in_transit")
    documents: list[Any] = list(history.log[0])
    if with_erasure:
        erasing = dict(documents[-1])
        newest = documents[-2]
        erasing |= {"order_id": "o-0", "version": newest["version"] + 1, "seq": number + 1}
        erasing |= {"customer": None, "erased_at": newest["recorded_at"], "type": "order.customer_erased"}
        documents.append(erasing)
    return [event_of(document, DEFAULT_WORKFLOW) for document in documents]


def names(events: list[Event]) -> set[str]:
    """The orders that have a customer still."""
    return {event.order_id for event in events if b'"customer":{' in event.full}


def test_the_window_forgets_the_customer_and_counts_its_memory_right() -> None:
    hub = Hub(1, LIMIT_BYTES)
    hub.start(Position("epoch", (0,)))
    events = events_of(6)
    told: list[dict[str, str]] = []
    hub.on_erased = told.append
    [before] = [events[0].encoded(with_customer=False)]
    hub.publish(events)
    window = hub.recent_events.after(0, events[0].seq - 1, 100)
    assert window is not None
    assert names(window) == {"o-1"}
    assert [list(one) for one in told] == [["o-0"]]
    assert b"erased_at" not in before
    assert b"erased_at" in events[0].encoded(with_customer=False)
    assert b'"customer":null' in events[0].full
    assert hub.recent_events._sizes == [sum(event.memory_bytes for event in events)]


class Log:
    """A log that can be held up, and whose customer is erased meanwhile."""

    def __init__(self) -> None:
        self.is_erased = False
        self.reads = 0
        self.begun = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def read_page(self, _partition: int, after: int, last: int) -> list[Event]:
        self.reads += 1
        self.begun.set()
        found = events_of(10, with_erasure=False)
        if self.is_erased:
            for event in found:
                event.erase(ERASED_AT)
        await self.may_answer.wait()
        return found[after:last]


async def test_cached_pages_forget_the_customer() -> None:
    log = Log()
    pages = SharedPages(cast(EventLog, log), page_events=5, limit_bytes=LIMIT_BYTES)
    await pages.read_after(1, 0, 0, 10)
    pages.erase({"o-0": ERASED_AT})
    assert names(await pages.read_after(1, 0, 0, 10)) == {"o-1"}
    assert log.reads == 1
    assert pages._bytes == sum(one.memory_bytes for events in pages._cache.values() for one in events)


async def test_a_page_that_is_being_read_at_the_erasure_is_read_again() -> None:
    log = Log()
    pages = SharedPages(cast(EventLog, log), page_events=5, limit_bytes=LIMIT_BYTES)
    log.may_answer.clear()
    reading = asyncio.create_task(pages.read_after(1, 0, 0, 10))
    await log.begun.wait()
    log.is_erased = True
    pages.erase({"o-0": ERASED_AT, "o-1": ERASED_AT})
    log.may_answer.set()
    assert names(await reading) == set()
    assert log.reads == 2
