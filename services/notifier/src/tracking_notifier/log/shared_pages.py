"""Pages of the event log that clients share: clients that reconnect together have missed the same events."""

from collections import OrderedDict
from functools import partial
from typing import NamedTuple

from tracking_notifier.errors import PositionExpired
from tracking_notifier.log.event_log import PAGE_EVENTS, EventLog
from tracking_notifier.stream.events import Erased, Event, erase_in
from tracking_shared.storage.shared_reads import SharedReads

SHARED_PAGES_BYTES = 32 * 1024 * 1024
"""Decoded events that are cached: some 40 pages."""


class _Page(NamedTuple):
    """The events `first` to `last` of a partition, in one generation of the log. They never change, except
    that customers are erased.
    """

    generation: int
    partition: int
    first: int
    last: int


class SharedPages:
    """Reads each page of the log once for all clients that need it: clients that reconnect together have
    missed the same events. The cache is bounded in bytes.
    """

    def __init__(
        self, log: EventLog, *, page_events: int = PAGE_EVENTS, limit_bytes: int = SHARED_PAGES_BYTES
    ) -> None:
        self._log = log
        self._page_events = page_events
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._erasures = 0
        self._cache: OrderedDict[_Page, list[Event]] = OrderedDict()
        self._reads: SharedReads[_Page, list[Event]] = SharedReads()

    async def read_after(self, generation: int, partition: int, seq: int, last: int) -> list[Event]:
        """The events that follow `seq`, up to `last` and to the end of the page.

        Raises:
            PositionExpired: some of them were archived.
            DatabaseUnavailable: it did not answer, or an event is missing in the log.
        """
        # Pages begin at fixed sequence numbers, so that readers at different positions need the same page.
        first = seq // self._page_events * self._page_events + 1
        page = _Page(generation, partition, first, min(first + self._page_events - 1, last))
        events = self._cache.get(page)
        if events is None:
            events = await self._reads.read(page, partial(self._fetch, page))
        else:
            self._cache.move_to_end(page)
        following = [event for event in events if event.seq > seq]
        if not following or following[0].seq != seq + 1:
            raise PositionExpired(f"the log does not contain what follows {seq} in partition {partition}")
        return following

    def erase(self, erased: Erased) -> None:
        """Erases the customers of these orders. Pages that are being read are read again."""
        self._erasures += 1
        for events in self._cache.values():
            self._bytes -= erase_in(events, erased)

    async def _fetch(self, page: _Page) -> list[Event]:
        while True:
            erasures = self._erasures
            events = await self._log.read_page(page.partition, page.first - 1, page.last)
            if erasures == self._erasures:
                break
        self._cache[page] = events
        self._bytes += sum(event.memory_bytes for event in events)
        while self._bytes > self._limit_bytes:
            _, oldest = self._cache.popitem(last=False)
            self._bytes -= sum(event.memory_bytes for event in oldest)
        return events
