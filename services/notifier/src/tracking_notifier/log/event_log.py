"""Reads of the event log and of the orders: pages of events, snapshots, and a periodic check of its
end.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from time import monotonic

from tracking_notifier.errors import NotifierError
from tracking_notifier.hub import Hub
from tracking_notifier.metrics import LAG
from tracking_notifier.stream.events import Event, event_of
from tracking_notifier.stream.filters import Audience, snapshot_order, snapshot_query
from tracking_shared.contracts.cursors import Position, resync_reason
from tracking_shared.contracts.documents import EventDocument, OrderDocument
from tracking_shared.contracts.layout import padded
from tracking_shared.contracts.workflow import Workflow
from tracking_shared.storage.database import Database, DatabaseUnavailable, driver_errors
from tracking_shared.storage.keyset import read_pages
from tracking_shared.storage.reads import (
    CausalReads,
    read_events,
    read_log_ends,
    read_log_ends_to_resume,
    read_newest_log_end,
)

log = logging.getLogger(__name__)

PAGE_EVENTS = 500
PAGE_ORDERS = 200

QUERY_ORDERS = 5_000
"""Orders of a snapshot that one query reads: the time of a query is bounded, that of a snapshot is not."""

CONCURRENT_READS = 16
"""Further reads wait: clients that reconnect together must not overload the database."""

CHECK_SECONDS = 1.0
"""The interval of checks of the end of the log. An event that the broker lost, and that no later event
reveals, is delivered after one to two intervals; without a broker, every event within one."""


class LogIncomplete(NotifierError, DatabaseUnavailable):
    """Events are missing in the log, which must never happen. Readers cannot continue before them."""


class EventLog:
    """The event log and the orders in the database. Each instance bounds its own concurrent reads."""

    def __init__(
        self, database: Database, workflow: Workflow, partitions: int, *, query_orders: int = QUERY_ORDERS
    ) -> None:
        self._database = database
        self._query_orders = query_orders
        self._workflow = workflow
        self._partitions = partitions
        self._reads = asyncio.Semaphore(CONCURRENT_READS)
        self._causal = CausalReads(database)
        self.start: Position | None = None
        """Where the log began when its end was read last. None: not read yet."""

    async def read_end(self) -> Position:
        """Reads the end of the log.

        Raises:
            DatabaseUnavailable: also while the database is not set up yet.
        """
        with driver_errors():
            async with self._causal.session() as session:
                self.start, end = await read_log_ends(self._database, self._partitions, session)
        return end

    async def read_end_to_resume(self, position: Position) -> Position:
        """Reads the end of the log for a reader that resumes from `position` (`read_log_ends_to_resume`).

        Raises:
            DatabaseUnavailable: as `read_end`.
        """
        with driver_errors():
            async with self._causal.session() as session:
                self.start, end = await read_log_ends_to_resume(
                    self._database, self._partitions, position, session
                )
        return end

    async def advance_to(self, position: Position) -> None:
        """Makes all later reads at least as recent as `position`, which may be known from the broker only.

        Raises:
            DatabaseUnavailable: as `read_end`.
        """
        await self.read_end_to_resume(position)

    async def read_page(self, partition: int, after: int, last: int) -> list[Event]:
        """Reads the events after the sequence number `after`, up to `last`, at most `PAGE_EVENTS`.

        Events before the beginning of the log are left out if one of them is missing.

        Raises:
            DatabaseUnavailable: it did not answer.
            LogIncomplete: an event is missing in the log.
        """
        last = min(last, after + PAGE_EVENTS)
        events = await self._read_events(partition, after + 1, last)
        first = after + 1
        if len(events) < last - after:
            with driver_errors():
                async with self._causal.session() as session:
                    # Makes the next read at least as recent as the commit of these events.
                    await read_newest_log_end(self._database, self._partitions, session)
                    start, _ = await read_log_ends(self._database, self._partitions, session)
            first = max(first, start.seqs[partition] + 1)
            events = await self._read_events(partition, first, last)
        if [event["seq"] for event in events] != list(range(first, last + 1)):
            raise LogIncomplete(f"events {first} to {last} of partition {partition} are not all there")
        return [event_of(event, self._workflow) for event in events]

    async def _read_events(self, partition: int, first: int, last: int) -> list[EventDocument]:
        async with self._reads:
            with driver_errors():
                async with self._causal.session() as session:
                    return await read_events(self._database, partition, first, last, session)

    async def read_snapshot(self, audience: Audience) -> AsyncIterator[list[OrderDocument]]:
        """Reads the orders of a snapshot for this audience, in pages.

        An order that changes during the read may be included twice or not at all. Its event has the new
        state.

        Raises:
            DatabaseUnavailable: the database did not answer.
        """
        query = snapshot_query(audience)
        async with self._causal.session() as session:
            pages = read_pages(
                self._database.orders,
                query,
                snapshot_order(query),
                batch=PAGE_ORDERS,
                page=self._query_orders,
                session=session,
            )
            async with aclosing(pages):
                while (documents := await self._next_page(pages)) is not None:
                    yield [document for document in documents if audience.includes(document)]

    async def _next_page(self, pages: AsyncIterator[list[OrderDocument]]) -> list[OrderDocument] | None:
        async with self._reads:
            with driver_errors():
                return await anext(pages, None)


class LogCheck:
    """Reads the end of the log about once a second and compares it with the hub. It runs next to the feed, so
    that a slow database delays no event.
    """

    def __init__(self, hub: Hub, event_log: EventLog, partitions: int) -> None:
        self._hub = hub
        self._log = event_log
        self._partitions = partitions
        self._exported = 0
        self._latest: Position | None = None
        self._end_before: Position | None = None
        self._newest: Position | None = None
        self.is_replaced = False
        """True if the hub cannot continue in this log: it was replaced, or set back."""
        self.checked_at = monotonic()
        """The time of the last check that succeeded."""

    def take_end_before(self) -> Position | None:
        """The end of the log at the check before the last one; None if it was taken already. Events up to it
        that the hub lacks were missed. Newer ones are most likely on their way.
        """
        end, self._end_before = self._end_before, None
        return end

    def take_latest(self) -> Position | None:
        """The end of the log at the last check; None if it was taken already. For a feed without a broker."""
        latest, self._latest, self._end_before = self._latest, None, None
        return latest

    def reset(self) -> None:
        """Drops the results of a log that was replaced."""
        self.is_replaced, self._end_before, self._latest = False, None, None

    def record(self, end: Position) -> None:
        """Records the result of a check."""
        self._end_before, self._latest, self._newest = self._latest, end, end

    def lag_events(self, partition: int) -> int:
        """The events that the log had at the last check and that the hub has not published by now."""
        if self._newest is None or not self._hub.is_started:
            return 0
        newest, published = self._newest.seqs, padded(self._hub.seqs, partition + 1)
        return max(newest[partition] - published[partition], 0) if partition < len(newest) else 0

    def _export(self, partitions: int) -> None:
        for partition in range(self._exported, partitions):
            LAG.labels(partition).set_function(partial(self.lag_events, partition))
        self._exported = max(self._exported, partitions)

    async def run(self) -> None:
        """Checks until it is cancelled."""
        self._export(self._partitions)
        while True:
            # The hub may move on while the database answers, so the answer is compared with the position
            # before.
            position = self._hub.position
            try:
                end = await self._log.read_end_to_resume(position)
            except DatabaseUnavailable as error:
                log.warning("cannot read the end of the log: %s", error)
            else:
                self.checked_at = monotonic()
                self._export(len(end.seqs))
                self._hub.log_start = self._log.start
                self.is_replaced = resync_reason(position, end) is not None
                self.record(end)
            await asyncio.sleep(CHECK_SECONDS)
