"""Reads lists of orders from the database: one page, or everything in chunks."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any

import pymongo
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.command_cursor import AsyncCommandCursor
from pymongo.asynchronous.cursor import AsyncCursor
from pymongo.errors import PyMongoError

from query.horizon import read_horizon
from query.limits import bounded_read
from query.listing import ListQuery
from shared.database import Database
from shared.documents import OrderDocument

CHUNK_ORDERS = 500
"""Orders of an export in memory at once; one takes 1 to 10 KB."""

SORT_SECONDS = 30.0
"""How long the database may take to begin an export: it may have to sort everything."""

CHUNK_SECONDS = 10.0
"""How long it may take for the next chunk."""

OrderCursor = AsyncCursor[OrderDocument] | AsyncCommandCursor[OrderDocument]


async def read_page(database: Database, query: ListQuery, limit: int) -> list[OrderDocument]:
    """The first `limit` orders of the list.

    Raises:
        DatabaseUnavailable: also where it takes too long.
    """
    with bounded_read():
        return await (await _open(database, query, limit=limit)).to_list()


class OrderChunks:
    """An open list: everything, chunk by chunk. `as_of`: the horizon at its moment."""

    def __init__(self, cursor: OrderCursor, as_of: datetime) -> None:
        self._cursor = cursor
        self.as_of = as_of
        self._seconds = SORT_SECONDS

    async def next(self) -> list[OrderDocument]:
        """The next orders; none at the end.

        Raises:
            DatabaseUnavailable: also where it takes too long.
        """
        with bounded_read(self._seconds):
            chunk = await self._cursor.to_list(CHUNK_ORDERS)
        self._seconds = CHUNK_SECONDS
        return chunk


@asynccontextmanager
async def opened_list(database: Database, query: ListQuery) -> AsyncIterator[OrderChunks]:
    """The whole list as it stands at one moment, whatever is written while it is read.

    Raises:
        DatabaseUnavailable: also where it takes too long.
    """
    with bounded_read():
        await database.ping()  # the driver would look for a lost database as long as a chunk may take
    async with database.client.start_session(snapshot=True) as session:
        with bounded_read(SORT_SECONDS):
            as_of = await read_horizon(database, session)
            cursor = await _open(database, query, limit=0, session=session)
        try:
            yield OrderChunks(cursor, as_of)
        finally:
            # Without the database there is nothing left to close.
            with suppress(PyMongoError), pymongo.timeout(1):
                await cursor.close()


async def _open(
    database: Database, query: ListQuery, *, limit: int, session: AsyncClientSession | None = None
) -> OrderCursor:
    # The same to a server, but the embedded database begins to answer a find sooner, and uses an index
    # beside a second condition only in an aggregation.
    if len(query.stages) == 1:
        return database.orders.find(
            query.stages[0], sort=query.sort, limit=limit, batch_size=CHUNK_ORDERS, session=session
        )
    pipeline: list[Mapping[str, Any]] = [
        *({"$match": stage} for stage in query.stages),
        {"$sort": query.sort},
        *([{"$limit": limit}] if limit else []),
    ]
    return await database.orders.aggregate(pipeline, batchSize=CHUNK_ORDERS, session=session)
