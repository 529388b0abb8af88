"""Reads and writes of erasures, in the sessions and transactions of the store. Errors of the driver are the
caller's.
"""

from datetime import datetime
from typing import Any

from pymongo import ReplaceOne, UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession

from tracking_order_state.domain.decisions import Decisions, ErasureStep
from tracking_order_state.domain.erasure import ErasedContacts, Erasure
from tracking_shared.contracts.documents import ERASURE_KEY_ID, erasure_progress_id
from tracking_shared.storage.database import Database, DatabaseUnavailable
from tracking_shared.storage.embedded_database import match_stages

PAGE_ERASURES = 5_000
"""Erasures that are read at once, of those of 90 days: 0.7 MB. In memory each takes some 300 B."""

_FIELDS = dict.fromkeys(("merchant_id", "accepted_at", "contact_refs", "contact_key"), 1)


async def read_erased(database: Database, session: AsyncClientSession) -> ErasedContacts:
    """The persons that are erased, by all erasures that were accepted before the call and are not forgotten
    yet.

    An erasure that is accepted during the call may be missed: its id may be among those that are read
    already. It is not done in any partition that was claimed before the call, so the sweep learns it there.
    """
    erased = ErasedContacts(await erasure_key(database, session))
    after = ""
    while True:
        found = database.erasures.find({"_id": {"$gt": after}}, _FIELDS, session=session)
        page = await found.sort("_id", 1).limit(PAGE_ERASURES).to_list()
        erased = erased.with_more(ErasedContacts.of(erased.key, page))
        if len(page) < PAGE_ERASURES:
            return erased
        after = page[-1]["_id"]


async def erasure_key(database: Database, session: AsyncClientSession | None = None) -> bytes:
    """The key of the digests of erased contacts.

    Raises:
        DatabaseUnavailable: it is not there yet.
    """
    stored = await database.raw["settings"].find_one({"_id": ERASURE_KEY_ID}, session=session)
    if stored is None:
        raise DatabaseUnavailable("the key of erased contacts is not set up")
    return bytes(stored["key"])


async def find_person(
    database: Database,
    erasure: Erasure,
    partition: int,
    limit: int,
    session: AsyncClientSession | None = None,
) -> list[str]:
    """The ids of at most `limit` orders of a partition that hold the customer and are old enough."""
    found = await _orders_of(
        database, erasure, partition, {"$lte": erasure.accepted_at}, limit, session=session
    )
    if found:
        return found
    # Few: those of a new person, and of creates that were on their way.
    later = await _orders_of(
        database, erasure, partition, {"$gt": erasure.accepted_at}, limit, session=session
    )
    return [order_id for order_id in later if await _is_old(database, order_id, erasure, session)]


async def _orders_of(
    database: Database,
    erasure: Erasure,
    partition: int,
    created_at: dict[str, datetime],
    limit: int,
    *,
    session: AsyncClientSession | None,
) -> list[str]:
    refs = [*erasure.contact_refs]
    # The condition of the index alone and first (`embedded_database`).
    indexed: dict[str, Any] = {"customer.contact_ref": refs[0] if len(refs) == 1 else {"$in": refs}}
    others: dict[str, Any] = {"partition": partition, "created_at": created_at}
    if erasure.merchant_id is not None:
        others["merchant_id"] = erasure.merchant_id
    pipeline = [*match_stages([indexed, others]), {"$limit": limit}, {"$project": {"_id": 1}}]
    found = await database.orders.aggregate(pipeline, session=session)
    return [order["_id"] for order in await found.to_list()]


async def _is_old(
    database: Database, order_id: str, erasure: Erasure, session: AsyncClientSession | None
) -> bool:
    first = await database.order_events.find_one({"order_id": order_id, "version": 1}, session=session)
    return first is not None and first["received_at"] <= erasure.accepted_at


async def write_erasure(
    database: Database, session: AsyncClientSession, partition: int, decisions: Decisions
) -> None:
    """Writes what an erasure changes beside orders and new events."""
    step = decisions.erasure
    if step is None:
        return
    if step.event_ids:
        erased = {"$set": {"customer": None, "erased_at": step.erased_at}}
        rewritten: list[Any] = [UpdateOne({"_id": position}, erased) for position in step.event_ids]
        await database.order_events.bulk_write(rewritten, ordered=True, session=session)
    if step.search:
        await _write_search(database, session, partition, step)
    if step.parked:
        replaced: list[Any] = [ReplaceOne({"_id": parked["_id"]}, parked) for parked in step.parked]
        await database.parked.bulk_write(replaced, ordered=True, session=session)
    await database.erasure_progress.update_one(
        {"_id": erasure_progress_id(step.erasure_id, partition)},
        {
            "$inc": {"orders": len(decisions.events), "events": len(step.event_ids)},
            "$set": {
                "erasure_id": step.erasure_id,
                "partition": partition,
                "done": step.is_last,
                "expires_at": step.expires_at,
            },
        },
        upsert=True,
        session=session,
    )


async def _write_search(
    database: Database, session: AsyncClientSession, partition: int, step: ErasureStep
) -> None:
    # The indexer is behind. What it read before this is refused by the number of erasures.
    await database.search_progress.update_one(
        {"_id": partition},
        {"$inc": {"erasures": 1}, "$setOnInsert": {"seq": 0}},
        upsert=True,
        session=session,
    )
    entries: list[Any] = [ReplaceOne({"_id": key}, entry, upsert=True) for key, entry in step.search.items()]
    await database.order_search.bulk_write(entries, ordered=True, session=session)
