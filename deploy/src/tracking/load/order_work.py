"""The records of one order while they are sent: which is next, and what an answer means for it. Pure."""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from shared.workflow import Workflow
from tracking.batch_client import Result
from tracking.load.reach import inferred_records, status_of
from tracking.load.records import Record
from tracking.load.summary import Summary

MAX_WAYS = 2
"""How often a way to a status is looked for: from what is known, and again if the order stood elsewhere."""


class OrderWork:
    """One order's records. At most one is under way at a time.

    A record is sent only after the one before it was decided. Otherwise an outage between two of them could
    have the second one refused for lack of the first.
    """

    def __init__(self, records: Iterable[Record], workflow: Workflow) -> None:
        self._records = deque(records)
        self._workflow = workflow
        self._status: str | None = None
        """Where the order stands, as far as it is known."""
        self._was_there = False
        """It stood there before this load."""
        self._ways = 0

    def next(self, summary: Summary) -> Record | None:
        """The record to send now; None if all are decided. Counts what needs no sending."""
        while self._records:
            record = self._records[0]
            if record.kind != "reaches" or self._status is None:
                return record
            if self._was_there and self._status == record.operation.get("status"):
                self._settle()
                summary.add_existing(record)
                continue
            if self._ways == 0 and self._begin_way(record, self._status):
                continue
            return record
        return None

    def take(self, result: Result, summary: Summary) -> None:
        """Takes the outcome of the record that `next` gave."""
        record = self._records[0]
        if result["outcome"] == "rejected":
            self._take_refusal(record, result, summary)
            return
        summary.add_result(record, result)
        # Of a duplicate it is not said where the order stands by now.
        self._status = status_of(record, self._workflow) if result["outcome"] == "applied" else None
        self._was_there = False
        self._settle()

    def _take_refusal(self, record: Record, result: Result, summary: Summary) -> None:
        problem: Mapping[str, Any] = result["problem"]
        current = problem.get("current_status")
        self._status = str(current) if current else None
        self._was_there = record.kind == "may_exist"
        if current and self._is_so(record, current):
            summary.add_existing(record)
        elif record.kind == "reaches" and current and self._begin_way(record, str(current)):
            return
        else:
            summary.add_result(record, result)
        self._settle()

    @staticmethod
    def _is_so(record: Record, current: object) -> bool:
        """Whether it is as the record says already, so that its refusal is none."""
        if record.kind == "reaches":
            return current == record.operation.get("status")
        return record.kind == "may_exist"

    def _begin_way(self, record: Record, current: str) -> bool:
        if self._ways >= MAX_WAYS:
            return False
        steps = inferred_records(record, current, self._workflow)
        if steps:
            self._ways += 1
            self._records.extendleft(reversed(steps))
        return bool(steps)

    def _settle(self) -> None:
        if self._records.popleft().kind != "inferred":
            self._ways = 0
