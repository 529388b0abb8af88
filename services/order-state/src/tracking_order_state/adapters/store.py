"""The store: the documents that a batch reads, and the one transaction that writes it."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from time import monotonic
from typing import Any

import pymongo
from pymongo import DeleteOne, ReadPreference, ReplaceOne, UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import BulkWriteError
from pymongo.read_concern import ReadConcern

from tracking_order_state.adapters.archivings import write_archiving
from tracking_order_state.adapters.due_orders import database_time
from tracking_order_state.adapters.erasure_store import read_erased, write_erasure
from tracking_order_state.adapters.held_updates import count_waiting, holding_operations, read_held
from tracking_order_state.adapters.order_reads import await_both, list_refused, read_orders
from tracking_order_state.adapters.outcomes import write_outcomes
from tracking_order_state.adapters.ownership import Ownership
from tracking_order_state.adapters.system_reads import SystemReads
from tracking_order_state.domain.decisions import Decisions, Known
from tracking_order_state.domain.erasure import ErasedContacts
from tracking_order_state.domain.partition import PartitionPosition, encode_parked_orders
from tracking_order_state.domain.remembered_orders import MAX_UNKNOWN_ORDERS
from tracking_order_state.errors import NotNew, Unwritable
from tracking_shared.contracts.commands import AnyCommand
from tracking_shared.contracts.documents import (
    ArchivedOrderDocument,
    EventDocument,
    HeldDocument,
    OrderDocument,
    ParkedDocument,
    PartitionDocument,
    UpdateDocument,
    correction_entry,
    event_type,
    horizon_of,
    update_key,
)
from tracking_shared.contracts.formats import (
    ORDER_EVENTS,
    ORDERS,
    PARKED,
    PARTITIONS,
    UPDATES,
    stamped,
    stamped_all,
    upcast,
    upcast_all,
)
from tracking_shared.contracts.held import held_update_key
from tracking_shared.contracts.layout import Layout
from tracking_shared.contracts.timestamps import now
from tracking_shared.storage.audit_trail import KEPT_DAYS
from tracking_shared.storage.database import (
    DURABLE,
    OPERATION_TIMEOUT_MS,
    Database,
    DatabaseUnavailable,
    driver_errors,
)
from tracking_shared.storage.homes import find_homes
from tracking_shared.storage.reads import follow_session

CONFLICT_SECONDS = 1.0
"""The time for which a transaction is started again while another one conflicts. That of a live worker takes
milliseconds. All partitions of this worker wait meanwhile; the caller then tries each alone."""

KEY_EXISTS = 11000

DOCUMENT_FAULTS = {
    2: "a value that is not allowed",
    14: "a value of the wrong type",
    15: "a number out of range",
    16: "a length out of range",
    22: "BSON that cannot be read",
    52: "a name of a field begins with $",
    53: "a value that cannot be an id",
    55: "a reference without its parts",
    56: "an empty name of a field",
    57: "a dot in the name of a field",
    121: "the collection's validator refuses it",
    171: "two arrays in one index",
    201: "no key of an index can be made of it",
    357: "an unknown type",
    378: "BSON that breaks a rule",
    10334: "larger than a document may be",
    KEY_EXISTS: "there is one with this key",
    17280: "a key too long for an index",
    17419: "larger than a document may be, after an update",
    17420: "larger than a document may be, to be inserted by an update",
}
"""Error codes of MongoDB for a fault of the document itself, which recurs whenever the document is written.
After any other one it can be written later: a full disk (14031), a quota (8000), blocked writes (371), a
missing right (13)."""


@contextmanager
def refusals() -> Iterator[None]:
    """Raises `Unwritable` (`NotNew` for its key) when the database refuses a document for its contents. Other
    refusals (the database is away, full or in conflict) pass as they are.
    """
    try:
        yield
    except BulkWriteError as error:
        codes = {fault["code"] for fault in error.details["writeErrors"]}
        if not codes or not codes <= DOCUMENT_FAULTS.keys():
            raise
        if error.has_error_label("TransientTransactionError"):
            raise
        refusal = NotNew if KEY_EXISTS in codes else Unwritable
        raise refusal(", ".join(map(str, sorted(codes)))) from None


class Store:
    """The reads and writes of one worker.

    All its transactions run in one session, one after the other, and every partition that it claims
    names that session: so the next owner can end a transaction that was left open.

    All reads for decisions are causally after every claim and commit of this worker. Whatever was
    acknowledged to anybody before a claim precedes it in the database, so nothing of that is missed, also
    right after the database has elected another primary.
    """

    def __init__(
        self,
        database: Database,
        *,
        commit_seconds: float = OPERATION_TIMEOUT_MS / 1000,
        audit_days: int = KEPT_DAYS,
    ) -> None:
        """`commit_seconds`: the bound of one commit with all retries of the driver. `audit_days`: the life of
        the entries of corrections.
        """
        self._database = database
        self._audit_days = audit_days
        self._commit_seconds = commit_seconds
        self._session = database.client.start_session()
        self._ownership = Ownership(database, self._session)
        self.system = SystemReads(database, self._session)
        self._second_session = database.client.start_session()
        """For the second one of two reads at once: a session serves one at a time."""
        self._copies_until: datetime | None = None
        """Until then outcomes of applied updates are written beside their events, too. None: not read yet."""

    async def answers(self) -> bool:
        """Returns True if the database answers at all. Bounded in time."""
        try:
            await self._database.ping()
        except DatabaseUnavailable:
            return False
        return True

    async def claim(self, partition: int) -> PartitionPosition:
        """Makes this worker the only one that can write to the partition; returns its position.

        Raises:
            DatabaseUnavailable: no answer, or somebody's transaction is in the way and could not be ended.
        """
        await self._choose_form()
        return _position(await self._ownership.claim(partition))

    async def _choose_form(self) -> None:
        if self._copies_until is None and (form := await self._database.form_of_outcomes()):
            self._copies_until = form["in_events_from"]

    def _writes_copies(self) -> bool:
        return self._copies_until is None or now() < self._copies_until

    async def recover(self, position: PartitionPosition) -> PartitionPosition:
        """The position of the partition after a commit at `position` whose answer was lost.

        Raises:
            Fenced: another worker has claimed it meanwhile.
            DatabaseUnavailable: no answer.
        """
        return _position(await self._ownership.recover(position.partition))

    async def load(self, commands: Sequence[AnyCommand], parked_orders: Collection[str] = ()) -> Known:
        """Loads the documents of the orders and updates that `commands` name.

        Raises:
            DatabaseUnavailable: no answer.
        """
        order_ids = list({command.order_id for command in commands})
        keys = list({update_key(command.order_id, command.update_id) for command in commands})
        concerned = [c for c in commands if c.order_id in parked_orders] if parked_orders else []
        database = self._database
        follow_session(self._second_session, self._session)
        with driver_errors():
            orders, outcomes = await await_both(
                database.orders.find({"_id": {"$in": order_ids}}, session=self._session).to_list(),
                database.updates.find({"_id": {"$in": keys}}, session=self._second_session).to_list(),
            )
            # After the outcomes: one that is migrated meanwhile is found here.
            follow_session(self._session, self._second_session)
            outcomes, orders = upcast_all(UPDATES, outcomes), upcast_all(ORDERS, orders)
            events = await self._events_of(keys, outcomes)
        return Known(
            orders={order["_id"]: order for order in orders},
            events=events,
            refusals={
                one["_id"]: one for one in outcomes if one["position"] is None and one["_id"] not in events
            },
            parked=await self._parked_among(concerned) if concerned else {},
        )

    async def _events_of(self, keys: list[str], outcomes: list[UpdateDocument]) -> dict[str, EventDocument]:
        """The events of known updates. One of an earlier release is found by its outcome, which has the
        fingerprint.
        """
        found = self._database.order_events
        made = await found.find({"update_key": {"$in": keys}}, session=self._session).to_list()
        events = {event["update_key"]: event for event in upcast_all(ORDER_EVENTS, made)}
        earlier = {
            one["position"]: one
            for one in outcomes
            if one["position"] is not None and one["_id"] not in events
        }
        if earlier:
            older = await found.find({"_id": {"$in": list(earlier)}}, session=self._session).to_list()
            for event in upcast_all(ORDER_EVENTS, older):
                outcome = earlier[event["_id"]]
                event["fingerprint"] = outcome["fingerprint"]
                events[outcome["_id"]] = event
        return events

    async def load_orders(
        self, order_ids: Collection[str], without_document: Collection[str] = ()
    ) -> tuple[dict[str, OrderDocument], dict[str, list[str]]]:
        """Loads the documents of orders, and their refused update ids; of those `without_document` the ids
        alone. Where these are too many, only the orders with more than `MAX_IDS` have any.

        Raises:
            DatabaseUnavailable: no answer.
        """
        follow_session(self._second_session, self._session)
        with driver_errors():
            orders, refused = await await_both(
                read_orders(self._database, self._session, order_ids),
                list_refused(self._database, self._second_session, [*order_ids, *without_document]),
            )
        follow_session(self._session, self._second_session)
        return orders, refused

    async def load_archived(self, order_ids: Collection[str]) -> dict[str, ArchivedOrderDocument]:
        """The remainders of those of these orders that are archived, by order id.

        Raises:
            DatabaseUnavailable: no answer.
        """
        with driver_errors():
            found = self._database.archived_orders.find({"_id": {"$in": [*order_ids]}}, session=self._session)
            return {one["_id"]: one for one in await found.to_list()}

    async def find_homes(self, layout: Layout, order_ids: Collection[str]) -> dict[str, int]:
        """The homes of those of these orders that have one, as of the newest commit.

        Raises:
            DatabaseUnavailable: no answer.
        """
        async with self._database.client.start_session() as own:
            follow_session(own, self._session)
            return await find_homes(self._database, layout, order_ids, own)

    async def load_erased(self) -> ErasedContacts:
        """The persons that are erased, by all erasures that were accepted before the newest claim.

        Raises:
            DatabaseUnavailable: no answer.
        """
        # In a session of its own: partitions are claimed during commits on others.
        with driver_errors():
            async with self._database.client.start_session() as own:
                follow_session(own, self._session)
                return await read_erased(self._database, own)

    async def load_unknown_orders(self) -> set[str] | None:
        """The order ids under which something was refused that belonged to no order, in all partitions. None:
        they are too many.

        Raises:
            DatabaseUnavailable: no answer.
        """
        with driver_errors():
            found = self._database.updates.find({"merchant_id": None}, {"order_id": 1}, session=self._session)
            listed = await found.limit(MAX_UNKNOWN_ORDERS + 1).to_list()
        return {one["order_id"] for one in listed} if len(listed) <= MAX_UNKNOWN_ORDERS else None

    async def load_held(
        self, order_ids: Collection[str], sender_keys: Collection[str]
    ) -> tuple[dict[str, list[HeldDocument]], dict[str, EventDocument], dict[str, int]]:
        """The held updates of orders; the events that their update ids have made; and how many are held of
        these senders for orders that did not exist.

        Raises:
            TooManyHeld: they are more than one transaction should apply.
            DatabaseUnavailable: no answer.
        """
        with driver_errors():
            held = await read_held(self._database, self._session, order_ids)
            keys = [held_update_key(one) for some in held.values() for one in some]
            events = await self._events_of(keys, []) if keys else {}
            waiting = await count_waiting(self._database, self._session, sender_keys) if sender_keys else {}
        return held, events, waiting

    async def time(self) -> datetime:
        """The time by the clock of the database.

        Raises:
            DatabaseUnavailable: no answer.
        """
        return await database_time(self._database)

    async def _parked_among(self, commands: Sequence[AnyCommand]) -> dict[str, ParkedDocument]:
        keys = list({update_key(command.order_id, command.update_id) for command in commands})
        with driver_errors():
            found = self._database.parked.find({"_id": {"$in": keys}}, session=self._session)
            parked = upcast_all(PARKED, await found.to_list())
        return {document["_id"]: document for document in parked}

    async def parked_command(self, command: AnyCommand) -> ParkedDocument | None:
        """The parked document of a command, if it is parked.

        Raises:
            DatabaseUnavailable: no answer.
        """
        with driver_errors():
            found = await self._database.parked.find_one(
                {"_id": update_key(command.order_id, command.update_id)}, session=self._session
            )
            return upcast(PARKED, found) if found else None

    async def parked_at(self, order_id: str, place: int) -> ParkedDocument:
        """The parked command of an order at a place of its range.

        Raises:
            DatabaseUnavailable: no answer.
        """
        with driver_errors():
            found = await self._database.parked.find_one(
                {"order_id": order_id, "place": place}, session=self._session
            )
            if found is None:
                raise LookupError(f"nothing is parked of order {order_id} at {place}")
            return upcast(PARKED, found)

    async def newest_events(self, order_id: str, limit: int) -> list[EventDocument]:
        """The newest events of an order, at most `limit`.

        Raises:
            DatabaseUnavailable: no answer.
        """
        with driver_errors():
            found = self._database.order_events.find({"order_id": order_id}, session=self._session)
            newest = await found.sort("version", pymongo.DESCENDING).limit(limit).to_list()
            return upcast_all(ORDER_EVENTS, newest)

    async def waiting(self) -> dict[int, tuple[int, int]]:
        """The numbers of parked orders and of held updates of each partition.

        Raises:
            DatabaseUnavailable: no answer.
        """
        with driver_errors():
            partitions = await self._database.partitions.find({}, {"parked": 1, "held": 1}).to_list()
        return {one["_id"]: (len(one["parked"]), one.get("held", 0)) for one in partitions}

    async def horizons(self) -> dict[int, datetime]:
        """The horizon of each partition.

        Raises:
            DatabaseUnavailable: no answer.
        """
        with driver_errors():
            partitions = await self._database.partitions.find({}, {"horizon": 1}).to_list()
        return {partition["_id"]: horizon_of(partition) for partition in partitions}

    async def commit(
        self, positions: Sequence[PartitionPosition], decisions: Sequence[Decisions]
    ) -> list[PartitionPosition]:
        """Writes all `decisions` in one transaction, if every partition is still at its position, or nothing.

        The horizon of each moves on to the time of what is written. Where there is nothing to write, it
        moves on alone as soon as it is due.

        The driver repeats the transaction on a write conflict (a paused worker may hold a fence
        until the server ends its transaction) and the commit when its answer was lost. By itself it would
        do so for 120 s, each call with the client's whole time-out. Here a conflict is given
        `CONFLICT_SECONDS`, and all of it ends within `commit_seconds`; the caller decides how to go on.

        Raises:
            Fenced: a partition has moved on; another worker owns it.
            Unwritable: the database refuses one of the documents for what is in it.
            DatabaseUnavailable: no answer, or no room, or an earlier commit of this worker has come late:
                whether it was written is unknown, `recover` tells.
        """
        pairs = list(zip(positions, decisions, strict=True))
        writes = [(position, one) for position, one in pairs if one.is_written_at(position)]
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
        return [one.position_after(position) for position, one in pairs]

    async def _write(
        self, session: AsyncClientSession, writes: Sequence[tuple[PartitionPosition, Decisions]]
    ) -> None:
        database = self._database
        worker = self._ownership.worker
        fences: list[Any] = [_fence(position, worker, decisions) for position, decisions in writes]
        fenced = await database.partitions.bulk_write(fences, ordered=True, session=session)
        if fenced.matched_count != len(writes):
            await self._ownership.refuse(session, [position.partition for position, _ in writes])
        events = [event for _, decisions in writes for event in decisions.events]
        if events:
            written = stamped_all(ORDER_EVENTS, events)
            await database.order_events.insert_many(written, ordered=True, session=session)
            replacements: list[Any] = [
                ReplaceOne({"_id": order_id}, stamped(ORDERS, order), upsert=True)
                for _, decisions in writes
                for order_id, order in decisions.orders.items()
            ]
            await database.orders.bulk_write(replacements, ordered=True, session=session)
        corrections = [event for event in events if event_type(event) == "order.corrected"]
        if corrections:
            entries = [correction_entry(event, self._audit_days) for event in corrections]
            await database.audit.insert_many(entries, ordered=True, session=session)
        await write_outcomes(
            database,
            session,
            [(position.partition, decisions) for position, decisions in writes],
            with_copies=self._writes_copies(),
        )
        parking = [operation for _, decisions in writes for operation in _parking(decisions)]
        if parking:
            await database.parked.bulk_write(parking, ordered=True, session=session)
        holding = [operation for _, decisions in writes for operation in holding_operations(decisions)]
        if holding:
            await database.held.bulk_write(holding, ordered=True, session=session)
        for position, decisions in writes:
            await self._write_sweep(session, position.partition, decisions)

    async def _write_sweep(self, session: AsyncClientSession, partition: int, decisions: Decisions) -> None:
        if decisions.erasure is not None:
            await write_erasure(self._database, session, partition, decisions)
        if decisions.archiving is not None:
            await write_archiving(self._database, session, decisions.archiving)


def _position(partition: PartitionDocument) -> PartitionPosition:
    with driver_errors():
        return PartitionPosition.decode(upcast(PARTITIONS, partition))


def _parking(decisions: Decisions) -> list[Any]:
    return [
        *(DeleteOne({"_id": key}) for key in decisions.released),
        *(
            ReplaceOne({"_id": key}, stamped(PARKED, document), upsert=True)
            for key, document in decisions.parked.items()
        ),
    ]


def _fence(position: PartitionPosition, worker: str, decisions: Decisions) -> UpdateOne:
    after = decisions.position_after(position)
    fields: dict[str, Any] = {"horizon": after.horizon}
    if decisions.parked_ranges:
        fields["parked"] = encode_parked_orders(after.parked_orders)
    if decisions.archiving is not None and decisions.archiving.orders:
        fields |= {"log_start": after.log_start, "archived_until": after.archived_until}
    counted = {"commits": 1, "seq": len(decisions.events)}
    if decisions.archiving is not None:
        counted["archived"] = after.archived - position.archived
    if decisions.held or decisions.unheld:
        counted["held"] = after.held - position.held
    change = {"$inc": counted, "$set": fields}
    # The worker, too: in a database that was restored to an earlier state, others may have brought the number
    # of commits to where this worker remembers it.
    return UpdateOne({"_id": position.partition, "commits": position.commits, "worker": worker}, change)
