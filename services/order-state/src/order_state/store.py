"""The store: what a micro-batch reads, and the one transaction that writes it."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pymongo
from bson.binary import UUID_SUBTYPE, Binary
from pymongo import DeleteOne, ReplaceOne, ReturnDocument, UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from order_state.decided import AnyCommand, Decided, Known
from order_state.faults import Fenced
from order_state.horizon import horizon_after, is_due
from order_state.lines import Lines, decode_lines, encode_lines, lines_after
from order_state.refusals import refusals
from shared.database import DURABLE, Database, DatabaseUnavailable, driver_errors
from shared.documents import EventDocument, ParkedDocument, PartitionDocument, horizon_of, update_key
from shared.timestamps import UNIX_EPOCH

CLAIM_TIMEOUT_SECONDS = 2
"""A claim takes a millisecond, unless somebody's transaction is in its way."""


@dataclass(frozen=True, slots=True)
class PartitionPosition:
    """Where a partition stands: its newest event, how many claims and commits made it so, the orders
    that have something parked, and the time before which nothing may be recorded in it any more.
    """

    partition: int
    seq: int
    commits: int
    lines: Lines
    horizon: datetime = UNIX_EPOCH


class Store:
    """Reads and writes of one worker.

    All its transactions run in one session, one after the other, and every partition that it claims
    names that session: so whoever takes over can end a transaction that was left open.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._session = database.client.start_session()
        self._worker = self._session.session_id["id"].hex()

    async def claim(self, partition: int) -> PartitionPosition:
        """Makes this worker the only one that can write to the partition, and tells where it stands.

        Raises:
            DatabaseUnavailable: no answer, or somebody's transaction is in the way; it has been ended,
                try again.
        """
        mine = {"$inc": {"commits": 1}, "$set": {"worker": self._worker}}
        try:
            # Not a transaction: one that was left open here would be nobody's that we know of.
            with pymongo.timeout(CLAIM_TIMEOUT_SECONDS):
                document = await self._database.partitions.find_one_and_update(
                    {"_id": partition}, mine, return_document=ReturnDocument.AFTER
                )
        except PyMongoError as error:
            await self._end_open_transaction(partition)
            raise DatabaseUnavailable(f"claim of partition {partition}: {type(error).__name__}") from error
        if document is None:
            raise DatabaseUnavailable(f"partition {partition} is not set up")
        return _position(document)

    async def _end_open_transaction(self, partition: int) -> None:
        # A worker that died or froze within a transaction holds the partition until the server ends
        # it: seconds on a server set up for it, a minute on others. A living one just runs it again.
        with driver_errors():
            document = await self._database.partitions.find_one({"_id": partition})
            if document and document["worker"] not in ("", self._worker):
                session = Binary(bytes.fromhex(document["worker"]), UUID_SUBTYPE)
                await self._database.client.admin.command({"killSessions": [{"id": session}]})

    async def recover(self, position: PartitionPosition) -> PartitionPosition:
        """Where the partition stands after a commit on `position` whose answer was lost.

        Raises:
            Fenced: another worker has claimed it meanwhile.
            DatabaseUnavailable: no answer.
        """
        with driver_errors():
            document = await self._database.partitions.find_one({"_id": position.partition})
        if document is None or document["worker"] != self._worker:
            raise Fenced(f"partition {position.partition} was claimed by another worker")
        return _position(document)

    async def load(self, commands: Sequence[AnyCommand], parked_orders: Collection[str] = ()) -> Known:
        """What the database holds of the orders and updates that `commands` name.

        Raises:
            DatabaseUnavailable: no answer.
        """
        order_ids = list({command.order_id for command in commands})
        keys = list({update_key(command.order_id, command.update_id) for command in commands})
        concerned = [c for c in commands if c.order_id in parked_orders] if parked_orders else []
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
            parked=await self._parked_among(concerned) if concerned else {},
        )

    async def _parked_among(self, commands: Sequence[AnyCommand]) -> dict[str, ParkedDocument]:
        keys = list({update_key(command.order_id, command.update_id) for command in commands})
        with driver_errors():
            parked = await self._database.parked.find({"_id": {"$in": keys}}).to_list()
        return {document["_id"]: document for document in parked}

    async def parked_command(self, command: AnyCommand) -> ParkedDocument | None:
        """The command as it is parked, if it is.

        Raises:
            DatabaseUnavailable: no answer.
        """
        with driver_errors():
            return await self._database.parked.find_one(
                {"_id": update_key(command.order_id, command.update_id)}
            )

    async def parked_at(self, order_id: str, place: int) -> ParkedDocument:
        """What is parked of an order at a place of its line.

        Raises:
            DatabaseUnavailable: no answer.
        """
        with driver_errors():
            found = await self._database.parked.find_one({"order_id": order_id, "place": place})
        if found is None:
            raise LookupError(f"nothing is parked of order {order_id} at {place}")
        return found

    async def newest_events(self, order_id: str, limit: int) -> list[EventDocument]:
        """The newest events of an order, at most `limit`.

        Raises:
            DatabaseUnavailable: no answer.
        """
        with driver_errors():
            found = self._database.order_events.find({"order_id": order_id})
            return await found.sort("version", pymongo.DESCENDING).limit(limit).to_list()

    async def parked_orders(self) -> dict[int, int]:
        """How many orders are parked, by partition.

        Raises:
            DatabaseUnavailable: no answer.
        """
        with driver_errors():
            partitions = await self._database.partitions.find({}, {"parked": 1}).to_list()
        return {partition["_id"]: len(partition["parked"]) for partition in partitions}

    async def horizons(self) -> dict[int, datetime]:
        """The horizon of each partition.

        Raises:
            DatabaseUnavailable: no answer.
        """
        with driver_errors():
            partitions = await self._database.partitions.find({}, {"horizon": 1}).to_list()
        return {partition["_id"]: horizon_of(partition) for partition in partitions}

    async def commit(
        self, positions: Sequence[PartitionPosition], decided: Sequence[Decided]
    ) -> list[PartitionPosition]:
        """Writes all of `decided` or nothing, if every partition still stands at its position.

        The horizon of each moves on to the time of what is written. Where there is nothing to write, it
        moves on alone as soon as it is due.

        The driver repeats the transaction on a write conflict (a paused worker may hold a fence
        until the server ends its transaction) and the commit when its answer was lost, within the
        client's operation timeout.

        Raises:
            Fenced: a partition has moved on; another worker owns it.
            Unwritable: the database refuses one of the documents for what is in it.
            DatabaseUnavailable: no answer, or no room; whether it was written is unknown.
        """
        writes = [pair for pair in zip(positions, decided, strict=True) if _is_written(*pair)]
        if not writes:
            return list(positions)

        async def write(session: AsyncClientSession) -> None:
            with refusals():
                await self._write(session, writes)

        with driver_errors():
            await self._session.with_transaction(
                write, read_concern=ReadConcern("snapshot"), write_concern=DURABLE
            )
        return [_after(position, result) for position, result in zip(positions, decided, strict=True)]

    async def _write(
        self, session: AsyncClientSession, writes: Sequence[tuple[PartitionPosition, Decided]]
    ) -> None:
        database = self._database
        fences: list[Any] = [_fence(position, decided) for position, decided in writes]
        fenced = await database.partitions.bulk_write(fences, ordered=True, session=session)
        if fenced.matched_count != len(writes):
            partitions = [position.partition for position, _ in writes]
            raise Fenced(f"another worker has claimed one of the partitions {partitions}")
        events = [event for _, decided in writes for event in decided.events]
        if events:
            await database.order_events.insert_many(events, ordered=True, session=session)
            replacements: list[Any] = [
                ReplaceOne({"_id": order_id}, order, upsert=True)
                for _, decided in writes
                for order_id, order in decided.orders.items()
            ]
            await database.orders.bulk_write(replacements, ordered=True, session=session)
        updates = [
            update
            for _, decided in writes
            for key, update in decided.updates.items()
            if key not in decided.replaced
        ]
        if updates:
            await database.updates.insert_many(updates, ordered=True, session=session)
        replaced: list[Any] = [
            ReplaceOne({"_id": key}, decided.updates[key], upsert=True)
            for _, decided in writes
            for key in decided.replaced & decided.updates.keys()
        ]
        if replaced:
            await database.updates.bulk_write(replaced, ordered=True, session=session)
        parking = [operation for _, decided in writes for operation in _parking(decided)]
        if parking:
            await database.parked.bulk_write(parking, ordered=True, session=session)


def _parking(decided: Decided) -> list[Any]:
    return [
        *(DeleteOne({"_id": key}) for key in decided.released),
        *(ReplaceOne({"_id": key}, document, upsert=True) for key, document in decided.parked.items()),
    ]


def _is_written(position: PartitionPosition, decided: Decided) -> bool:
    return not decided.is_empty or is_due(position.horizon, decided.time)


def _fence(position: PartitionPosition, decided: Decided) -> UpdateOne:
    fields: dict[str, Any] = {"horizon": horizon_after(position.horizon, decided.time)}
    if decided.lines:
        fields["parked"] = encode_lines(lines_after(position.lines, decided.lines))
    change = {"$inc": {"commits": 1, "seq": len(decided.events)}, "$set": fields}
    return UpdateOne({"_id": position.partition, "commits": position.commits}, change)


def _after(position: PartitionPosition, decided: Decided) -> PartitionPosition:
    if not _is_written(position, decided):
        return position
    return PartitionPosition(
        position.partition,
        position.seq + len(decided.events),
        position.commits + 1,
        lines_after(position.lines, decided.lines) if decided.lines else position.lines,
        horizon_after(position.horizon, decided.time),
    )


def _position(document: PartitionDocument) -> PartitionPosition:
    lines = decode_lines(document["parked"])
    return PartitionPosition(
        document["_id"], document["seq"], document["commits"], lines, horizon_of(document)
    )
