"""Long polling: requests wait for the log to go on, with one poll of the database for all of them."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import zip_longest

from tracking_query.log.log_page import keys_of
from tracking_query.log.log_search import LogFilter
from tracking_query.metrics import WAITERS
from tracking_shared.contracts.cursors import Position
from tracking_shared.contracts.layout import padded
from tracking_shared.storage.database import Database, DatabaseUnavailable
from tracking_shared.storage.reads import bounded_read, read_log_end

POLL_SECONDS = 0.2
"""While anybody waits. Each poll reads the few documents of the positions, by nobody's filter."""

MAX_LOOKED_AT = 2000
"""New events that are looked at to tell whom they concern; with more of them, everybody looks again."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    wanted: LogFilter
    woken: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class _News:
    """The orders, merchants and statuses of the new events."""

    orders: frozenset[str]
    merchants: frozenset[str]
    statuses: frozenset[str]

    def may_concern(self, wanted: LogFilter) -> bool:
        """True if `wanted` may match one of them. Cheap, and sometimes true for nothing."""
        readable = wanted.readable
        return (
            (readable.orders is None or not readable.orders.isdisjoint(self.orders))
            and (readable.merchants is None or not readable.merchants.isdisjoint(self.merchants))
            and (not wanted.statuses or not wanted.statuses.isdisjoint(self.statuses))
        )


class LongPolling:
    """Wakes the requests that have read to the end of the log when something follows."""

    def __init__(self, database: Database, partitions: int) -> None:
        self._database = database
        self._partitions = partitions
        self._waiters: set[_Waiter] = set()
        self._polling: asyncio.Task[None] | None = None
        self._head: Position | None = None
        self._closed = False

    @property
    def waiters(self) -> int:
        """The number of waiting requests."""
        return len(self._waiters)

    async def wait(self, end: Position, wanted: LogFilter, seconds: float) -> bool:
        """Returns True when something may follow `end`, which was the end of the log; False after `seconds`.

        It can be True for nothing: the caller reads again, and waits again. The caller bounds how many wait.
        """
        if self._closed:
            return False
        if self._head is not None and _is_beyond(self._head, end):
            return True
        with WAITERS.track_inprogress():
            return await self._woken(_Waiter(wanted), end, seconds)

    def close(self) -> None:
        """Ends all waits, now and from now on: the service stops."""
        self._closed = True
        _wake(self._waiters)

    async def _woken(self, waiter: _Waiter, end: Position, seconds: float) -> bool:
        self._waiters.add(waiter)
        if self._polling is None:
            self._head = end
            self._polling = asyncio.create_task(self._poll())
        try:
            async with asyncio.timeout(seconds):
                await waiter.woken.wait()
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)
        return not self._closed

    async def _poll(self) -> None:
        try:
            while self._waiters:
                await asyncio.sleep(POLL_SECONDS)
                await self._look()
        except DatabaseUnavailable:
            pass  # those who wait read again, and find out
        finally:
            self._polling = self._head = None
            _wake(self._waiters)

    async def _look(self) -> None:
        with bounded_read():
            head = await read_log_end(self._database, self._partitions)
        if head != self._head:
            news = await self._news(head)
            self._head = head
            _wake(waiter for waiter in self._waiters if news is None or news.may_concern(waiter.wanted))

    async def _news(self, head: Position) -> _News | None:
        assert self._head is not None  # noqa: S101 - set before the poll begins
        window = [
            range(seq + 1, end + 1)
            for seq, end in zip(padded(self._head.seqs, len(head.seqs)), head.seqs, strict=True)
        ]
        if head.epoch != self._head.epoch or sum(map(len, window)) > MAX_LOOKED_AT:
            return None
        shown = {"order_id": 1, "merchant_id": 1, "status": 1}
        with bounded_read():
            events = await self._database.order_events.find(
                {"_id": {"$in": keys_of(window)}}, shown
            ).to_list()
        return _News(
            frozenset(event["order_id"] for event in events),
            frozenset(event["merchant_id"] for event in events),
            frozenset(event["status"] for event in events),
        )


def _is_beyond(head: Position, end: Position) -> bool:
    return head.epoch != end.epoch or any(h > e for h, e in zip_longest(head.seqs, end.seqs, fillvalue=0))


def _wake(waiters: Iterable[_Waiter]) -> None:
    for waiter in waiters:
        waiter.woken.set()
