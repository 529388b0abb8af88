"""Reads lists of orders from the database: one page, all in chunks, or by the beginnings of words."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pymongo
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.command_cursor import AsyncCommandCursor
from pymongo.asynchronous.cursor import AsyncCursor
from pymongo.errors import PyMongoError

from tracking_query.log.reading import read_horizon
from tracking_query.orders.listing import ListQuery
from tracking_shared.contracts.access import Grant, ReadableOrders, sees_customer
from tracking_shared.contracts.documents import OrderDocument
from tracking_shared.contracts.formats import ORDERS, upcast_all
from tracking_shared.contracts.identifiers import is_identifier
from tracking_shared.contracts.references import is_reference
from tracking_shared.contracts.texts import begins_with, searched_words
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


MAX_FOUND = 2_000
"""Orders of one search: the newest ones. More would not be read anyway."""

MAX_LOOKED_AT = 100_000
"""Entries of the index that one search looks at, so that a single letter ends, too."""

Stages = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Found:
    """The orders that match a search."""

    order_ids: frozenset[str]
    is_complete: bool
    """True: there are no others."""
    behind: int
    """Changes that the index does not know yet."""


def search_stages(text: str, readable: ReadableOrders, grant: Grant, most: int = MAX_FOUND) -> Stages:
    """The query of the index for a text with words; an index serves its first stage."""
    words = searched_words(text)
    if not sees_customer(grant):  # at most as many orders as a token may name
        shown = {"_id": {"$in": sorted(readable.orders or ())}}
        return [*match_stages([shown, {"$and": [_in_ids(word) for word in words]}]), *_newest(most)]
    # An index serves the range of the first stage. Of a list of words it is true, too, where one word is
    # beyond its beginning and another one before its end; the second stage is exact.
    exact = [{"words": {"$elemMatch": begins_with(word)}} for word in words]
    conditions = [*exact, readable.conditions("_id")]
    return [
        *match_stages(
            [
                {"words": begins_with(words[0])},
                {"$and": [condition for condition in conditions if condition]},
            ]
        ),
        *_newest(most),
    ]


def _in_ids(word: str) -> dict[str, Any]:
    """The word begins the order id or the merchant's: nothing personal is compared."""
    own = {"$eq": [{"$indexOfCP": [{"$toLower": "$_id"}, word]}, 0]}
    merchant = {"$eq": [{"$indexOfCP": [{"$toLower": "$merchant_id"}, word]}, 0]}
    return {"$expr": {"$or": [own, merchant]}}


def _newest(most: int) -> Stages:
    return [
        {"$limit": MAX_LOOKED_AT},
        {"$project": {"created_at": 1}},
        {"$sort": {"created_at": -1, "_id": -1}},
        {"$limit": most + 1},
    ]


async def search(
    database: Database, text: str, readable: ReadableOrders, grant: Grant, *, most: int = MAX_FOUND
) -> Found:
    """The newest readable orders that match, at most so many.

    Raises:
        DatabaseUnavailable: also where it takes too long.
    """
    with bounded_read():
        behind = await _behind(database)
        found = await (
            await database.order_search.aggregate(search_stages(text, readable, grant, most))
        ).to_list()
        named = await _named(database, text.strip(), readable, most)
    order_ids = frozenset(document["_id"] for document in found[:most]) | named
    return Found(order_ids, max(len(found), len(named)) <= most, behind)


async def _named(database: Database, name: str, readable: ReadableOrders, most: int) -> set[str]:
    """Orders with exactly this id or reference: they are found before the index knows them, and by tokens
    that may not use it.
    """
    ids = {name} if is_identifier(name) else set()
    if not is_reference(name):
        return ids
    stages = match_stages([{"reference": name}, readable.conditions("_id")])
    found = await database.orders.aggregate([*stages, {"$limit": most + 1}, {"$project": {"_id": 1}}])
    return ids | {order["_id"] async for order in found}


async def _behind(database: Database) -> int:
    progress = {each["_id"]: each.get("seq", 0) async for each in database.search_progress.find({})}
    heads = await database.partitions.find({}, {"seq": 1}).to_list()
    return sum(max(0, head["seq"] - progress.get(head["_id"], 0)) for head in heads)
