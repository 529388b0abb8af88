"""The documents of the bare floors: those that the system would write for the same updates."""

from dataclasses import dataclass
from datetime import datetime

from pymongo import ReplaceOne
from pymongo.read_concern import ReadConcern

from benchmarks.workload import STATUSES
from shared.database import DURABLE, Database
from shared.documents import (
    EventDocument,
    OrderDocument,
    UpdateDocument,
    position_key,
    project,
    update_key,
)
from shared.timestamps import now


@dataclass(frozen=True, slots=True)
class Writes:
    """What one transaction writes."""

    lane: int
    events: list[EventDocument]
    updates: list[UpdateDocument]


def writes_of(lane: int, number: int, size: int) -> Writes:
    """The `number`-th transaction of a lane: `size` orders, each one step on. As with the system, one
    transaction in five makes its orders and the others replace them. No two lanes share a document.
    """
    generation, step = divmod(number, len(STATUSES))
    time = now()
    events = [
        _event(f"floor-{lane}-{generation}-{index}", step + 1, lane, number * size + index + 1, time)
        for index in range(size)
    ]
    return Writes(lane, events, [_update(event) for event in events])


async def write(database: Database, writes: Writes) -> None:
    """Writes all in one durable transaction, whose first write is the fence of the lane."""
    orders: list[ReplaceOne[OrderDocument]] = [
        ReplaceOne({"_id": event["order_id"]}, project(event), upsert=True) for event in writes.events
    ]
    fence = {"$inc": {"commits": 1, "seq": len(writes.events)}}
    async with (
        database.client.start_session() as session,
        await session.start_transaction(ReadConcern("snapshot"), DURABLE),
    ):
        await database.partitions.update_one({"_id": writes.lane}, fence, session=session)
        await database.order_events.insert_many(writes.events, session=session)
        await database.orders.bulk_write(orders, session=session)
        await database.updates.insert_many(writes.updates, session=session)


async def write_one(database: Database, writes: Writes) -> None:
    """The same for a single event, with the calls of the driver that cost least for it."""
    event, update = writes.events[0], writes.updates[0]
    fence = {"$inc": {"commits": 1, "seq": 1}}
    order_id = {"_id": event["order_id"]}
    async with (
        database.client.start_session() as session,
        await session.start_transaction(ReadConcern("snapshot"), DURABLE),
    ):
        await database.partitions.update_one({"_id": writes.lane}, fence, session=session)
        await database.order_events.insert_one(event, session=session)
        await database.orders.replace_one(order_id, project(event), upsert=True, session=session)
        await database.updates.insert_one(update, session=session)


def _event(order_id: str, version: int, lane: int, seq: int, time: datetime) -> EventDocument:
    metadata = {"lat": 52.5201, "lon": 13.4049}
    return {
        "_id": position_key(lane, seq),
        "order_id": order_id,
        "merchant_id": f"merchant-{lane}",
        "customer": {"name": "Ada Lovelace", "contact_ref": "+44 20 7946 0958"},
        "version": version,
        "partition": lane,
        "seq": seq,
        "status": STATUSES[version - 1],
        "previous_status": STATUSES[version - 2] if version > 1 else None,
        "active": version < len(STATUSES),
        "update_id": f"{order_id}-{version}",
        "source": {"type": "system", "id": "benchmark"},
        "occurred_at": time,
        "received_at": time,
        "recorded_at": time,
        "created_at": time,
        "metadata": metadata,
        "order_metadata": metadata | {"channel": "web", "parcels": 2},
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    }


def _update(event: EventDocument) -> UpdateDocument:
    return {
        "_id": update_key(event["order_id"], event["update_id"]),
        "order_id": event["order_id"],
        "update_id": event["update_id"],
        "fingerprint": "0123456789abcdef0123456789abcdef",
        "outcome": "applied",
        "version": event["version"],
        "position": event["_id"],
        "problem": None,
        "requested_status": event["status"],
        "merchant_id": event["merchant_id"],
        "source": event["source"],
        "recorded_at": event["recorded_at"],
    }
