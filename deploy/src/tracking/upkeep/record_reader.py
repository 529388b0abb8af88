"""Reads the records of an installation for the consistency check: all at once, or in slices."""

from collections.abc import AsyncGenerator, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from pymongo.asynchronous.collection import AsyncCollection

from tracking.errors import CommandError
from tracking.upkeep.checker import Records, corrections_in
from tracking_shared.contracts.documents import (
    ArchivedOrderDocument,
    AuditDocument,
    EventDocument,
    HeldDocument,
    OrderDocument,
    PartitionDocument,
    UpdateDocument,
    correction_entry_id,
    update_key,
)
from tracking_shared.contracts.formats import ORDER_EVENTS, PARTITIONS, UPDATES, upcast_all
from tracking_shared.contracts.held import held_update_key
from tracking_shared.messaging.connection import connect
from tracking_shared.messaging.errors import AccessRefused, BrokerUnavailable
from tracking_shared.messaging.topology import DEAD_QUEUE, partition_queue_name
from tracking_shared.storage.database import Database, DatabaseUnavailable, driver_errors
from tracking_shared.storage.keyset import PAGE_DOCUMENTS, Document, KeyOrder, read_pages

SLICE_EVENTS = 2_000
"""Events per slice: about 2 KiB each, 13 KiB at most."""

SLICE_UPDATES = 5_000
"""Outcomes per slice, of which only three fields are read."""

_BY_ID = KeyOrder(("_id",))
BY_ORDER = KeyOrder(("order_id", "version"))

OF_CORRECTIONS = {"_id": {"$gt": "correction/", "$lt": "correction0"}}
"""The entries of corrections in the audit trail: the zero follows the slash."""

PARKED_FIELDS = {"order_id": 1, "partition": 1, "place": 1}
"""The fields of parked updates that the checker reads; never their content."""


HELD_FIELDS = {"order_id": 1, "update_id": 1, "source": 1, "partition": 1, "until": 1}
"""The fields of held updates that the checker reads; never their content."""


class NoInstallation(CommandError):
    """The database holds no installation."""


@contextmanager
def server_errors(error_type: type[CommandError], prefix: str = "") -> Iterator[None]:
    """Turns an unavailable broker or database into `error_type`, with its message after `prefix`."""
    try:
        yield
    except DatabaseUnavailable as error:
        raise error_type(f"{prefix}the database does not answer: {error}") from None
    except BrokerUnavailable as error:
        raise error_type(f"{prefix}{error.summary}: {error}") from None


async def read_records(database: Database) -> Records:
    """Reads all records into memory: about 2 KiB per event."""
    with driver_errors():
        return Records(
            orders=await _all(database.orders),
            events=await _all(database.order_events),
            updates=await _all(database.updates),
            partitions=await _all(database.partitions),
            parked=await _all(database.parked),
            held=await _all(database.held),
            audit=await _all(database.audit, OF_CORRECTIONS),
        )


async def _all(
    collection: AsyncCollection[Document], conditions: dict[str, Any] | None = None
) -> list[Document]:
    pages = read_pages(collection, conditions or {}, _BY_ID, batch=PAGE_DOCUMENTS)
    return [document async for page in pages for document in page]


async def read_partitions(database: Database) -> list[PartitionDocument]:
    """The documents of all partitions, with their positions. Without those that a change of their number is
    just adding: some may be missing, and nothing is in them before they are in the settings.

    Raises:
        DatabaseUnavailable: the database does not answer.
        NoInstallation: it holds no installation.
    """
    routing = await database.read_routing()
    with driver_errors():
        partitions = upcast_all(PARTITIONS, await database.partitions.find({}).to_list())
    if routing is None or not partitions:
        raise NoInstallation(f"the database {database.raw.name!r} holds no installation")
    return [partition for partition in partitions if partition["_id"] < routing.layout.partitions]


async def count_outcomes(database: Database) -> int:
    """The estimated number of stored outcomes, from the metadata of the database.

    Raises:
        DatabaseUnavailable: the database does not answer.
    """
    with driver_errors():
        return await database.updates.estimated_document_count()


