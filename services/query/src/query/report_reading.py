"""Reads what the reports are made of: in bounded memory, and by the indexes that other reads need too.

No index stands on the times of `order_events`: every update would pay for it. The orders that can have
changed in the range are found by their index of creation, and their histories by order.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from time import monotonic
from typing import Any, TypeVar

from pymongo.asynchronous.collection import AsyncCollection

from query.reach import Reach
from query.report_figures import Clock
from shared.database import Database, driver_errors
from shared.documents import EventDocument
from shared.timestamps import EARLIEST_TIME, MAX_CLOCK_AHEAD

REPORT_SECONDS = 30.0
"""A report ends by then, and by one call of the database more. About a million changes on one machine."""

CHUNK_ORDERS = 200
"""Histories in memory at once."""

BATCH_DOCUMENTS = 5000

_EARLY = 2 * MAX_CLOCK_AHEAD
"""How long before its `occurred_at` an event can have been recorded: that rule, and our own clocks."""

_EVENT_FIELDS = dict.fromkeys(
    (
        "order_id",
        "merchant_id",
        "version",
        "status",
        "previous_status",
        "occurred_at",
        "received_at",
        "recorded_at",
    ),
    1,
) | {"_id": 0}

Document = TypeVar("Document", bound=Mapping[str, Any])


class TooLong(Exception):
    """The report would take longer than `REPORT_SECONDS`."""


class Deadline:
    """When a report must be done, from now on."""

    def __init__(self, seconds: float = REPORT_SECONDS) -> None:
        self._end = monotonic() + seconds

    def check(self) -> None:
        """Raises `TooLong` if it has passed."""
        if monotonic() > self._end:
            raise TooLong


@dataclass(frozen=True, slots=True)
class Selection:
    """Which documents to read, as a pipeline, and by which index (None: the one that the database takes)."""

    pipeline: list[dict[str, Any]]
    index: str | None


async def read_histories(
    database: Database,
    selection: Selection,
    deadline: Deadline,
    take: Callable[[list[EventDocument]], None],
) -> None:
    """Gives `take` the whole history, by version, of each order of the selection.

    The events hold only what reports need.

    Raises:
        TooLong: at the deadline.
        DatabaseUnavailable: the database cannot be reached.
    """
    async with aclosing(_read(database, database.orders, selection, deadline)) as batches:
        async for orders in batches:
            for start in range(0, len(orders), CHUNK_ORDERS):
                chunk = [order["_id"] for order in orders[start : start + CHUNK_ORDERS]]
                for history in await _histories_of(database, chunk):
                    take(history)
                deadline.check()


def changed_orders(reach: Reach, start: datetime, end: datetime, clock: Clock) -> Selection:
    """The ids of the orders that may have changed within the range.

    By an index of what never changes: an order that is updated meanwhile is neither read twice nor missed.
    """
    times: dict[str, Any] = {"created_at": {"$lt": end}, "updated_at": {"$gte": start}}
    if clock == "occurred":  # it can be told long after, in an order of any age
        times = {"created_at": {"$gte": EARLIEST_TIME}, "updated_at": {"$gte": start - _EARLY}}
    conditions = reach.conditions("_id") | times
    index = {"_id": None, "merchant_id": "merchant_created", "created_at": "created"}
    first = next(name for name in index if name in conditions)
    return Selection(_staged(conditions, first, ("_id",)), index[first])


def open_orders(reach: Reach) -> Selection:
    """The open orders. One that is updated meanwhile may be read twice."""
    conditions = reach.conditions("_id") | {"active": True}
    first = next(name for name in ("_id", "merchant_id", "active") if name in conditions)
    fields = ("merchant_id", "status", "created_at", "updated_at")
    return Selection(_staged(conditions, first, fields), index=None)


def refused_updates(start: datetime, end: datetime, merchants: list[str]) -> Selection:
    """The refused updates of the range, of these merchants or of all."""
    conditions: dict[str, Any] = {"recorded_at": {"$gte": start, "$lt": end}, "outcome": "rejected"}
    if merchants:
        conditions["merchant_id"] = {"$in": merchants}
    fields = ("order_id", "merchant_id", "source", "problem.slug", "recorded_at")
    return Selection(_staged(conditions, "recorded_at", fields), "ttl")


async def read_each(
    database: Database,
    collection: AsyncCollection[Document],
    selection: Selection,
    deadline: Deadline,
    take: Callable[[Document], None],
) -> None:
    """Gives `take` each document of the selection.

    Raises:
        TooLong: at the deadline.
        DatabaseUnavailable: the database cannot be reached.
    """
    async with aclosing(_read(database, collection, selection, deadline)) as batches:
        async for documents in batches:
            for document in documents:
                take(document)


def _staged(conditions: dict[str, Any], first: str, fields: Iterable[str]) -> list[dict[str, Any]]:
    # The first condition is a stage of its own: the embedded database has an index only for one field.
    others = {name: condition for name, condition in conditions.items() if name != first}
    stages = [{first: conditions[first]}, *([others] if others else [])]
    return [*({"$match": stage} for stage in stages), {"$project": dict.fromkeys(fields, 1)}]


async def _histories_of(database: Database, order_ids: list[str]) -> list[list[EventDocument]]:
    asked = {"order_id": {"$in": order_ids}}
    with driver_errors():
        found = database.order_events.find(asked, _EVENT_FIELDS, batch_size=BATCH_DOCUMENTS)
        events = await found.to_list()
    events.sort(key=itemgetter("order_id", "version"))
    return [list(history) for _, history in groupby(events, key=itemgetter("order_id"))]


async def _read(
    database: Database, collection: AsyncCollection[Document], selection: Selection, deadline: Deadline
) -> AsyncGenerator[list[Document], None]:
    options: dict[str, Any] = {} if selection.index is None else {"hint": selection.index}
    await database.ping()  # the driver would look for a lost database as long as one call may take
    with driver_errors():
        cursor = await collection.aggregate(selection.pipeline, batchSize=BATCH_DOCUMENTS, **options)
    async with cursor:
        while True:
            deadline.check()
            with driver_errors():
                batch = await cursor.to_list(BATCH_DOCUMENTS)
            if not batch:
                return
            yield batch
