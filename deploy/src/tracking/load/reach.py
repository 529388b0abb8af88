"""Where an order stands, and the steps that lead from there to the status that a row says. Pure."""

from collections import deque

import orjson

from shared.workflow import Workflow
from tracking.load.operations import Parsed
from tracking.load.records import Record, record_of

INFERRED = {"steps_inferred": True}
"""The metadata of a step that no file names. It has no time, as nobody knows it."""


def steps_between(workflow: Workflow, current: str, target: str) -> list[str] | None:
    """The statuses on a shortest way between the two, without them; None if there is no way."""
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
    way: list[str] = []
    status = came_from[target]
    while status != current:
        way.append(status)
        status = came_from[status]
    return way[::-1]


def inferred_records(record: Record, current: str, workflow: Workflow) -> list[Record]:
    """The steps to send before `record`, so that it can follow; none if it can, or if no way leads there."""
    operation = record.operation
    steps = steps_between(workflow, current, str(operation["status"])) or []
    return [_inferred(record, status) for status in steps]


def _inferred(record: Record, status: str) -> Record:
    operation = {"op": "update", "order_id": record.order_key, "status": status, "metadata": INFERRED}
    made = record_of(record.place, Parsed(operation))
    return Record(record.place, made.body, made.order_key, kind="inferred")


def status_of(record: Record, workflow: Workflow) -> str:
    """Where the order stands once the record is applied."""
    return workflow.initial if record.creates else str(orjson.loads(record.body).get("status"))
