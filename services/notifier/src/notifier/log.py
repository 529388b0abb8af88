"""Reads of the durable log and of the orders: positions, pages of events, snapshots."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

from notifier.events import Event, event_of
from notifier.filters import Audience, order_query, snapshot_order
from shared.cursors import Position
from shared.database import Database, DatabaseUnavailable, driver_errors
from shared.documents import OrderDocument, position_key
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

    async def heads(self) -> Position:
        """The newest position of every partition.

        Raises:
            DatabaseUnavailable: also while the database is not set up yet.
        """
        with driver_errors():
            documents = await self._database.partitions.find({}).to_list(None)
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
        first_key, last_key = position_key(partition, after + 1), position_key(partition, last)
        async with self._reads:
            with driver_errors():
                documents = (
                    await self._database.order_events.find({"_id": {"$gte": first_key, "$lte": last_key}})
                    .sort("_id", 1)
                    .to_list(None)
                )
        if [document["seq"] for document in documents] != list(range(after + 1, last + 1)):
            raise LogIncomplete(f"events {after + 1} to {last} of partition {partition} are not all there")
        return [event_of(document, self._workflow) for document in documents]

    async def orders(self, audience: Audience) -> AsyncIterator[list[OrderDocument]]:
        """Pages of the orders that a snapshot for this audience holds.

        An order that changes meanwhile may come twice or not at all: its event tells.

        Raises:
            DatabaseUnavailable: the database did not answer.
        """
        wanted = order_query(audience)
        pages = read_pages(
            self._database.orders,
            wanted,
            snapshot_order(wanted),
            batch=PAGE_ORDERS,
            page=self._query_orders,
        )
        async with aclosing(pages):
            while (documents := await self._next(pages)) is not None:
                yield [document for document in documents if audience.shows(document)]

    async def _next(self, pages: AsyncIterator[list[OrderDocument]]) -> list[OrderDocument] | None:
        async with self._reads:
            with driver_errors():
                return await anext(pages, None)