def applied_so_far(partitions: list[PartitionDocument]) -> int:
    """The number of recorded events, by the positions of the partitions."""
    return sum(partition["seq"] for partition in partitions)


def queue_names(partitions: int) -> list[str]:
    """The queues of commands and the dead-letter queue."""
    return [*map(partition_queue_name, range(partitions)), DEAD_QUEUE]


async def queue_lengths(amqp_url: str, partitions: int) -> dict[str, int]:
    """The ready messages in each queue of commands and in the dead-letter queue, if the user may read it.

    Raises:
        BrokerUnavailable: the broker does not answer, or has no such queues.
    """
    lengths: dict[str, int] = {}
    async with connect(amqp_url, "tracking") as connection:
        for name in queue_names(partitions):
            with suppress(AccessRefused):
                lengths[name] = await connection.depth(name)
    return lengths


async def order_slices(database: Database, page: int) -> AsyncGenerator[Records]:
    """Complete orders, sorted by id: their documents, all their events, and the outcomes of these.

    They end with the highest id at the start: else ids that rise would be read without end where orders come
    faster than they are read.
    """
    after, last = "", await _highest_order_id(database)
    async for events in _whole_histories(database, page, last):
        through = events[-1]["order_id"]
        yield await _slice(database, {"$gt": after, "$lte": through}, events)
        after = through
    if after < last:
        yield await _slice(database, {"$gt": after, "$lte": last}, [])


async def _highest_order_id(database: Database) -> str:
    orders = await _highest(database.orders, "_id")
    return max(orders, await _highest(database.order_events, "order_id"))


async def _highest(collection: AsyncCollection[Any], field: str) -> str:
    found = await collection.find_one({}, {"_id": 0, field: 1}, sort=[(field, -1)])
    return found[field] if found else ""


async def _slice(database: Database, order_ids: dict[str, str], events: list[EventDocument]) -> Records:
    keys = [update_key(event["order_id"], event["update_id"]) for event in events]
    orders = await _all(database.orders, {"_id": order_ids})
    events = await without_archived(database, orders, events)
    return Records(
        orders=orders,
        events=events,
        updates=await outcomes_of(database, keys) if keys else [],
        audit=await correction_entries(database, events),
    )


async def without_archived(
    database: Database, orders: Sequence[OrderDocument], events: list[EventDocument]
) -> list[EventDocument]:
    """The events without those of archived orders, which are about to be removed."""
    others = {event["order_id"] for event in events} - {order["_id"] for order in orders}
    archived = await archived_among(database, others)
    return [event for event in events if event["order_id"] not in archived] if archived else events


async def archived_among(database: Database, order_ids: Collection[str]) -> dict[str, ArchivedOrderDocument]:
    """The remainders of those of these orders that are archived."""
    if not order_ids:
        return {}
    found = await database.archived_orders.find({"_id": {"$in": list(order_ids)}}).to_list()
    return {one["_id"]: one for one in found}


async def archived_pages(database: Database, page: int) -> AsyncGenerator[list[ArchivedOrderDocument]]:
    """The remainders of all archived orders."""
    async for found in read_pages(database.archived_orders, {}, _BY_ID, batch=SLICE_UPDATES, page=page):
        yield found


async def correction_entries(database: Database, events: list[EventDocument]) -> list[AuditDocument]:
    """The entries of the corrections among `events` in the audit trail."""
    ids = [correction_entry_id(event) for event in corrections_in(events)]
    return await database.audit.find({"_id": {"$in": ids}}).to_list() if ids else []


async def correction_slices(database: Database, page: int) -> AsyncGenerator[Records]:
    """The entries of all corrections, and the events that they tell of."""
    async for entries in read_pages(database.audit, OF_CORRECTIONS, _BY_ID, batch=SLICE_UPDATES, page=page):
        keys = [update_key(entry["subject"], entry["details"]["update_id"]) for entry in entries]
        # After the entries, with which they were committed.
        events = await events_of(database, keys)
        others = {entry["subject"] for entry in entries} - {event["order_id"] for event in events}
        archived = await archived_among(database, others)  # compared with the archive, where that is read
        yield Records(audit=[one for one in entries if one["subject"] not in archived], events=events)


