"""Reads lists of orders from the database: one page, or all in chunks."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any

import pymongo
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.command_cursor import AsyncCommandCursor
from pymongo.asynchronous.cursor import AsyncCursor
from pymongo.errors import PyMongoError

from tracking_query.horizon import read_horizon
from tracking_query.orders.list_query import ListQuery
from tracking_shared.contracts.documents import OrderDocument
from tracking_shared.contracts.formats import ORDERS, upcast_all
from tracking_shared.storage.database import Database, driver_errors
from tracking_shared.storage.embedded_database import is_served_by_find, match_stages
from tracking_shared.storage.reads import bounded_read

CHUNK_ORDERS = 500
"""Orders of a whole list in memory at once; one takes 1 to 10 KB."""

PAGE_ORDERS = 60_000
"""Orders of a whole list that one query reads. The database charges all its chunks to one time budget. It
may have to sort all that follows for each query: with 25,000, an export of 50,000 took twice as long."""

PAGE_SECONDS = 30.0
"""The time limit of the database for one query, for which it may have to sort, and for its first chunk."""

CHUNK_SECONDS = 10.0
"""The time limit of each later chunk."""

OrderCursor = AsyncCursor[OrderDocument] | AsyncCommandCursor[OrderDocument]


async def read_page(database: Database, query: ListQuery, limit: int) -> list[OrderDocument]:
    """The first `limit` orders of the list.

    Raises:
        DatabaseUnavailable: also where it takes too long.
    """
    with bounded_read():
        return upcast_all(ORDERS, await (await _open(database, query, limit=limit)).to_list())


class OrderChunks:
    """A whole list, chunk by chunk. `as_of`: the horizon at its moment."""

    def __init__(
        self,
        database: Database,
        query: ListQuery,
        session: AsyncClientSession,
        as_of: datetime,
        *,
        page: int = PAGE_ORDERS,
        fields: Sequence[str] = (),
    ) -> None:
        """`page`: how many orders one query reads. `fields`: only these of an order; none: all."""
        self.as_of = as_of
        self._database = database
        self._session = session
        self._query = query
        self._rest = query
        self._page = page
        self._fields = fields
        self._cursor: OrderCursor | None = None
        self._found = 0

    async def next(self) -> list[OrderDocument]:
        """The next orders; none at the end.

        Raises:
            DatabaseUnavailable: also where it takes too long.
        """
        while self._cursor is None or self._cursor.alive:
            if chunk := await self._chunk():
                return chunk
        if self._found < self._page:
            return []
        self._cursor = None
        return await self.next()

    async def close(self) -> None:
        """Ends the query that is open."""
        if self._cursor is not None:
            # Without the database there is nothing left to close.
            with suppress(PyMongoError), pymongo.timeout(1):
                await self._cursor.close()

    async def _chunk(self) -> list[OrderDocument]:
        if self._cursor is None:
            self._found = 0
            with bounded_read(PAGE_SECONDS):
                self._cursor = await _open(
                    self._database, self._rest, limit=self._page, session=self._session, fields=self._fields
                )
                chunk = await self._cursor.to_list(CHUNK_ORDERS)
        else:
            with bounded_read(CHUNK_SECONDS):
                chunk = await self._cursor.to_list(CHUNK_ORDERS)
        if chunk:
            self._found += len(chunk)
            self._rest = self._query.after_order(chunk[-1])
        return chunk if self._fields else self._upcast(chunk)

    def _upcast(self, chunk: list[OrderDocument]) -> list[OrderDocument]:
        with driver_errors():
            return upcast_all(ORDERS, chunk)


@asynccontextmanager
async def opened_list(
    database: Database, query: ListQuery, *, page: int = PAGE_ORDERS, fields: Sequence[str] = ()
) -> AsyncIterator[OrderChunks]:
    """The whole list as it stands at one moment, whatever is written while it is read.

    The moment is kept by the server, between the queries too. A database without snapshot sessions keeps it
    for one query only: a list of more than `page` orders by `updated_at` may there hold an order twice that
    changes meanwhile, or miss it; by `created_at`, which never changes, each comes once.

    Raises:
        DatabaseUnavailable: also where it takes too long.
    """
    with bounded_read():
        await database.ping()  # the driver would look for a lost database as long as a chunk may take
    async with database.client.start_session(snapshot=True) as session:
        with bounded_read():
            as_of = await read_horizon(database, session)
        chunks = OrderChunks(database, query, session, as_of, page=page, fields=fields)
        try:
            yield chunks
        finally:
            await chunks.close()


async def _open(
    database: Database,
    query: ListQuery,
    *,
    limit: int,
    session: AsyncClientSession | None = None,
    fields: Sequence[str] = (),
) -> OrderCursor:
    shown = dict.fromkeys(fields, 1)
    if is_served_by_find(query.stages):
        return database.orders.find(
            query.stages[0],
            shown or None,
            sort=query.sort,
            limit=limit,
            batch_size=CHUNK_ORDERS,
            session=session,
        )
    pipeline: list[Mapping[str, Any]] = [
        *match_stages(query.stages),
        {"$sort": query.sort},
        {"$limit": limit},
        *([{"$project": shown}] if shown else []),
    ]
    return await database.orders.aggregate(pipeline, batchSize=CHUNK_ORDERS, session=session)
