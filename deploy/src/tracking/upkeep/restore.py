"""Restores an archived order: it comes back into the database as it was, with its events.

It is one transaction of this process, which advances `commits` of the partition. So the owner of the
partition forgets what it remembers, and reads again, as after any change from outside.
"""

from pathlib import Path
from typing import Any

from pymongo import DeleteOne
from pymongo.asynchronous.client_session import AsyncClientSession

from tracking.upkeep.archive import NotArchived, archive_errors
from tracking.upkeep.archive_purge import in_transaction
from tracking.upkeep.audit import audit_trail_of
from tracking.upkeep.record_reader import read_partitions
from tracking_shared.contracts.archive import BadArchive, without_erased
from tracking_shared.contracts.documents import ArchivedOrderDocument, EventDocument, project
from tracking_shared.contracts.identifiers import is_identifier
from tracking_shared.contracts.texts import words_of_event
from tracking_shared.storage.archive_files import ArchiveFolder
from tracking_shared.storage.audit_trail import Act, Actor
from tracking_shared.storage.database import Database, driver_errors, open_database
from tracking_shared.storage.erasures import erased_among


async def restore_order(
    mongodb_url: str, database_name: str, folder: Path, order_id: str, actor: Actor
) -> dict[str, Any]:
    """Restores an order, after an entry in the audit trail. Returns its id and the number of its events. An
    order that is in the database already stays as it is.

    Raises:
        NotArchived: there is no such order, a server is away, or the archive cannot be read.
        NoInstallation: the database holds no installation.
    """
    if not is_identifier(order_id):
        raise NotArchived(f"--restore: {order_id[:64]!r} is no id of an order")
    with archive_errors():
        async with open_database(mongodb_url, database_name) as database:
            await read_partitions(database)
            with driver_errors():
                archived = await database.archived_orders.find_one({"_id": order_id})
                if archived is None:
                    return await _unarchived(database, order_id)
                events = _read(folder, archived)
                await audit_trail_of(database).record(actor, Act("order.restored", order_id, {}))
                await _restore(database, archived, events)
    return {"order_id": order_id, "events": len(events)}


async def _unarchived(database: Database, order_id: str) -> dict[str, Any]:
    if await database.orders.find_one({"_id": order_id}, {"_id": 1}) is None:
        raise NotArchived(f"there is no order {order_id}, neither in the database nor in an archive")
    return {"order_id": order_id, "events": 0}


def _read(folder: Path, archived: ArchivedOrderDocument) -> list[EventDocument]:
    events = ArchiveFolder(folder).find(archived["part"], archived["_id"])
    if [event["version"] for event in events] != list(range(1, archived["version"] + 1)):
        raise BadArchive(f"{folder}: {archived['part']} does not contain all of order {archived['_id']}")
    return events


async def _restore(database: Database, archived: ArchivedOrderDocument, found: list[EventDocument]) -> None:
    order_id = archived["_id"]

    async def write(session: AsyncClientSession) -> None:
        still = await database.archived_orders.find_one({"_id": order_id}, session=session)
        if still is None or still["part"] != archived["part"]:
            return  # somebody else was faster
        # In the transaction: an erasure that is done before it must not be undone by it.
        erased = await erased_among(database, found, session)
        events = [without_erased(event, erased) for event in found]
        fence = {"$inc": {"commits": 1, "archived": -1}}
        await database.partitions.update_one({"_id": archived["partition"]}, fence, session=session)
        # For who looks for its partition meanwhile, first among the orders, then among the archived ones.
        home = {"_id": order_id, "partition": archived["partition"]}
        await database.order_homes.replace_one({"_id": order_id}, home, upsert=True, session=session)
        await database.archived_orders.delete_one({"_id": order_id}, session=session)
        # Some may be there still, about to be removed: to write equal ones would conflict with nothing.
        ids = [event["_id"] for event in events]
        await database.order_events.delete_many({"_id": {"$in": ids}}, session=session)
        await database.order_events.insert_many(events, ordered=True, session=session)
        await database.orders.replace_one(
            {"_id": order_id}, project(events[-1]), upsert=True, session=session
        )
        await _restore_search(database, session, events[-1])
        await _forget_refusals(database, session, order_id)

    await in_transaction(database, write)


async def _restore_search(database: Database, session: AsyncClientSession, newest: EventDocument) -> None:
    # The indexer of the search has passed these positions.
    words: Any = {
        "_id": newest["order_id"],
        "merchant_id": newest["merchant_id"],
        "created_at": newest["created_at"],
        "words": words_of_event(newest),
    }
    await database.order_search.replace_one({"_id": newest["order_id"]}, words, upsert=True, session=session)


async def _forget_refusals(database: Database, session: AsyncClientSession, order_id: str) -> None:
    # They may have the update ids of events that are back, and are not true any more.
    refused = await database.updates.find({"order_id": order_id}, {"problem": 1}, session=session).to_list()
    removed: list[Any] = [
        DeleteOne({"_id": one["_id"]})
        for one in refused
        if one["problem"] is not None and one["problem"]["slug"] == "order-archived"
    ]
    if removed:
        await database.updates.bulk_write(removed, ordered=True, session=session)