async def held_slices(database: Database, page: int) -> AsyncGenerator[Records]:
    """Held updates, and the outcomes and events that have their update ids."""
    async for held in read_pages(
        database.held, {}, _BY_ID, batch=SLICE_UPDATES, page=page, fields=HELD_FIELDS
    ):
        yield await with_decided(database, held)


async def with_decided(database: Database, held: list[HeldDocument]) -> Records:
    """Held updates with the outcomes and events that have their update ids."""
    keys = list({held_update_key(one) for one in held})
    updates = await outcomes_of(database, keys)
    return Records(held=held, updates=updates, events=await events_of(database, keys))


async def outcomes_of(database: Database, keys: Sequence[str]) -> list[UpdateDocument]:
    """The stored outcomes of updates, by their keys."""
    return upcast_all(UPDATES, await database.updates.find({"_id": {"$in": keys}}).to_list())


async def events_of(database: Database, keys: Sequence[str]) -> list[EventDocument]:
    """The events of updates, by their keys."""
    found = await database.order_events.find({"update_key": {"$in": keys}}).to_list()
    return upcast_all(ORDER_EVENTS, found)


async def _whole_histories(database: Database, page: int, last: str) -> AsyncGenerator[list[EventDocument]]:
    """The events up to the order with the id `last`, sorted by order id, in slices of whole orders."""
    events: list[EventDocument] = []
    size = min(SLICE_EVENTS, page)
    conditions = {"order_id": {"$lte": last}}
    async for batch in read_pages(database.order_events, conditions, BY_ORDER, batch=size, page=page):
        for event in batch:
            if len(events) >= size and event["order_id"] != events[-1]["order_id"]:
                yield events
                events = []
            events.append(event)
    if events:
        yield events


async def outcome_slices(database: Database, page: int) -> AsyncGenerator[Records]:
    """Outcomes and the events that they point to, with only the fields that `outcome_faults` reads. They end
    as `order_slices`.
    """
    fields = {"outcome": 1, "position": 1}
    conditions = {"_id": {"$lte": await _highest(database.updates, "_id")}}
    async for updates in read_pages(
        database.updates, conditions, _BY_ID, batch=SLICE_UPDATES, page=page, fields=fields
    ):
        yield await _with_events(database, updates)


async def parked_slices(database: Database, page: int) -> AsyncGenerator[Records]:
    """Parked updates without their content, and their outcomes, which should not exist."""
    async for parked in read_pages(
        database.parked, {}, _BY_ID, batch=SLICE_UPDATES, page=page, fields=PARKED_FIELDS
    ):
        yield await _with_outcomes(database, parked)


async def _with_outcomes(database: Database, parked: list[Any]) -> Records:
    keys = [command["_id"] for command in parked]
    return Records(
        parked=parked,
        events=await events_of(database, keys),
        updates=await outcomes_of(database, keys),
    )


def stored_in_events(records: Records) -> int:
    """The number of events that hold the outcome of their update."""
    return sum(1 for event in records.events if "update_key" in event)


async def _with_events(database: Database, updates: list[Any]) -> Records:
    positions = [update["position"] for update in updates if update["outcome"] == "applied"]
    fields = {"order_id": 1, "update_id": 1, "update_key": 1}
    events = await database.order_events.find({"_id": {"$in": positions}}, fields).to_list()
    found = {event["_id"] for event in events}
    missing = {
        _order_of(one) for one in updates if one["outcome"] == "applied" and one["position"] not in found
    }
    archived = await archived_among(database, missing)
    return Records(updates=[one for one in updates if _order_of(one) not in archived], events=events)


def _order_of(update: UpdateDocument) -> str:
    return update["_id"].partition("/")[0]
