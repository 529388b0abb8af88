"""Removes the events of archived orders from the database, in transactions."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import pymongo
from pymongo import UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.read_concern import ReadConcern

from tracking_shared.contracts.documents import position_key
from tracking_shared.storage.database import DURABLE, Database

WRITE_SECONDS = 8.0
"""The time limit of a transaction, with everything that the driver repeats of it."""


class EventPlace(NamedTuple):
    """The place of an event in the log."""

    partition: int
    seq: int


async def remove_archived(
    database: Database, part: str, orders: Mapping[str, Sequence[EventPlace]]
) -> list[str]:
    """Removes the events of those of these orders that are archived in the part, and their words in the
    search. Returns the ids of these orders.
    """
    removed: list[str] = []

    async def remove(session: AsyncClientSession) -> None:
        # In the transaction: an order that is restored meanwhile is written by that, too, and conflicts.
        found = await database.archived_orders.find({"_id": {"$in": list(orders)}}, session=session).to_list()
        removed[:] = [one["_id"] for one in found if one["part"] == part]
        if removed:
            places = [place for order_id in removed for place in orders[order_id]]
            await _remove_events(database, session, places)
            await database.order_search.delete_many({"_id": {"$in": removed}}, session=session)

    await in_transaction(database, remove)
    return removed


async def _remove_events(
    database: Database, session: AsyncClientSession, places: Sequence[EventPlace]
) -> None:
    newest: dict[int, int] = {}
    for partition, seq in places:
        newest[partition] = max(newest.get(partition, 0), seq)
    keys = [position_key(partition, seq) for partition, seq in places]
    await database.order_events.delete_many({"_id": {"$in": keys}}, session=session)
    # What the indexer of the search has read of these events is not written any more. It reads only what is
    # behind its position.
    progress = await database.search_progress.find({"_id": {"$in": list(newest)}}, session=session).to_list()
    passed = {one["_id"]: one.get("seq", 0) for one in progress}
    change = {"$inc": {"erasures": 1}, "$setOnInsert": {"seq": 0}}
    stopped: list[Any] = [
        UpdateOne({"_id": partition}, change, upsert=True)
        for partition, seq in sorted(newest.items())
        if passed.get(partition, 0) < seq
    ]
    if stopped:
        await database.search_progress.bulk_write(stopped, ordered=True, session=session)


async def in_transaction(database: Database, write: Callable[[AsyncClientSession], Any]) -> None:
    """Runs `write` in a transaction, again while another one conflicts with it."""
    async with database.client.start_session() as session:
        with pymongo.timeout(WRITE_SECONDS):
            await session.with_transaction(
                partial(write), read_concern=ReadConcern("snapshot"), write_concern=DURABLE
            )
