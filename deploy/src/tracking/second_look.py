"""Looks again at what seemed wrong in an installation that is at work.

A check reads piece by piece while orders move, so a document may be newer than the one that it is compared
with. Here the suspects are read anew, between two readings of what each change of them would also change.
Where those two are alike, nothing came in between, and a fault that is seen again is one.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from shared.database import Database
from shared.documents import EventDocument, PartitionDocument, update_key
from shared.key_order import KeyOrder
from shared.key_pages import read_pages
from shared.workflow import Workflow
from tracking.checker import Inspection, Records, line_fault, outcome_faults

PAUSES_SECONDS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
"""Before each look at what moved during the one before. An order takes a step in minutes, not in each."""

MAX_SUSPECTS = 1_000
"""Read anew at once."""

_BY_ORDER = KeyOrder(("order_id", "version"))


@dataclass(slots=True)
class Verdict:
    """What came of looking again."""

    faults: list[str] = field(default_factory=list)
    unsettled: int = 0
    """Suspects that had moved at every look."""


@dataclass(frozen=True, slots=True)
class _Look:
    """One reading of some suspects: the faults of each, and what it stood at before and after."""

    faults: Mapping[str, list[str]]
    before: Mapping[str, Any]
    after: Mapping[str, Any]


class SecondLook:
    """Reads suspects of one installation anew, and judges those that stood still meanwhile."""

    def __init__(
        self,
        database: Database,
        partitions: Sequence[PartitionDocument],
        workflow: Workflow,
        outcomes_since: datetime,
    ) -> None:
        self._database = database
        self._partitions = partitions
        self._workflow = workflow
        self._outcomes_since = outcomes_since

    async def at_orders(self, records: Records) -> Verdict:
        """`records`: whole orders, some of which seem to have a fault."""
        return await _settle(sorted(self._order_faults(records)), self._look_at_orders)

    async def at_outcomes(self, records: Records) -> Verdict:
        """`records`: outcomes with the events that they point to, some of which seem to have a fault."""
        return await _settle(sorted(_outcome_faults(records)), self._look_at_outcomes)

    async def at_parked(self, records: Records) -> Verdict:
        """`records`: parked commands with outcomes that some of them have."""
        return await _settle(sorted(self._parked_faults(records)), self._look_at_parked)

    async def at_lines(self, order_ids: Sequence[str]) -> Verdict:
        """`order_ids`: orders whose parked commands seem not to be those that their partition names."""
        return await _settle(order_ids, self._look_at_lines)

    async def _look_at_orders(self, order_ids: Sequence[str]) -> _Look:
        before = await self._orders(order_ids)
        events = [event async for event in self._events(order_ids)]
        keys = [update_key(event["order_id"], event["update_id"]) for event in events]
        updates = await self._database.updates.find({"_id": {"$in": keys}}).to_list()
        after = await self._orders(order_ids)
        records = Records(orders=list(after.values()), events=events, updates=updates)
        return _Look(self._order_faults(records), before, after)

    async def _look_at_outcomes(self, keys: Sequence[str]) -> _Look:
        before = await self._outcomes(keys)
        positions = [update["position"] for update in before.values()]
        events = await self._database.order_events.find({"_id": {"$in": positions}}).to_list()
        records = Records(updates=list(before.values()), events=events)
        return _Look(_outcome_faults(records), before, await self._outcomes(keys))

    async def _look_at_parked(self, keys: Sequence[str]) -> _Look:
        before = await self._parked({"_id": {"$in": keys}})
        outcomes = await self._outcomes(keys)
        after = await self._parked({"_id": {"$in": keys}})
        records = Records(parked=list(after.values()), updates=list(outcomes.values()))
        return _Look(self._parked_faults(records), before, after)

    async def _look_at_lines(self, order_ids: Sequence[str]) -> _Look:
        before = await self._lines()
        parked = await self._parked({"order_id": {"$in": order_ids}})
        partitions = await self._database.partitions.find({}).to_list()
        inspection = Inspection(partitions)
        list(inspection.parked_faults(Records(parked=list(parked.values()))))
        wrong = {order_id: [line_fault(order_id)] for order_id in inspection.mismatched_lines()}
        faults = {order_id: wrong[order_id] for order_id in order_ids if order_id in wrong}
        return _Look(faults, before, _lines_of(partitions))

    async def _orders(self, order_ids: Sequence[str]) -> dict[str, Any]:
        found = await self._database.orders.find({"_id": {"$in": order_ids}}).to_list()
        return {order["_id"]: order for order in found}

    async def _events(self, order_ids: Sequence[str]) -> AsyncGenerator[EventDocument]:
        of_orders = {"order_id": {"$in": order_ids}}
        async for page in read_pages(self._database.order_events, of_orders, _BY_ORDER, batch=MAX_SUSPECTS):
            for event in page:
                yield event

    async def _outcomes(self, keys: Sequence[str]) -> dict[str, Any]:
        found = await self._database.updates.find({"_id": {"$in": keys}}).to_list()
        return {update["_id"]: update for update in found}

    async def _parked(self, conditions: dict[str, Any]) -> dict[str, Any]:
        fields = {"order_id": 1, "partition": 1, "place": 1}
        found = await self._database.parked.find(conditions, fields).to_list()
        return {command["_id"]: command for command in found}

    async def _lines(self) -> dict[str, Any]:
        return _lines_of(await self._database.partitions.find({}).to_list())

    def _order_faults(self, records: Records) -> dict[str, list[str]]:
        """By order id; orders without any are left out."""
        found = {}
        for order_id, part in _by_order(records):
            inspection = Inspection(self._partitions, self._workflow, self._outcomes_since)
            if faults := list(inspection.order_faults(part)):
                found[order_id] = faults
        return found

    def _parked_faults(self, records: Records) -> dict[str, list[str]]:
        outcomes = {update["_id"]: update for update in records.updates}
        found = {}
        for command in records.parked:
            own = outcomes.get(command["_id"])
            part = Records(parked=[command], updates=[own] if own else [])
            if faults := list(Inspection(self._partitions).parked_faults(part)):
                found[command["_id"]] = faults
        return found


async def _settle(suspects: Sequence[str], look: Callable[[Sequence[str]], Awaitable[_Look]]) -> Verdict:
    verdict = Verdict()
    for start in range(0, len(suspects), MAX_SUSPECTS):
        moving = list(suspects[start : start + MAX_SUSPECTS])
        for pause in PAUSES_SECONDS:
            if not moving:
                break
            await asyncio.sleep(pause)
            seen = await look(moving)
            still = {name for name in moving if seen.before.get(name) == seen.after.get(name)}
            verdict.faults += [fault for name in sorted(still) for fault in seen.faults.get(name, ())]
            moving = [name for name in moving if name not in still]
        verdict.unsettled += len(moving)
    return verdict


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
    """The same records, order by order."""
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
            ),
        )


def _lines_of(partitions: Sequence[PartitionDocument]) -> dict[str, Any]:
    return {line["order_id"]: line for partition in partitions for line in partition["parked"]}
