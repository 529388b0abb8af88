"""The records of one order: sorted, with inferred transitions, and sent one after the other. Pure."""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

from tracking.load.operations import Parsed, record_of
from tracking.load.records import Operation, Record, Result
from tracking.load.summary import Summary
from tracking_shared.contracts.workflow import Workflow

MAX_PATHS = 2
"""Attempts to find a path to a status: from the known status, and again from the one in a refusal."""

MAX_MOMENT_RECORDS = 64
"""Records of one order and time that are sorted by the workflow; more keep the order of the files."""


def sort_records(records: list[Record], workflow: Workflow) -> list[Record]:
    """Sorts the records of one order: creates first, then updates by time.

    A record without a time follows the one before it in the files. Records of the same time keep the order of
    the files, unless the workflow allows only another one.
    """
    creates = _first_creates([record for record in records if record.creates])
    updates = [record for record in records if not record.creates]
    return creates + list(_by_time(updates, workflow))


def _first_creates(creates: list[Record]) -> list[Record]:
    # Of rows that each repeat the merchant and customer, the earliest creates the order.
    first: dict[object, Record] = {}
    for record in sorted(creates, key=lambda each: (each.time is None, each.time or 0.0)):
        operation = record.operation
        content = repr([operation.get(name) for name in ("merchant_id", "reference", "customer")])
        first.setdefault(content if record.kind == "may_exist" else record.location, record)
    return list(first.values())


def _by_time(updates: list[Record], workflow: Workflow) -> Iterator[Record]:
    timed: list[tuple[float, Record]] = []
    latest = float("-inf")
    for record in updates:
        latest = latest if record.time is None else record.time
        timed.append((latest, record))
    timed.sort(key=itemgetter(0))
    status = workflow.initial
    for time, group in groupby(timed, key=itemgetter(0)):
        simultaneous = [record for _, record in group]
        # Records without any time keep the order of the files.
        is_known = time > float("-inf") and len(simultaneous) <= MAX_MOMENT_RECORDS
        for record in _legal_first(simultaneous, status, workflow) if is_known else simultaneous:
            yield record
            status = _status_after(record, status)


def _legal_first(simultaneous: list[Record], status: str, workflow: Workflow) -> Iterator[Record]:
    left = [(record.operation, record) for record in simultaneous]
    while left:
        # The first of the best: legal transitions before others, final statuses last.
        ranks = [_rank(operation, status, workflow) for operation, _ in left]
        _, record = left.pop(ranks.index(min(ranks)))
        yield record
        status = _status_after(record, status)


def _rank(operation: Operation, status: str, workflow: Workflow) -> tuple[bool, bool]:
    match operation.get("op"):
        case "checkpoint":
            return False, False
        case "correct":  # legal from any status, and after what it corrects
            return False, True
        case _:
            target = str(operation.get("status"))
            return target not in workflow.allowed_next(status), not workflow.is_active(target)


def _status_after(record: Record, status: str) -> str:
    """The status of an order in `status` once the record is applied; a checkpoint has none."""
    return str(record.operation.get("status", status))


INFERRED = {"steps_inferred": True}
"""The metadata of an inferred transition, which has no time."""


def steps_between(workflow: Workflow, current: str, target: str) -> list[str] | None:
    """The statuses on a shortest path between the two, without them; None if there is no path."""
    came_from: dict[str, str] = {}
    waiting = deque([current])
    while waiting and target not in came_from:
        status = waiting.popleft()
        for follower in workflow.allowed_next(status):
            if follower not in came_from:
                came_from[follower] = status
                waiting.append(follower)
    if target not in came_from:
        return None
    path: list[str] = []
    status = came_from[target]
    while status != current:
        path.append(status)
        status = came_from[status]
    return path[::-1]


def inferred_records(record: Record, current: str, workflow: Workflow) -> list[Record]:
    """The transitions to send before `record`; empty if it is legal already, or if no path exists."""
    operation = record.operation
    steps = steps_between(workflow, current, str(operation["status"])) or []
    return [_inferred(record, status) for status in steps]


def _inferred(record: Record, status: str) -> Record:
    operation = {"op": "update", "order_id": record.order_key, "status": status, "metadata": INFERRED}
    made = record_of(record.location, Parsed(operation))
    return Record(record.location, made.body, made.order_key, kind="inferred")


def status_of(record: Record, workflow: Workflow, before: str | None) -> str | None:
    """The status of the order once the record is applied; `before`: the one before, if it is known."""
    if record.creates:
        return workflow.initial
    status: str | None = record.operation.get("status", before)
    return status


class OrderQueue:
    """The records of one order that are still to be sent, at most one at a time.

    A record is sent only after the one before it was decided. Otherwise an outage between two of them could
    have the second one refused for lack of the first.
    """

    def __init__(self, records: Iterable[Record], workflow: Workflow) -> None:
        self._records = deque(records)
        self._workflow = workflow
        self.size = len(self._records)
        """The number of records at the start."""
        self._status: str | None = None  # of the order, as far as known
        self._existed = False  # the order had this status before this load
        self._paths = 0

    def next(self, summary: Summary) -> Record | None:
        """The record to send next; None if all are decided. Counts records that need not be sent."""
        while self._records:
            record = self._records[0]
            if record.kind != "current_status" or self._status is None:
                return record
            if self._existed and self._status == record.operation.get("status"):
                self._remove_first()
                summary.add_existing(record)
                continue
            if self._paths == 0 and self._insert_path(record, self._status):
                continue
            return record
        return None

    def take(self, result: Result, summary: Summary) -> None:
        """Applies the outcome of the record that `next` returned."""
        record = self._records[0]
        if result["outcome"] == "rejected":
            self._take_refusal(record, result, summary)
            return
        # A held update does not tell where the order stands: the steps from the beginning lead to it.
        is_way_missing = result["outcome"] == "held" and record.kind == "current_status"
        if is_way_missing and self._insert_path(record, self._workflow.initial):
            self._status = None
            return
        summary.add_result(record, result)
        # A duplicate does not return the current status.
        is_applied = result["outcome"] == "applied"
        self._status = status_of(record, self._workflow, self._status) if is_applied else None
        self._existed = False
        self._remove_first()

    def _take_refusal(self, record: Record, result: Result, summary: Summary) -> None:
        problem: dict[str, Any] = result["problem"]
        current = problem.get("current_status")
        self._status = str(current) if current else None
        self._existed = record.kind == "may_exist"
        if current and self._has_effect(record, current):
            summary.add_existing(record)
        elif record.kind == "current_status" and current and self._insert_path(record, str(current)):
            return
        else:
            summary.add_result(record, result)
        self._remove_first()

    @staticmethod
    def _has_effect(record: Record, current: object) -> bool:
        """True if the order already is as the record says, so that the refusal does not count."""
        if record.kind == "current_status":
            return current == record.operation.get("status")
        return record.kind == "may_exist"

    def _insert_path(self, record: Record, current: str) -> bool:
        if self._paths >= MAX_PATHS:
            return False
        steps = inferred_records(record, current, self._workflow)
        if steps:
            self._paths += 1
            self._records.extendleft(reversed(steps))
        return bool(steps)

    def _remove_first(self) -> None:
        if self._records.popleft().kind != "inferred":
            self._paths = 0
