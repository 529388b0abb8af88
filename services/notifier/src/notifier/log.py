"""Reads of the durable log and of the orders: positions, pages of events, snapshots."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

from notifier.events import Event, event_of
from notifier.filters import Audience, order_query, snapshot_order
from notifier.positions import unjoinable_because
from shared.causal_reads import CausalReads, newest_partitions
from shared.cursors import Position
from shared.database import Database, DatabaseUnavailable, driver_errors
from shared.documents import EventDocument, OrderDocument, PartitionDocument, position_key
from shared.key_pages import read_pages
from shared.workflow import Workflow

PAGE_EVENTS = 500
PAGE_ORDERS = 200

QUERY_ORDERS = 5_000
"""Orders of a snapshot that one query reads: the time of a query is bounded, that of a snapshot is not."""

CONCURRENT_READS = 16
"""Beyond this, readers wait for each other: clients that come back together must not drown the database."""


class LogIncomplete(DatabaseUnavailable):
    """Events are missing in the log, which must never be. Whoever stands before them cannot go on."""


class EventLog:
    """The log as its readers see it. The pages asked for at once are bounded per instance."""

    def __init__(
        self, database: Database, workflow: Workflow, partitions: int, *, query_orders: int = QUERY_ORDERS
    ) -> None:
        self._database = database
        self._query_orders = query_orders
        self._workflow = workflow
        self._partitions = partitions
        self._reads = asyncio.Semaphore(CONCURRENT_READS)
        self._causal = CausalReads(database)

    async def heads(self) -> Position:
        """The newest position of every partition.

        Raises:
            DatabaseUnavailable: also while the database is not set up yet.
        """
        with driver_errors():
            async with self._causal.session() as session:
                documents = await self._database.partitions.find({}, session=session).to_list(None)
        return self._heads_of(documents)

    async def heads_to_join(self, position: Position) -> Position:
        """The same. If `position` cannot be joined there, that is asked once more, surely: a primary that was
        just elected may answer from before the newest commits, and a reader who is told that its position
        is none of this log's begins anew.

        Raises:
            DatabaseUnavailable: as `heads`.
        """
        heads = await self.heads()
        return heads if unjoinable_because(position, heads) is None else await self._newest_heads()

    async def reach(self, position: Position) -> None:
        """Whatever is read from now on is not from before the events up to `position`, which may have come
        from the broker.

        Raises:
            DatabaseUnavailable: as `heads`.
        """
        await self.heads_to_join(position)

    async def _newest_heads(self) -> Position:
        with driver_errors():
            async with self._causal.session() as session:
                return self._heads_of(await newest_partitions(self._database, session))

    def _heads_of(self, documents: list[PartitionDocument]) -> Position:
        documents.sort(key=lambda document: document["_id"])
        if [document["_id"] for document in documents] != list(range(self._partitions)):
            raise DatabaseUnavailable("the log is not set up yet: order-state does that when it starts")
        return Position(documents[0]["epoch"], tuple(document["seq"] for document in documents))

    async def page(self, partition: int, after: int, through: int) -> list[Event]:
        """The events that follow `after` in their order, up to `through`, at most `PAGE_EVENTS`.

        Raises:
            DatabaseUnavailable: it did not answer.
            LogIncomplete: the log has a hole there.
        """
        last = min(through, after + PAGE_EVENTS)
        events = await self._between(partition, after + 1, last)
        if len(events) < last - after:
            await self._newest_heads()  # what is read then cannot be from before they were committed
            events = await self._between(partition, after + 1, last)
        if [event["seq"] for event in events] != list(range(after + 1, last + 1)):
            raise LogIncomplete(f"events {after + 1} to {last} of partition {partition} are not all there")
        return [event_of(event, self._workflow) for event in events]

    async def _between(self, partition: int, first: int, last: int) -> list[EventDocument]:
        keys = {"$gte": position_key(partition, first), "$lte": position_key(partition, last)}
        async with self._reads:
            with driver_errors():
                async with self._causal.session() as session:
                    found = self._database.order_events.find({"_id": keys}, session=session)
                    return await found.sort("_id", 1).to_list(None)

    async def orders(self, audience: Audience) -> AsyncIterator[list[OrderDocument]]:
        """Pages of the orders that a snapshot for this audience holds.

        An order that changes meanwhile may come twice or not at all: its event tells.

        Raises:
            DatabaseUnavailable: the database did not answer.
        """
        wanted = order_query(audience)
        async with self._causal.session() as session:
            pages = read_pages(
                self._database.orders,
                wanted,
                snapshot_order(wanted),
                batch=PAGE_ORDERS,
                page=self._query_orders,
                session=session,
            )
            async with aclosing(pages):
                while (documents := await self._next(pages)) is not None:
                    yield [document for document in documents if audience.shows(document)]

    async def _next(self, pages: AsyncIterator[list[OrderDocument]]) -> list[OrderDocument] | None:
        async with self._reads:
            with driver_errors():
                return await anext(pages, None)
