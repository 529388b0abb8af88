"""Erases a person in the events of archived orders that are still in the database.

Whoever archives removes them some seconds after their order has left, or, where that run was killed, in the
next one. The requests of a part name its orders until then.
"""

from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import pymongo
from pymongo import ReplaceOne, UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.read_concern import ReadConcern

from tracking_order_state.domain.erasure import MAX_ERASED_EVENTS, Erasure
from tracking_shared.contracts.documents import EventDocument
from tracking_shared.contracts.texts import words_of_event
from tracking_shared.storage.database import DURABLE, Database, driver_errors
from tracking_shared.storage.embedded_database import match_stages
from tracking_shared.storage.keyset import KeyOrder, read_pages

WRITE_SECONDS = 8.0
"""The time limit of a transaction, with everything that the driver repeats of it."""

PAGE_REQUESTS = 50
"""Requests that are read at once: the ids of 5,000 orders."""

_BY_ID = KeyOrder(("_id",))


async def erase_archived(database: Database, erasure: Erasure, partition: int) -> int:
    """Erases the person in some of these events of a partition, in one transaction. Returns their number; 0:
    there are none.

    It needs no fence: no order is archived with the customer any more once those of the partition are erased,
    and a late repeat finds nothing.

    Raises:
        DatabaseUnavailable: no answer, or not in time.
    """
    with driver_errors():
        pages = read_pages(
            database.archivings,
            {"partition": partition},
            _BY_ID,
            batch=PAGE_REQUESTS,
            page=PAGE_REQUESTS,
            fields={"orders.order_id": 1},
        )
        async with aclosing(pages):
            async for requests in pages:
                for request in requests:
                    order_ids = [order["order_id"] for order in request["orders"]]
                    if number := await _erase_some(database, erasure, partition, order_ids):
                        return number
    return 0


async def _erase_some(database: Database, erasure: Erasure, partition: int, order_ids: Sequence[str]) -> int:
    number = 0

    async def write(session: AsyncClientSession) -> None:
        # In the transaction: whoever restores these orders, or removes their events, conflicts with it.
        nonlocal number
        found = database.archived_orders.find({"_id": {"$in": [*order_ids]}}, session=session)
        archived = [one["_id"] for one in await found.to_list()]
        events = await _find_events(database, session, erasure, archived) if archived else []
        number = len(events)
        if events:
            await _write(database, session, erasure, partition, events)

    async with database.client.start_session() as session:
        with pymongo.timeout(WRITE_SECONDS):
            await session.with_transaction(write, read_concern=ReadConcern("snapshot"), write_concern=DURABLE)
    return number


async def _find_events(
    database: Database, session: AsyncClientSession, erasure: Erasure, order_ids: Sequence[str]
) -> list[EventDocument]:
    others: dict[str, Any] = {
        "customer.contact_ref": {"$in": [*erasure.contact_refs]},
        "created_at": {"$lte": erasure.accepted_at},
    }
    if erasure.merchant_id is not None:
        others["merchant_id"] = erasure.merchant_id
    stages = match_stages([{"order_id": {"$in": [*order_ids]}}, others])
    pipeline = [*stages, {"$sort": {"_id": 1}}, {"$limit": MAX_ERASED_EVENTS}]
    return await (await database.order_events.aggregate(pipeline, session=session)).to_list()


async def _write(
    database: Database,
    session: AsyncClientSession,
    erasure: Erasure,
    partition: int,
    events: Sequence[EventDocument],
) -> None:
    change = {"$set": {"customer": None, "erased_at": erasure.accepted_at}}
    erased: list[Any] = [UpdateOne({"_id": event["_id"]}, change) for event in events]
    await database.order_events.bulk_write(erased, ordered=True, session=session)
    # What the indexer of the search has read of these events is not written any more.
    advance = {"$inc": {"erasures": 1}, "$setOnInsert": {"seq": 0}}
    await database.search_progress.update_one({"_id": partition}, advance, upsert=True, session=session)
    newest = {event["order_id"]: event for event in events}
    words: list[Any] = [
        ReplaceOne(
            {"_id": order_id},
            {
                "_id": order_id,
                "merchant_id": event["merchant_id"],
                "created_at": event["created_at"],
                "words": words_of_event({**event, "customer": None}),
            },
        )
        for order_id, event in newest.items()
    ]
    await database.order_search.bulk_write(words, ordered=True, session=session)
