"""The checker: whether everything that the system promises about its records holds. One for all tests and
for `tracking check`.

Pure: it gets what was stored, acknowledged and announced, and names each contradiction. It trusts
nothing that order-state computed; it counts and folds by itself.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from shared.documents import (
    EventDocument,
    OrderDocument,
    ParkedDocument,
    PartitionDocument,
    UpdateDocument,
    position_key,
    project,
    update_key,
)
from shared.partitioning import partition_of
from shared.views import cloud_event
from shared.workflow import DEFAULT_WORKFLOW, Workflow


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What a caller was told: `applied`, `duplicate`, `rejected` or `accepted`."""

    order_id: str
    update_id: str
    outcome: str
    version: int | None = None
    problem: str | None = None
    """The slug of the problem of a rejected one."""


@dataclass(slots=True)
class Records:
    """Everything that one installation holds, or a slice of it."""

    orders: list[OrderDocument] = field(default_factory=list)
    events: list[EventDocument] = field(default_factory=list)
    updates: list[UpdateDocument] = field(default_factory=list)
    partitions: list[PartitionDocument] = field(default_factory=list)
    parked: list[ParkedDocument] = field(default_factory=list)


NEVER_STORED = frozenset({"idempotency-key-reused", "forbidden", "validation-failed", "malformed-json"})
"""Refusals that leave no outcome: another request owns the id, or the command was never sent."""


def find_faults(
    records: Records,
    acknowledged: Iterable[Acknowledged] = (),
    announced: Sequence[dict[str, Any]] | None = None,
    workflow: Workflow = DEFAULT_WORKFLOW,
) -> list[str]:
    """Every contradiction, in words; empty if all is well.

    `announced` are CloudEvents in the order in which one listener that missed nothing got them.
    """
    inspection = Inspection(records.partitions, workflow)
    return [
        *inspection.order_faults(records),
        *outcome_faults(records.updates, records.events),
        *inspection.parked_faults(records),
        *inspection.partition_faults(),
        *_acknowledgement_faults(records, acknowledged),
        *(_announcement_faults(records, announced, workflow) if announced is not None else ()),
    ]


@dataclass(slots=True)
class _Tally:
    """The seqs of a partition, or the places of an order's parked commands. The database has each of them
    once, so three numbers tell of a hole.
    """

    size: int = 0
    lowest: int = 0
    highest: int = 0

    def add(self, number: int) -> None:
        self.lowest = min(self.lowest, number) if self.size else number
        self.highest = max(self.highest, number)
        self.size += 1


class Inspection:
    """Looks at records slice by slice. What it remembers does not grow with them.

    `outcomes_since`: outcomes of older events are not asked for, since they are not kept for ever.
    """

    def __init__(
        self,
        partitions: Sequence[PartitionDocument],
        workflow: Workflow = DEFAULT_WORKFLOW,
        outcomes_since: datetime | None = None,
    ) -> None:
        self._partitions = partitions
        self._workflow = workflow
        self._outcomes_since = outcomes_since
        self._ends = {partition["_id"]: partition["seq"] for partition in partitions}
        self._tallies: dict[int, _Tally] = defaultdict(_Tally)
        self._highest: dict[int, int] = defaultdict(int)
        self._parked: dict[tuple[int, str], _Tally] = defaultdict(_Tally)

    def order_faults(self, records: Records) -> Iterator[str]:
        """Faults of some orders. `records` has all events of each, and what is stored as their outcomes."""
        for event in records.events:
            self._count(event)
            yield from self._place_faults(event)
        yield from _history_faults(records, self._workflow)
        yield from self._effect_faults(records)

    def partition_faults(self) -> Iterator[str]:
        """Faults of the log and of the lines as a whole, once all was looked at."""
        yield from self.log_faults(self._partitions)
        yield from map(line_fault, self.mismatched_lines())

    def log_faults(self, later: Sequence[PartitionDocument]) -> Iterator[str]:
        """Faults of the log, once all events were looked at, and `later` read after them.

        The log must be whole up to where the inspection began. What was recorded since may have been missed,
        but can lie no further than the partition says after it.
        """
        ends = {partition["_id"]: partition["seq"] for partition in later}
        for partition in self._partitions:
            number, seq = partition["_id"], partition["seq"]
            if self._tallies[number] != _Tally(seq, min(seq, 1), seq):
                yield f"partition {number}: seqs are not exactly 1 to {seq}"
            if self._highest[number] > ends.get(number, 0):
                yield f"partition {number}: seqs go to {self._highest[number]}, beyond its end"

    def mismatched_lines(self) -> Iterator[str]:
        """Orders whose parked commands are not those that their partition names, once all were looked at."""
        for partition in self._partitions:
            yield from self._mismatched_lines(partition)

    def parked_faults(self, records: Records) -> Iterator[str]:
        """Faults of some parked commands. `records` has those, and what is stored as their outcomes."""
        decided = {update["_id"] for update in records.updates}
        for command in records.parked:
            self._parked[command["partition"], command["order_id"]].add(command["place"])
            if command["_id"] in decided:
                yield f"update {command['_id']} is parked, and has an outcome"

    def _count(self, event: EventDocument) -> None:
        number, seq = event["partition"], event["seq"]
        self._highest[number] = max(self._highest[number], seq)
        if seq <= self._ends.get(number, 0):
            self._tallies[number].add(seq)

    def _mismatched_lines(self, partition: PartitionDocument) -> Iterator[str]:
        found = {
            order_id: tally
            for (number, order_id), tally in self._parked.items()
            if number == partition["_id"]
        }
        lines = {
            line["order_id"]: _Tally(line["last"] - line["first"] + 1, line["first"], line["last"])
            for line in partition["parked"]
        }
        for order_id in sorted(found.keys() | lines.keys()):
            if found.get(order_id) != lines.get(order_id):
                yield order_id

    def _place_faults(self, event: EventDocument) -> Iterator[str]:
        if event["partition"] != partition_of(event["order_id"], len(self._partitions)):
            yield f"event {_name(event)} is in partition {event['partition']}, where it does not belong"
        if event["_id"] != position_key(event["partition"], event["seq"]):
            yield f"event {_name(event)} has another key than its position"

    def _effect_faults(self, records: Records) -> Iterator[str]:
        effects = Counter(map(_effect, records.events))
        for key, times in effects.items():
            if times > 1:
                yield f"update {key} took effect {times} times"
        applied = {update["_id"]: update for update in records.updates if update["outcome"] == "applied"}
        for event in records.events:
            update = applied.get(_effect(event))
            if update is None:
                if self._outcomes_since is None or event["recorded_at"] >= self._outcomes_since:
                    yield f"event {_name(event)} has no stored outcome"
            elif (update["version"], update["position"]) != (event["version"], event["_id"]):
                yield f"update {update['_id']} points to another event than its own"


