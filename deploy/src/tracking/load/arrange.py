"""In which order the records of one order are sent. Pure."""

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter

from shared.workflow import Workflow
from tracking.load.records import Record

MAX_MOMENT_RECORDS = 64
"""Of one order and time, of which the sequence is looked for; more stay as the files have them."""


def arranged(records: list[Record], workflow: Workflow) -> list[Record]:
    """The records of one order in the sequence in which they happened.

    Creates go first. Then by time; a record without one goes with the one before it in the files. Those of
    the same moment stay as the files have them, but for a step that the workflow does not allow before
    another one of that moment.
    """
    creates = _first_creates([record for record in records if record.creates])
    steps = [record for record in records if not record.creates]
    return creates + list(_in_time(steps, workflow))


def _first_creates(creates: list[Record]) -> list[Record]:
    # Of rows that each repeat whose order it is, the earliest makes it. Another customer is not a repetition.
    first: dict[object, Record] = {}
    for record in sorted(creates, key=lambda each: (each.time is None, each.time or 0.0)):
        operation = record.operation
        said = repr((operation.get("merchant_id"), operation.get("customer")))
        first.setdefault(said if record.kind == "may_exist" else record.place, record)
    return list(first.values())


def _in_time(steps: list[Record], workflow: Workflow) -> Iterator[Record]:
    timed: list[tuple[float, Record]] = []
    latest = float("-inf")
    for record in steps:
        latest = latest if record.time is None else record.time
        timed.append((latest, record))
    timed.sort(key=itemgetter(0))
    status = workflow.initial
    for time, group in groupby(timed, key=itemgetter(0)):
        moment = [record for _, record in group]
        # Without any time, the files' own sequence is all that is known.
        is_known = time > float("-inf") and len(moment) <= MAX_MOMENT_RECORDS
        for record in _legal_first(moment, status, workflow) if is_known else moment:
            yield record
            status = _status(record)


def _legal_first(moment: list[Record], status: str, workflow: Workflow) -> Iterator[Record]:
    left = [(_status(record), record) for record in moment]
    while left:
        allowed = workflow.allowed_next(status)
        # Of equal ones the first; what the order could not leave again comes last.
        ranks = [(target not in allowed, not workflow.is_active(target)) for target, _ in left]
        status, record = left.pop(ranks.index(min(ranks)))
        yield record


def _status(record: Record) -> str:
    return str(record.operation.get("status"))
