"""The numbers of open orders and the position of the log at the same moment: whoever counts on with the
events after that position counts each change once.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pymongo.read_concern import ReadConcern

from tracking_query.reports.figures import MAX_ROWS, TooManyRows
from tracking_shared.contracts.access import ReadableOrders
from tracking_shared.contracts.cursors import Position
from tracking_shared.contracts.workflow import Workflow
from tracking_shared.storage.database import DURABLE, Database
from tracking_shared.storage.embedded_database import index_stages, match_stages
from tracking_shared.storage.reads import bounded_read, read_log_end

OPEN_COUNTS_COLUMNS = ("status", "count", "overdue")

Stages = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class OpenCounts:
    """The numbers of open orders at a position of the log."""

    position: Position
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By merchant (empty: all of them) and status."""
    overdue: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Those of them that are overdue."""

    @classmethod
    def of(cls, position: Position, found: Iterable[dict[str, Any]]) -> "OpenCounts":
        """The numbers that the query found.

        Raises:
            TooManyRows: they are of more than `MAX_ROWS` merchants and statuses.
        """
        counted = cls(position)
        for row in found:
            key = row["_id"].get("merchant", ""), row["_id"]["status"]
            counted.counts[key] += row["count"]
            if row["_id"].get("overdue"):
                counted.overdue[key] += row["count"]
        if len(counted.counts) > MAX_ROWS:
            raise TooManyRows
        return counted

    def rows(self, workflow: Workflow) -> Iterator[tuple[int, str, list[str | int]]]:
        """By merchant, then status in the order of the workflow's table."""
        rank = {status: number for number, status in enumerate(workflow.transitions)}
        for merchant, status in sorted(self.counts, key=lambda key: (key[0], rank.get(key[1], len(rank)))):
            key = merchant, status
            yield 0, merchant, [status, self.counts[key], self.overdue[key]]


def open_counts_stages(readable: ReadableOrders, *, by_merchant: bool) -> Stages:
    """The query; an index serves its first stage."""
    conditions = readable.conditions("_id") | {"active": True}
    first = next(name for name in ("_id", "merchant_id", "active") if name in conditions)
    group = {"status": "$status", "overdue": "$overdue"}
    if by_merchant:
        group["merchant"] = "$merchant_id"
    return [
        *match_stages(index_stages(conditions, first)),
        {"$group": {"_id": group, "count": {"$sum": 1}}},
        {"$limit": 2 * MAX_ROWS + 1},
    ]


async def read_open_counts(
    database: Database, partitions: int, readable: ReadableOrders, *, by_merchant: bool
) -> OpenCounts:
    """Counts in one transaction that only reads: order-state commits orders and positions together, so both
    are those of one moment.

    Raises:
        TooManyRows: there are more than `MAX_ROWS` merchants and statuses.
        DatabaseUnavailable: also where it takes too long.
    """
    pipeline = open_counts_stages(readable, by_merchant=by_merchant)
    with bounded_read():
        async with (
            database.client.start_session() as session,
            await session.start_transaction(ReadConcern("snapshot"), DURABLE),
        ):
            position = await read_log_end(database, partitions, session)
            rows: Any = await (await database.orders.aggregate(pipeline, session=session)).to_list()
    return OpenCounts.of(position, rows)
