"""Rechecks suspicious records of an installation while orders change.

A check reads in slices, so one document may be newer than another that it is compared with. A recheck reads
the suspects again, between two reads of a document that every change of them would also change. If those two
are equal, nothing changed in between, and a fault that is still there is real.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tracking.upkeep.checker import Inspection, Records, outcome_faults, range_fault
from tracking.upkeep.held_checks import count_fault
from tracking.upkeep.record_reader import (
    BY_ORDER,
    HELD_FIELDS,
    PARKED_FIELDS,
    correction_entries,
    events_of,
    outcomes_of,
    with_decided,
    without_archived,
)
from tracking_shared.contracts.documents import EventDocument, PartitionDocument, due_key, update_key
from tracking_shared.contracts.formats import ORDER_EVENTS, ORDERS, upcast_all
from tracking_shared.contracts.timestamps import UNIX_EPOCH
from tracking_shared.contracts.workflow import Workflow
from tracking_shared.storage.database import Database
from tracking_shared.storage.keyset import read_pages

PAUSES_SECONDS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
"""The waits before each recheck of suspects that changed during the previous one. Orders change rarely."""

MAX_SUSPECTS = 1_000
"""Suspects per recheck."""


@dataclass(slots=True)
class RecheckResult:
    """The faults that were confirmed."""

    faults: list[str] = field(default_factory=list)
    unsettled: int = 0
    """Suspects that changed during every recheck."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """One read of some suspects: the faults of each, and its state before and after."""

    faults: Mapping[str, list[str]]
    before: Mapping[str, Any]
    after: Mapping[str, Any]


class Recheck:
    """Reads suspects of one installation again, and judges those that did not change meanwhile."""

    def __init__(
        self,
        database: Database,
        partitions: Sequence[PartitionDocument],
        workflow: Workflow,
        outcomes_since: datetime,
        audited_since: datetime,
    ) -> None:
        self._database = database
        self._partitions = partitions
        self._workflow = workflow
        self._outcomes_since = outcomes_since
        self._audited_since = audited_since

    async def orders(self, records: Records) -> RecheckResult:
        """Rechecks complete orders, some of which seem to have a fault."""
        return await _until_unchanged(sorted(self._order_faults(records)), self._read_orders)

    async def outcomes(self, records: Records) -> RecheckResult:
        """Rechecks outcomes with the events that they point to, some of which seem to have a fault."""
        return await _until_unchanged(sorted(_outcome_faults(records)), self._read_outcomes)

    async def parked(self, records: Records) -> RecheckResult:
        """Rechecks parked updates, some of which seem to have an outcome."""
        return await _until_unchanged(sorted(self._parked_faults(records)), self._read_parked)

    async def parked_ranges(self, order_ids: Sequence[str]) -> RecheckResult:
        """Rechecks orders whose parked updates seem to differ from the range in their partition."""
        return await _until_unchanged(order_ids, self._read_ranges)

    async def held(self, records: Records) -> RecheckResult:
        """Rechecks held updates, some of which seem to have an outcome, or to be held for too long."""
        return await _until_unchanged([one["_id"] for one in records.held], self._read_held)

    async def held_counts(self, partitions: Sequence[int]) -> RecheckResult:
        """Rechecks partitions that seem to have another number of held updates than they say."""
        return await _until_unchanged(list(map(str, partitions)), self._read_held_counts)

    async def _read_held(self, ids: Sequence[str]) -> _Reading:
        before = await self._held(ids)
        records = await with_decided(self._database, list(before.values()))
        partitions = await self._database.partitions.find({}).to_list()
        found: dict[str, list[str]] = {}
        for one in records.held:
            part = Records(held=[one], updates=records.updates, events=records.events)
            if faults := list(Inspection(partitions).held_faults(part)):
                found[one["_id"]] = faults
        return _Reading(found, before, await self._held(ids))

    async def _read_held_counts(self, names: Sequence[str]) -> _Reading:
        before = {str(one["_id"]): one for one in await self._database.partitions.find({}).to_list()}
        found: dict[str, list[str]] = {}
        for name in names:
            keys = {"$gte": due_key(int(name), UNIX_EPOCH), "$lt": due_key(int(name) + 1, UNIX_EPOCH)}
            counted = len(await self._database.held.find({"held_key": keys}, {"_id": 1}).to_list())
            if fault := count_fault(before[name], counted):
                found[name] = [fault]
        after = {str(one["_id"]): one for one in await self._database.partitions.find({}).to_list()}
        return _Reading(found, _commits(before), _commits(after))

    async def _held(self, ids: Sequence[str]) -> dict[str, Any]:
        found = await self._database.held.find({"_id": {"$in": ids}}, HELD_FIELDS).to_list()
        return {one["_id"]: one for one in found}

    async def _read_orders(self, order_ids: Sequence[str]) -> _Reading:
        before = await self._orders(order_ids)
        conditions = {"order_id": {"$in": order_ids}}
        pages = read_pages(self._database.order_events, conditions, BY_ORDER, batch=MAX_SUSPECTS)
        events = [event async for page in pages for event in page]
        keys = [update_key(event["order_id"], event["update_id"]) for event in events]
        updates = await outcomes_of(self._database, keys)
        audit = await correction_entries(self._database, events)
        after = await self._orders(order_ids)
        events = await without_archived(self._database, list(after.values()), events)
        records = Records(orders=list(after.values()), events=events, updates=updates, audit=audit)
        return _Reading(self._order_faults(records), before, after)

    async def _read_outcomes(self, keys: Sequence[str]) -> _Reading:
        before = await self._outcomes(keys)
        positions = [update["position"] for update in before.values()]
        found = await self._database.order_events.find({"_id": {"$in": positions}}).to_list()
        events = upcast_all(ORDER_EVENTS, found)
        records = Records(updates=list(before.values()), events=events)
        return _Reading(_outcome_faults(records), before, await self._outcomes(keys))

    async def _read_parked(self, keys: Sequence[str]) -> _Reading:
        before = await self._parked({"_id": {"$in": keys}})
        outcomes = await self._outcomes(keys)
        events = await events_of(self._database, keys)
        after = await self._parked({"_id": {"$in": keys}})
        records = Records(parked=list(after.values()), updates=list(outcomes.values()), events=events)
        return _Reading(self._parked_faults(records), before, after)

    async def _read_ranges(self, order_ids: Sequence[str]) -> _Reading:
        before = _ranges_of(await self._database.partitions.find({}).to_list())
        parked = await self._parked({"order_id": {"$in": order_ids}})
        partitions = await self._database.partitions.find({}).to_list()
        inspection = Inspection(partitions)
        list(inspection.parked_faults(Records(parked=list(parked.values()))))
        mismatched = set(inspection.mismatched_ranges())
        faults = {order_id: [range_fault(order_id)] for order_id in order_ids if order_id in mismatched}
        return _Reading(faults, before, _ranges_of(partitions))

    async def _orders(self, order_ids: Sequence[str]) -> dict[str, Any]:
        found = await self._database.orders.find({"_id": {"$in": order_ids}}).to_list()
        return {order["_id"]: order for order in upcast_all(ORDERS, found)}

    async def _outcomes(self, keys: Sequence[str]) -> dict[str, Any]:
        return {update["_id"]: update for update in await outcomes_of(self._database, keys)}

    async def _parked(self, conditions: dict[str, Any]) -> dict[str, Any]:
        found = await self._database.parked.find(conditions, PARKED_FIELDS).to_list()
        return {command["_id"]: command for command in found}

    def _order_faults(self, records: Records) -> dict[str, list[str]]:
        """The faults by order id, of orders with faults only."""
        found = {}
        for order_id, part in _by_order(records):
            inspection = Inspection(
                self._partitions, self._workflow, self._outcomes_since, self._audited_since
            )
            if faults := list(inspection.order_faults(part)):
                found[order_id] = faults
        return found

    def _parked_faults(self, records: Records) -> dict[str, list[str]]:
        outcomes = {update["_id"]: update for update in records.updates}
        found = {}
        for command in records.parked:
            own = outcomes.get(command["_id"])
            made = [event for event in records.events if event.get("update_key") == command["_id"]]
            part = Records(parked=[command], updates=[own] if own else [], events=made)
            if faults := list(Inspection(self._partitions).parked_faults(part)):
                found[command["_id"]] = faults
        return found


async def _until_unchanged(
    suspects: Sequence[str], read: Callable[[Sequence[str]], Awaitable[_Reading]]
) -> RecheckResult:
    """Reads suspects until they did not change during a read, with growing waits. Returns their faults."""
    result = RecheckResult()
    for start in range(0, len(suspects), MAX_SUSPECTS):
        changing = list(suspects[start : start + MAX_SUSPECTS])
        for pause in PAUSES_SECONDS:
            if not changing:
                break
            await asyncio.sleep(pause)
            reading = await read(changing)
            unchanged = {name for name in changing if reading.before.get(name) == reading.after.get(name)}
            result.faults += [fault for name in sorted(unchanged) for fault in reading.faults.get(name, ())]
            changing = [name for name in changing if name not in unchanged]
        result.unsettled += len(changing)
    return result


def _outcome_faults(records: Records) -> dict[str, list[str]]:
    events = {event["_id"]: event for event in records.events}
    found = {}
    for update in records.updates:
        position = update["position"]
        made = [events[position]] if position is not None and position in events else []
        if faults := list(outcome_faults([update], made)):
            found[update["_id"]] = faults
    return found


def _by_order(records: Records) -> Iterator[tuple[str, Records]]:
    """The records split by order."""
    histories: dict[str, list[EventDocument]] = defaultdict(list)
    for event in records.events:
        histories[event["order_id"]].append(event)
    orders = {order["_id"]: order for order in records.orders}
    updates = {update["_id"]: update for update in records.updates}
    for order_id in sorted(histories.keys() | orders.keys()):
        events = histories.get(order_id, [])
        keys = [update_key(order_id, event["update_id"]) for event in events]
        yield (
            order_id,
            Records(
                orders=[orders[order_id]] if order_id in orders else [],
                events=events,
                updates=[updates[key] for key in keys if key in updates],
                audit=records.audit,
            ),
        )


def _commits(partitions: Mapping[str, PartitionDocument]) -> dict[str, int]:
    return {name: partition["commits"] for name, partition in partitions.items()}


def _ranges_of(partitions: Sequence[PartitionDocument]) -> dict[str, Any]:
    return {parked["order_id"]: parked for partition in partitions for parked in partition["parked"]}
