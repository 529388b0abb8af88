"""How many orders were created in a range of time, and how many reached each final status in it.

Counted from indexes alone, so that every screen can ask often. An order in a final status keeps its
`updated_at`, so that says when it came into it. What `status-counts` says of the same range is the same.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from query.listing import time_bounds
from query.reach import Reach
from shared.bounded_reads import bounded_read
from shared.database import Database
from shared.workflow import Workflow

COLUMNS = ("status", "entered")

Stages = list[dict[str, Any]]


def counted(workflow: Workflow, reach: Reach, start: datetime, end: datetime) -> Iterator[tuple[str, Stages]]:
    """The statuses that are counted, each with the conditions of its orders: an index serves the first."""
    within = reach.conditions("_id")
    yield workflow.initial, _staged({"created_at": time_bounds(start, end)}, within)
    for status in workflow.transitions:
        if not workflow.is_active(status) and status != workflow.initial:
            # A bare equality: with an operator the embedded database uses no second field of the index.
            yield status, _staged({"status": status, "updated_at": time_bounds(start, end)}, within)


def _staged(times: dict[str, Any], within: dict[str, Any]) -> Stages:
    stages = [times, within]
    if "_id" in within:  # at most as many as a token may name
        stages.reverse()
    return [stage for stage in stages if stage]


async def read_totals(
    database: Database, workflow: Workflow, reach: Reach, start: datetime, end: datetime
) -> list[tuple[int, str, list[str | int]]]:
    """The rows of the report, in the order of the workflow's table. A status that nothing reached has 0.

    Raises:
        DatabaseUnavailable: also where it takes too long.
    """
    rows: list[tuple[int, str, list[str | int]]] = []
    with bounded_read():
        for status, stages in counted(workflow, reach, start, end):
            pipeline: Stages = [*({"$match": stage} for stage in stages), {"$count": "count"}]
            found: list[Any] = list(await (await database.orders.aggregate(pipeline)).to_list())
            rows.append((0, "", [status, found[0]["count"] if found else 0]))
    return rows