def line_fault(order_id: str) -> str:
    """The words for one of `Inspection.mismatched_lines`."""
    return f"order {order_id}: what is parked is not what its partition says"


def outcome_faults(updates: Iterable[UpdateDocument], events: Iterable[EventDocument]) -> Iterator[str]:
    """Faults of stored outcomes. `events` has those that they point to, if these exist."""
    effects = {event["_id"]: _effect(event) for event in events}
    for update in updates:
        position = update["position"]
        made = effects.get(position) if position is not None else None
        if update["outcome"] == "applied" and made != update["_id"]:
            yield f"update {update['_id']} is stored as applied, without its event"


def _history_faults(records: Records, workflow: Workflow) -> Iterator[str]:
    histories: dict[str, list[EventDocument]] = defaultdict(list)
    for event in records.events:
        histories[event["order_id"]].append(event)
    orders = {order["_id"]: order for order in records.orders}
    for order_id in orders.keys() - histories.keys():
        yield f"order {order_id} has no history"
    for order_id, history in histories.items():
        history.sort(key=lambda event: event["version"])
        if [event["version"] for event in history] != list(range(1, len(history) + 1)):
            yield f"order {order_id}: versions are {[event['version'] for event in history]}"
        if [event["seq"] for event in history] != sorted(event["seq"] for event in history):
            yield f"order {order_id}: versions and seqs do not rise together"
        yield from _step_faults(order_id, history, workflow)
        if orders.get(order_id) != project(history[-1]):
            yield f"order {order_id} is not the fold of its history"


def _step_faults(order_id: str, history: list[EventDocument], workflow: Workflow) -> Iterator[str]:
    status: str | None = None
    for event in history:
        if event["previous_status"] != status:
            yield f"order {order_id}: version {event['version']} does not continue from {status}"
        allowed = (workflow.initial,) if status is None else workflow.allowed_next(status)
        if event["status"] not in allowed:
            yield f"order {order_id}: {status} → {event['status']} is not a legal transition"
        if event["active"] != workflow.is_active(event["status"]):
            yield f"order {order_id}: version {event['version']} is wrongly active or not"
        status = event["status"]
    for earlier, later in pairwise(history):
        if later["recorded_at"] < earlier["recorded_at"]:
            yield f"order {order_id}: version {later['version']} was recorded before the one before it"


def _acknowledgement_faults(records: Records, acknowledged: Iterable[Acknowledged]) -> Iterator[str]:
    updates = {update["_id"]: update for update in records.updates}
    parked = {command["_id"] for command in records.parked}
    for told in acknowledged:
        key = update_key(told.order_id, told.update_id)
        if told.problem in NEVER_STORED:
            continue
        update = updates.get(key)
        if told.outcome == "accepted" and key in parked:
            continue
        if update is None:
            yield f"update {key} was answered {told.outcome}, and is lost"
        elif not _agrees(told, update):
            yield f"update {key} was answered {told}, but stored: {update['outcome']} {update['version']}"


def _agrees(told: Acknowledged, update: UpdateDocument) -> bool:
    if told.outcome == "accepted":
        return True
    if told.outcome == "rejected":
        problem = update["problem"]
        return update["outcome"] == "rejected" and problem is not None and problem["slug"] == told.problem
    return update["outcome"] == "applied" and told.version in (None, update["version"])


def _announcement_faults(
    records: Records, announced: Sequence[dict[str, Any]], workflow: Workflow
) -> Iterator[str]:
    committed = {event["_id"]: event for event in records.events}
    newest: dict[int, int] = defaultdict(int)
    for document in announced:
        partition, seq = document["partition"], int(document["sequence"])
        event = committed.get(position_key(partition, seq))
        if event is None or cloud_event(event, workflow) != document:
            yield f"announced {document['id']}, which was not committed so"
        elif seq > newest[partition] + 1:
            yield f"partition {partition}: seq {seq} was announced after {newest[partition]}"
        newest[partition] = max(newest[partition], seq)
    for partition in records.partitions:
        number, seq = partition["_id"], partition["seq"]
        if newest[number] != seq:
            yield f"partition {number}: announced to {newest[number]} of {seq}"


def _effect(event: EventDocument) -> str:
    return update_key(event["order_id"], event["update_id"])


def _name(event: EventDocument) -> str:
    return f"{event['order_id']}:{event['version']}"
