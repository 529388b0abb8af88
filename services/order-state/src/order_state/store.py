"""The store: what a micro-batch reads, and the one transaction that writes it."""

import asyncio
from collections.abc import Awaitable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Any, TypeVar

import pymongo
from pymongo import DeleteOne, ReadPreference, ReplaceOne, UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.read_concern import ReadConcern

from order_state.decided import AnyCommand, Decided, Known
from order_state.horizon import horizon_after, is_due
from order_state.lines import Lines, decode_lines, encode_lines, lines_after
from order_state.ownership import Ownership
from order_state.refusals import refusals
from shared.causal_reads import follow_session
from shared.database import (
    DURABLE,
    OPERATION_TIMEOUT_MS,
    Database,
    DatabaseUnavailable,
    driver_errors,
)
from shared.documents import EventDocument, ParkedDocument, PartitionDocument, horizon_of, update_key
from shared.timestamps import UNIX_EPOCH

CONFLICT_SECONDS = 1.0
"""How long a transaction is begun anew where another one is in its way. A living worker's takes milliseconds.
All partitions of this worker wait meanwhile, so whoever called had better find out which one it is."""

A = TypeVar("A")
B = TypeVar("B")


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

    What a decision stands on is read causally after every claim and commit of this worker. Whatever was
    acknowledged to anybody before a claim precedes it in the database, so nothing of that is missed, also
    right after the database has elected another primary.
    """

    def __init__(self, database: Database, *, commit_seconds: float = OPERATION_TIMEOUT_MS / 1000) -> None:
        """`commit_seconds`: how long a commit may take with everything that the driver repeats of it."""
        self._database = database
        self._commit_seconds = commit_seconds
        self._session = database.client.start_session()
        self._ownership = Ownership(database, self._session)
        self._beside = database.client.start_session()
        """For the second one of two reads at once: a session serves one at a time."""

    async def answers(self) -> bool:
        """Whether the database answers at all. Bounded in time."""
        try:
            await self._database.ping()
        except DatabaseUnavailable:
            return False
        return True

    async def claim(self, partition: int) -> PartitionPosition:
        """Makes this worker the only one that can write to the partition, and tells where it stands.

        Raises:
            DatabaseUnavailable: no answer, or somebody's transaction is in the way and could not be ended.
        """
        return _position(await self._ownership.claim(partition))

    async def recover(self, position: PartitionPosition) -> PartitionPosition:
        """Where the partition stands after a commit on `position` whose answer was lost.

        Raises:
            Fenced: another worker has claimed it meanwhile.
            DatabaseUnavailable: no answer.
        """
        return _position(await self._ownership.recover(position.partition))

    async def load(self, commands: Sequence[AnyCommand], parked_orders: Collection[str] = ()) -> Known:
        """What the database holds of the orders and updates that `commands` name.

        Raises:
            DatabaseUnavailable: no answer.
        """
        order_ids = list({command.order_id for command in commands})
        keys = list({update_key(command.order_id, command.update_id) for command in commands})
        concerned = [c for c in commands if c.order_id in parked_orders] if parked_orders else []
        database = self._database
        follow_session(self._beside, self._session)
        with driver_errors():
            orders, updates = await _beside(
                database.orders.find({"_id": {"$in": order_ids}}, session=self._session).to_list(),
                database.updates.find({"_id": {"$in": keys}}, session=self._beside).to_list(),
            )
            positions = [update["position"] for update in updates if update["position"] is not None]
            events = await self._events_at(positions) if positions else []
        return Known(
            orders={order["_id"]: order for order in orders},
            updates={update["_id"]: update for update in updates},
            events={event["_id"]: event for event in events},
            parked=await self._parked_among(concerned) if concerned else {},
        )

    async def _events_at(self, positions: list[int]) -> list[EventDocument]:
        follow_session(self._session, self._beside)
        found = self._database.order_events.find({"_id": {"$in": positions}}, session=self._session)
        return await found.to_list()

    async def _parked_among(self, commands: Sequence[AnyCommand]) -> dict[str, ParkedDocument]:
        keys = list({update_key(command.order_id, command.update_id) for command in commands})
        with driver_errors():
            parked = await self._database.parked.find({"_id": {"$in": keys}}, session=self._session).to_list()
        return {document["_id"]: document for document in parked}

    async def parked_command(self, command: AnyCommand) -> ParkedDocument | None:
        """The command as it is parked, if it is.

        Raises:
            DatabaseUnavailable: no answer.
        """
        with driver_errors():
            return await self._database.parked.find_one(
                {"_id": update_key(command.order_id, command.update_id)}, session=self._session
            )

    async def parked_at(self, order_id: str, place: int) -> ParkedDocument:
        """What is parked of an order at a place of its line.

        Raises:
            DatabaseUnavailable: no answer.
        """
        with driver_errors():
            found = await self._database.parked.find_one(
                {"order_id": order_id, "place": place}, session=self._session
            )
        if found is None:
            raise LookupError(f"nothing is parked of order {order_id} at {place}")
        return found

    async def newest_events(self, order_id: str, limit: int) -> list[EventDocument]:
        """The newest events of an order, at most `limit`.

        Raises:
            DatabaseUnavailable: no answer.
        """
        with driver_errors():
            found = self._database.order_events.find({"order_id": order_id}, session=self._session)
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
        until the server ends its transaction) and the commit when its answer was lost. By itself it would
        do so for 120 s, each call with the client's whole time-out. Here a conflict is given
        `CONFLICT_SECONDS`, and all of it ends within `commit_seconds`; who called decides how to go on.

        Raises:
            Fenced: a partition has moved on; another worker owns it.
            Unwritable: the database refuses one of the documents for what is in it.
            DatabaseUnavailable: no answer, or no room, or an earlier commit of this worker has come late:
                whether it was written is unknown, `recover` tells.
        """
        writes = [pair for pair in zip(positions, decided, strict=True) if _is_written(*pair)]
        if not writes:
            return list(positions)

        begun: float | None = None

        async def write(session: AsyncClientSession) -> None:
            nonlocal begun
            begun = begun or monotonic()
            if monotonic() - begun > CONFLICT_SECONDS:
                raise DatabaseUnavailable("a transaction is in the way of this one")
            with refusals():
                await self._write(session, writes)

        with driver_errors(), pymongo.timeout(self._commit_seconds):
            await self._session.with_transaction(
                write,
                read_concern=ReadConcern("snapshot"),
                write_concern=DURABLE,
                read_preference=ReadPreference.PRIMARY,
            )
        return [_after(position, result) for position, result in zip(positions, decided, strict=True)]

    async def _write(
        self, session: AsyncClientSession, writes: Sequence[tuple[PartitionPosition, Decided]]
    ) -> None:
        database = self._database
        fences: list[Any] = [_fence(position, decided) for position, decided in writes]
        fenced = await database.partitions.bulk_write(fences, ordered=True, session=session)
        if fenced.matched_count != len(writes):
            await self._ownership.refuse(session, [position.partition for position, _ in writes])
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


async def _beside(first: Awaitable[A], second: Awaitable[B]) -> tuple[A, B]:
    """What both return. Also if one of them fails, both are at their end: their sessions are free again."""
    one, other = await asyncio.gather(first, second, return_exceptions=True)
    if isinstance(one, BaseException):
        raise one
    if isinstance(other, BaseException):
        raise other
    return one, other


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
