"""The checker: verifies the guarantees of the system on its records. All tests and `tracking check` use it.

Pure: it compares stored records, answers to callers and published events, and describes each contradiction.
It recomputes all values of order-state from the events.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from tracking.upkeep.due_checks import due_faults, unmarked_fault
from tracking.upkeep.held_checks import count_fault, held_faults
from tracking_shared.contracts.documents import (
    ArchivedOrderDocument,
    AuditDocument,
    EventDocument,
    HeldDocument,
    OrderDocument,
    ParkedDocument,
    PartitionDocument,
    UpdateDocument,
    applied_outcome,
    correction_entry,
    correction_entry_id,
    event_type,
    horizon_of,
    position_key,
    project,
    update_key,
)
from tracking_shared.contracts.held import held_update_key
from tracking_shared.contracts.layout import layout_in
from tracking_shared.contracts.messages import cloud_event
from tracking_shared.contracts.timestamps import UNIX_EPOCH
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW, Workflow


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """An answer to a caller: `applied`, `duplicate`, `rejected`, `accepted` or `held`."""

    order_id: str
    update_id: str
    outcome: str
    version: int | None = None
    problem: str | None = None
    """The slug of the problem of a rejected update."""


@dataclass(slots=True)
class Records:
    """All records of one installation, or a slice of them."""

    orders: list[OrderDocument] = field(default_factory=list)
    events: list[EventDocument] = field(default_factory=list)
    updates: list[UpdateDocument] = field(default_factory=list)
    partitions: list[PartitionDocument] = field(default_factory=list)
    parked: list[ParkedDocument] = field(default_factory=list)
    held: list[HeldDocument] = field(default_factory=list)
    audit: list[AuditDocument] | None = None
    """The entries of corrections in the audit trail; None: not read."""


NEVER_STORED = frozenset({"idempotency-key-reused", "forbidden", "validation-failed", "malformed-json"})
"""Problems without a stored outcome: another request has the update id, or no command was published."""


def find_faults(
    records: Records,
    acknowledged: Iterable[Acknowledged] = (),
    announced: Sequence[dict[str, Any]] | None = None,
    workflow: Workflow = DEFAULT_WORKFLOW,
) -> list[str]:
    """Describes every contradiction; empty if the records are consistent.

    `announced`: all CloudEvents in the order in which one listener received them.
    """
    inspection = Inspection(records.partitions, workflow)
    return [
        *inspection.order_faults(records),
        *outcome_faults(records.updates, records.events),
        *entry_faults(records),
        *inspection.parked_faults(records),
        *inspection.held_faults(records),
        *inspection.partition_faults(),
        *filter(None, (count_fault(one, inspection.held[one["_id"]]) for one in records.partitions)),
        *_acknowledgement_faults(records, acknowledged),
        *(_announcement_faults(records, announced, workflow) if announced is not None else ()),
    ]


@dataclass(slots=True)
class _Tally:
    """The seqs of a partition, or the places of the parked updates of an order.

    The database holds each number once, so the size and the bounds show whether one is missing.
    """

    size: int = 0
    lowest: int = 0
    highest: int = 0

    def add(self, number: int) -> None:
        self.lowest = min(self.lowest, number) if self.size else number
        self.highest = max(self.highest, number)
        self.size += 1


class Inspection:
    """Checks records slice by slice. Its memory does not grow with their number.

    `outcomes_since`: older events need no stored outcome, because outcomes expire. `audited_since`: older
    corrections need no entry in the audit trail.
    """

    def __init__(
        self,
        partitions: Sequence[PartitionDocument],
        workflow: Workflow = DEFAULT_WORKFLOW,
        outcomes_since: datetime | None = None,
        audited_since: datetime = UNIX_EPOCH,
    ) -> None:
        self._partitions = partitions
        self._layout = layout_in(partitions)
        self._workflow = workflow
        self._outcomes_since = outcomes_since
        self._audited_since = audited_since
        self._horizons = {partition["_id"]: horizon_of(partition) for partition in partitions}
        self._ends = {partition["_id"]: partition["seq"] for partition in partitions}
        self._tallies: dict[int, _Tally] = defaultdict(_Tally)
        self._highest: dict[int, int] = defaultdict(int)
        self._parked: dict[tuple[int, str], _Tally] = defaultdict(_Tally)
        self._unread: Counter[int] = Counter()
        self.held: Counter[int] = Counter()
        """The held updates that were checked, by partition."""

    def order_faults(self, records: Records) -> Iterator[str]:
        """The faults of some orders. `records` has all events of each, and their stored outcomes."""
        for event in records.events:
            self._count(event)
            yield from self._position_faults(event)
        yield from _history_faults(records, self._workflow)
        for order in records.orders:
            if fault := unmarked_fault(order, self._horizons.get(order["partition"], UNIX_EPOCH)):
                yield fault
        yield from self._effect_faults(records)
        yield from self._correction_faults(records)

    def partition_faults(self) -> Iterator[str]:
        """The faults of the event log and of the parked ranges, after all records were checked."""
        yield from self.log_faults(self._partitions)
        yield from map(range_fault, self.mismatched_ranges())

    def count_unread(self, archived: Iterable[ArchivedOrderDocument]) -> None:
        """Counts the events of archived orders, where the archive is not read."""
        for one in archived:
            self._unread[one["partition"]] += one["version"]

    def log_faults(self, later: Sequence[PartitionDocument], unjudged: Collection[int] = ()) -> Iterator[str]:
        """The faults of the event log, after all events were checked, those in an archive too, and `later`
        was read.

        The log must be complete up to the positions at the start. Later events may have been missed, but none
        may be beyond the positions in `later`. In `unjudged` partitions, orders were archived meanwhile.
        """
        ends = {partition["_id"]: partition["seq"] for partition in later}
        for partition in self._partitions:
            number, seq = partition["_id"], partition["seq"]
            if number not in unjudged and not self._is_complete(number, seq):
                yield f"partition {number}: seqs are not exactly 1 to {seq}"
        for number, highest in sorted(self._highest.items()):
            if highest > ends.get(number, 0):
                yield f"partition {number}: seqs go to {highest}, beyond its end"

    def _is_complete(self, partition: int, seq: int) -> bool:
        tally, unread = self._tallies[partition], self._unread[partition]
        return tally.size + unread == seq if unread else tally == _Tally(seq, min(seq, 1), seq)

    def mismatched_ranges(self) -> Iterator[str]:
        """The orders whose parked updates differ from the range in their partition, once all were checked."""
        for partition in self._partitions:
            yield from self._mismatched_ranges(partition)

    def parked_faults(self, records: Records) -> Iterator[str]:
        """The faults of some parked updates. `records` has these, and any outcomes and events of them."""
        decided = {update["_id"] for update in records.updates} | set(map(_effect, records.events))
        for command in records.parked:
            self._parked[command["partition"], command["order_id"]].add(command["place"])
            if command["_id"] in decided:
                yield f"update {command['_id']} is parked, and has an outcome"

    def held_faults(self, records: Records) -> Iterator[str]:
        """The faults of some held updates. `records` has these, and any outcomes and events of them."""
        self.held.update(one["partition"] for one in records.held)
        yield from held_faults(records.held, records.updates, records.events, self._horizons)

    def _count(self, event: EventDocument) -> None:
        number, seq = event["partition"], event["seq"]
        self._highest[number] = max(self._highest[number], seq)
        if seq <= self._ends.get(number, 0):
            self._tallies[number].add(seq)

    def _mismatched_ranges(self, partition: PartitionDocument) -> Iterator[str]:
        found = {
            order_id: tally
            for (number, order_id), tally in self._parked.items()
            if number == partition["_id"]
        }
        ranges = {
            parked["order_id"]: _Tally(parked["last"] - parked["first"] + 1, parked["first"], parked["last"])
            for parked in partition["parked"]
        }
        for order_id in sorted(found.keys() | ranges.keys()):
            if found.get(order_id) != ranges.get(order_id):
                yield order_id

    def _position_faults(self, event: EventDocument) -> Iterator[str]:
        # A partition that was not there at the start is judged by the positions that are read later.
        if event["partition"] in self._ends and event["partition"] not in self._layout.homes(
            event["order_id"]
        ):
            yield f"event {_name(event)} is in partition {event['partition']}, where it does not belong"
        if event["_id"] != position_key(event["partition"], event["seq"]):
            yield f"event {_name(event)} has another key than its position"
        if event.get("update_key", _effect(event)) != _effect(event):
            yield f"event {_name(event)} has the key of another update"

    def _effect_faults(self, records: Records) -> Iterator[str]:
        effects = Counter(map(_effect, records.events))
        for key, times in effects.items():
            if times > 1:
                yield f"update {key} took effect {times} times"
        stored = {update["_id"]: update for update in records.updates}
        for event in records.events:
            update = stored.get(_effect(event))
            if "update_key" not in event and (update is None or update["outcome"] != "applied"):
                # Of an earlier release, which kept the outcome beside the event, and not for ever.
                if self._outcomes_since is None or event["recorded_at"] >= self._outcomes_since:
                    yield f"event {_name(event)} has no stored outcome"
            elif update is not None and update["outcome"] != "applied":
                yield f"update {update['_id']} is stored as refused, and took effect"
            elif update is not None and (update["version"], update["position"]) != (
                event["version"],
                event["_id"],
            ):
                yield f"update {update['_id']} points to another event than its own"

    def _correction_faults(self, records: Records) -> Iterator[str]:
        if records.audit is None:
            return
        entries = {entry["_id"]: entry for entry in records.audit}
        for event in corrections_in(records.events):
            entry = entries.get(correction_entry_id(event))
            if entry is None and event["recorded_at"] >= self._audited_since:
                yield f"correction {_name(event)} is not in the audit trail"
            elif entry is not None and not _matches_event(entry, event):
                yield f"correction {_name(event)} is told otherwise in the audit trail"


def moved_partitions(before: Iterable[PartitionDocument], after: Iterable[PartitionDocument]) -> set[int]:
    """The partitions in which orders were archived or restored in between."""
    archived = {partition["_id"]: partition.get("archived", 0) for partition in after}
    return {one["_id"] for one in before if one.get("archived", 0) != archived.get(one["_id"])}


def corrections_in(events: Iterable[EventDocument]) -> list[EventDocument]:
    """The corrections among `events`."""
    return [event for event in events if event_type(event) == "order.corrected"]


def entry_faults(records: Records) -> Iterator[str]:
    """The faults of entries of corrections in the audit trail. `records` has the existing events of them."""
    made = {correction_entry_id(event) for event in corrections_in(records.events)}
    for entry in records.audit or ():
        if entry["_id"] not in made:
            yield f"the audit trail tells of {entry['_id']}, which is not in the history"


def _matches_event(entry: AuditDocument, event: EventDocument) -> bool:
    expected = correction_entry(event, 0)  # its retention is not compared
    return all(entry[name] == expected[name] for name in ("at", "actor", "action", "subject", "details"))


def range_fault(order_id: str) -> str:
    """Describes one of `Inspection.mismatched_ranges`."""
    return f"order {order_id}: what is parked is not what its partition says"


def outcome_faults(updates: Iterable[UpdateDocument], events: Iterable[EventDocument]) -> Iterator[str]:
    """The faults of stored outcomes. `events` has the existing events that they point to."""
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
        if len({event["partition"] for event in history}) > 1:
            yield f"order {order_id} has events in several partitions"
        yield from _step_faults(order_id, history, workflow)
        yield from due_faults(order_id, history)
        if orders.get(order_id) != project(history[-1]):
            yield f"order {order_id} is not the fold of its history"


def _step_faults(order_id: str, history: list[EventDocument], workflow: Workflow) -> Iterator[str]:
    status: str | None = None
    was_erased = False
    for event in history:
        if event["previous_status"] != status:
            yield f"order {order_id}: version {event['version']} does not continue from {status}"
        if event["status"] not in _allowed(event, status, workflow):
            yield f"order {order_id}: {status} → {event['status']} is not a legal transition"
        if (event["customer"] is None) is not ("erased_at" in event):
            yield f"order {order_id}: version {event['version']} is wrongly erased or not"
        was_erased |= event_type(event) == "order.customer_erased"
        if was_erased and event["customer"] is not None:
            yield f"order {order_id}: version {event['version']} has a customer, who is erased"
        if event["active"] != workflow.is_active(event["status"]):
            yield f"order {order_id}: version {event['version']} is wrongly active or not"
        status = event["status"]
    for earlier, later in pairwise(history):
        yield from _fold_faults(order_id, earlier, later)


def _fold_faults(order_id: str, earlier: EventDocument, later: EventDocument) -> Iterator[str]:
    is_checkpoint = event_type(later) == "order.checkpoint_added"
    if is_checkpoint and later["order_metadata"] != earlier["order_metadata"]:
        yield f"order {order_id}: version {later['version']} is a checkpoint, and changed the metadata"
    if later.get("closed_at") != _closed_at(earlier, later):
        yield f"order {order_id}: version {later['version']} has another time of its final status"
    if later["recorded_at"] < earlier["recorded_at"]:
        yield f"order {order_id}: version {later['version']} was recorded before the one before it"


def _allowed(event: EventDocument, status: str | None, workflow: Workflow) -> Collection[str]:
    """The statuses that an event may bring an order to, by its type."""
    if status is None:
        return (workflow.initial,)
    match event_type(event):
        case "order.checkpoint_added" | "order.overdue" | "order.customer_erased":
            return (status,)
        case "order.corrected":
            return workflow.statuses - {status}
        case _:
            return workflow.allowed_next(status)


def _closed_at(earlier: EventDocument, later: EventDocument) -> datetime | None:
    if later["active"] or later["status"] != earlier["status"]:
        return None
    return earlier.get("closed_at", earlier["recorded_at"])


def _acknowledgement_faults(records: Records, acknowledged: Iterable[Acknowledged]) -> Iterator[str]:
    updates = {update["_id"]: update for update in records.updates}
    updates |= {_effect(event): applied_outcome(event) for event in records.events if "update_key" in event}
    waiting = {command["_id"] for command in records.parked} | set(map(held_update_key, records.held))
    for answer in acknowledged:
        key = update_key(answer.order_id, answer.update_id)
        if answer.problem in NEVER_STORED:
            continue
        update = updates.get(key)
        if answer.outcome in ("accepted", "held") and key in waiting:
            continue
        if update is None:
            yield f"update {key} was answered {answer.outcome}, and is lost"
        elif not _agrees(answer, update):
            yield f"update {key} was answered {answer}, but stored: {update['outcome']} {update['version']}"


def _agrees(answer: Acknowledged, update: UpdateDocument) -> bool:
    if answer.outcome in ("accepted", "held"):
        return True
    if answer.outcome == "rejected":
        problem = update["problem"]
        return update["outcome"] == "rejected" and problem is not None and problem["slug"] == answer.problem
    return update["outcome"] == "applied" and answer.version in (None, update["version"])


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
