"""Counts the orders that were created and closed in a range of time, from indexes alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection

from tracking_query.horizon import read_archived_until, reading_as_of
from tracking_shared.contracts.access import ReadableOrders
from tracking_shared.contracts.workflow import Workflow
from tracking_shared.storage.database import Database
from tracking_shared.storage.embedded_database import match_stages, time_range
from tracking_shared.storage.reads import bounded_read

TOTALS_COLUMNS = ("status", "entered")

Stages = list[dict[str, Any]]


def counted(
    workflow: Workflow, readable: ReadableOrders, start: datetime, end: datetime
) -> Iterator[tuple[str, Stages]]:
    """The statuses that are counted, each with the conditions of its orders: an index serves the first.

    Counted from indexes alone, so that every screen can ask often. An order in a final status keeps its
    `updated_at`, which says when it came into it, unless a checkpoint follows (`closing_stages`). The report
    on statuses counts the same.
    """
    within = readable.conditions("_id")
    yield workflow.initial, _totals_stages({"created_at": time_range(start, end)}, within)
    for status in workflow.transitions:
        if not workflow.is_active(status) and status != workflow.initial:
            yield status, _totals_stages({"status": status, "updated_at": time_range(start, end)}, within)


def closing_stages(readable: ReadableOrders, start: datetime, end: datetime) -> Iterator[tuple[int, Stages]]:
    """The conditions of final orders with checkpoints since, and what each such order adds: those whose
    `updated_at` was counted are taken out, those who came into their status in the range are put in.
    """
    within = readable.conditions("_id")
    for field, sign in (("closing.changed_at", -1), ("closing.at", 1)):
        yield sign, _totals_stages({field: time_range(start, end)}, within)


def correction_stages(readable: ReadableOrders, start: datetime, end: datetime) -> Stages:
    """The conditions of the corrections of the range."""
    return _totals_stages({"corrected_at": time_range(start, end)}, readable.conditions("order_id"))


def _totals_stages(times: dict[str, Any], within: dict[str, Any]) -> Stages:
    stages = [times, within]
    if {"_id", "order_id"} & within.keys():  # at most as many as a token may name
        stages.reverse()
    return [stage for stage in stages if stage]


@dataclass(frozen=True, slots=True)
class Totals:
    """The rows of the report on created and closed orders, and the corrections of its range."""

    rows: list[tuple[int, str, list[str | int]]]
    corrections: int


@dataclass(frozen=True, slots=True)
class TotalsReport:
    """The report as it was read: whoever shares the read is told of which range and moment it is."""

    start: datetime
    end: datetime
    totals: Totals
    as_of: datetime
    archived_until: datetime | None


async def read_totals(
    database: Database, workflow: Workflow, readable: ReadableOrders, start: datetime, end: datetime
) -> Totals:
    """The rows of the report, in the order of the workflow's table. A status that nothing reached has 0.

    Raises:
        DatabaseUnavailable: also where it takes too long.
    """
    # At one moment, since an order that gets a checkpoint meanwhile passes from one count to another.
    async with database.client.start_session(snapshot=True) as session:
        with bounded_read():
            counts = {
                status: await _count(database.orders, stages, session)
                for status, stages in counted(workflow, readable, start, end)
            }
            for sign, stages in closing_stages(readable, start, end):
                for status, count in await _count_by_status(database, stages, session):
                    if status in counts and status != workflow.initial:
                        counts[status] += sign * count
            corrections = await _count(
                database.order_events, correction_stages(readable, start, end), session
            )
    return Totals([(0, "", [status, count]) for status, count in counts.items()], corrections)


async def read_totals_report(
    database: Database, workflow: Workflow, readable: ReadableOrders, start: datetime, end: datetime
) -> TotalsReport:
    """The report with its horizon.

    Raises:
        DatabaseUnavailable: also where it takes too long.
    """
    async with reading_as_of(database) as as_of:
        totals = await read_totals(database, workflow, readable, start, end)
    return TotalsReport(start, end, totals, as_of, await read_archived_until(database, start))


async def _count(collection: AsyncCollection[Any], stages: Stages, session: AsyncClientSession) -> int:
    pipeline: Stages = [*match_stages(stages), {"$count": "count"}]
    found: list[Any] = list(await (await collection.aggregate(pipeline, session=session)).to_list())
    return int(found[0]["count"]) if found else 0


async def _count_by_status(
    database: Database, stages: Stages, session: AsyncClientSession
) -> list[tuple[str, int]]:
    pipeline: Stages = [*match_stages(stages), {"$group": {"_id": "$status", "count": {"$sum": 1}}}]
    found: list[Any] = await (await database.orders.aggregate(pipeline, session=session)).to_list()
    return [(group["_id"], group["count"]) for group in found]
