"""Pages of the log that its readers share: clients that come back together have missed the same events."""

import asyncio
from collections import OrderedDict
from typing import NamedTuple

from notifier.events import Event
from notifier.log import PAGE_EVENTS, EventLog
from notifier.window import memory_of

PAGES_BYTES = 32 * 1024 * 1024
"""Of decoded events kept: some 40 pages."""


class _Page(NamedTuple):
    """The events `first` to `last` of a partition, of one generation of the log. They never change."""

    generation: int
    partition: int
    first: int
    last: int


class Pages:
    """Reads each page once, however many ask for it while it is read or remembered. Bounded in bytes."""

    def __init__(
        self, log: EventLog, *, page_events: int = PAGE_EVENTS, limit_bytes: int = PAGES_BYTES
    ) -> None:
        self._log = log
        self._page_events = page_events
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._kept: OrderedDict[_Page, list[Event]] = OrderedDict()
        self._under_way: dict[_Page, asyncio.Task[list[Event]]] = {}

    async def after(self, generation: int, partition: int, seq: int, through: int) -> list[Event]:
        """The events that follow `seq`, up to `through`: those of one page.

        Raises:
            DatabaseUnavailable: it did not answer, or the log has a hole there.
        """
        # Pages begin at fixed places, so that readers who stand at different ones ask for the same page.
        first = seq // self._page_events * self._page_events + 1
        page = _Page(generation, partition, first, min(first + self._page_events - 1, through))
        events = self._kept.get(page)
        if events is None:
            events = await self._read(page)
        else:
            self._kept.move_to_end(page)
        return events[seq + 1 - first :]

    async def _read(self, page: _Page) -> list[Event]:
        task = self._under_way.get(page)
        if task is None:
            task = self._under_way[page] = asyncio.create_task(self._fetch(page))
            task.add_done_callback(_retrieve)
        return await asyncio.shield(task)  # whoever asked first may go while others wait

    async def _fetch(self, page: _Page) -> list[Event]:
        try:
            events = await self._log.page(page.partition, page.first - 1, page.last)
        finally:
            del self._under_way[page]
        self._kept[page] = events
        self._bytes += sum(map(memory_of, events))
        while self._bytes > self._limit_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= sum(map(memory_of, oldest))
        return events


def _retrieve(task: asyncio.Task[list[Event]]) -> None:
    # Otherwise a failure that nobody waited for any more would be reported as a fault.
    if not task.cancelled():
        task.exception()
