"""The store: what a micro-batch reads, and the one transaction that writes it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pymongo import ReplaceOne, UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.read_concern import ReadConcern
from uuid_utils import uuid4

from order_state.batch import AnyCommand, Decided, Known
from shared.database import DURABLE, Database, DatabaseUnavailable, driver_errors
from shared.documents import update_key


@dataclass(frozen=True, slots=True)
class PartitionPosition:
    """Where a partition stands: its newest event, and how many transactions made it so."""

    partition: int
    seq: int
    commits: int
    worker: str = ""


class Fenced(Exception):
    """Another worker has written to the partition since this one read it. Nothing was written."""


class Store:
    """Reads and writes of one order-state process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._worker = uuid4().hex

    async def position(self, partition: int) -> PartitionPosition:
        """Where the partition stands now.

        Raises:
            DatabaseUnavailable: no answer, or the partition is not set up.
        """
        with driver_errors():
            document = await self._database.partitions.find_one({"_id": partition})
        if document is None:
            raise DatabaseUnavailable(f"partition {partition} is not set up")
        return PartitionPosition(partition, document["seq"], document["commits"], document["worker"])

    async def recover(self, position: PartitionPosition) -> PartitionPosition:
        """Where the partition stands after a commit on `position` whose answer was lost.

        Raises:
            Fenced: neither still there nor moved by this process.
            DatabaseUnavailable: no answer.
        """
        found = await self.position(position.partition)
        ours = found.commits == position.commits + 1 and found.worker == self._worker
        if found.commits != position.commits and not ours:
            raise Fenced(f"partition {position.partition} was moved on by another worker")
        return found

    async def load(self, commands: Sequence[AnyCommand]) -> Known:
        """What the database holds of the orders and updates that `commands` name.

        Raises:
            DatabaseUnavailable: no answer.
        """
        order_ids = list({command.order_id for command in commands})
        keys = list({update_key(command.order_id, command.update_id) for command in commands})
        database = self._database
        with driver_errors():
            orders, updates = await asyncio.gather(
                database.orders.find({"_id": {"$in": order_ids}}).to_list(),
                database.updates.find({"_id": {"$in": keys}}).to_list(),
            )
            positions = [update["position"] for update in updates if update["position"] is not None]
            events = (
                await database.order_events.find({"_id": {"$in": positions}}).to_list() if positions else []
            )
        return Known(
            orders={order["_id"]: order for order in orders},
            updates={update["_id"]: update for update in updates},
            events={event["_id"]: event for event in events},
        )

    async def commit(
        self, positions: Sequence[PartitionPosition], decided: Sequence[Decided]
    ) -> list[PartitionPosition]:
        """Writes all of `decided` or nothing, if every partition still stands at its position.

        The driver repeats the transaction on a write conflict (a paused worker may hold a fence
        until the server ends its transaction) and the commit when its answer was lost, within the
        client's operation timeout.

        Raises:
            Fenced: a partition has moved on; another worker owns it.
            DatabaseUnavailable: no answer; whether it was written is unknown.
        """
        writes = [pair for pair in zip(positions, decided, strict=True) if not pair[1].is_empty]
        if not writes:
            return list(positions)

        async def write(session: AsyncClientSession) -> None:
            await self._write(session, writes)

        with driver_errors():
            async with self._database.client.start_session() as session:
                await session.with_transaction(
                    write, read_concern=ReadConcern("snapshot"), write_concern=DURABLE
                )
        return [_after(position, result) for position, result in zip(positions, decided, strict=True)]

    async def _write(
        self, session: AsyncClientSession, writes: Sequence[tuple[PartitionPosition, Decided]]
    ) -> None:
        database = self._database
        fences: list[Any] = [self._fence(position, decided) for position, decided in writes]
        fenced = await database.partitions.bulk_write(fences, ordered=True, session=session)
        if fenced.matched_count != len(writes):
            raise Fenced(f"not all of partitions {[p.partition for p, _ in writes]} stand where they stood")
        events = [event for _, decided in writes for event in decided.events]
        if events:
            await database.order_events.insert_many(events, ordered=True, session=session)
            replacements: list[Any] = [
                ReplaceOne({"_id": order_id}, order, upsert=True)
                for _, decided in writes
                for order_id, order in decided.orders.items()
            ]
            await database.orders.bulk_write(replacements, ordered=True, session=session)
        updates = [update for _, decided in writes for update in decided.updates.values()]
        await database.updates.insert_many(updates, ordered=True, session=session)

    def _fence(self, position: PartitionPosition, decided: Decided) -> UpdateOne:
        return UpdateOne(
            {"_id": position.partition, "commits": position.commits},
            {"$inc": {"commits": 1, "seq": len(decided.events)}, "$set": {"worker": self._worker}},
        )


def _after(position: PartitionPosition, decided: Decided) -> PartitionPosition:
    if decided.is_empty:
        return position
    return PartitionPosition(position.partition, position.seq + len(decided.events), position.commits + 1)
