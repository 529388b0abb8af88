"""Reads what the reports are made of: in bounded memory, and by the indexes that other reads need too.

No index stands on the times of `order_events`: every update would pay for it. The orders that changed in
the range are found in the log, which is in the order of time; or, where they are fewer, among all orders.
"""

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from time import monotonic
from typing import Any

import pymongo

from tracking_query.log.log_search import positions_between, windows_of
from tracking_query.orders.list_query import ListQuery
from tracking_query.orders.list_reader import opened_list
from tracking_query.reports.figures import Clock
from tracking_shared.contracts.access import ReadableOrders
from tracking_shared.contracts.documents import EventDocument, OrderDocument, UpdateDocument, position_key
from tracking_shared.contracts.timestamps import EARLIEST_TIME, MAX_CLOCK_AHEAD
from tracking_shared.errors import TrackingError
from tracking_shared.storage.database import Database, DatabaseUnavailable, driver_errors
from tracking_shared.storage.embedded_database import index_stages, match_stages
from tracking_shared.storage.reads import read_log_end

REPORT_SECONDS = 30.0
"""A report ends by then: whatever it asks the database is bounded by what is left of it."""

CHUNK_ORDERS = 200
"""Histories in memory at once."""

BATCH_DOCUMENTS = 5000

WINDOW_EVENTS = 1000
"""Positions of the log that are looked at at once, by their keys: 12 µs each, and five times as
much with 5,000."""

_EARLY = 2 * MAX_CLOCK_AHEAD
"""An event can have been recorded so long before its `occurred_at`: that rule, and our own clocks."""

_EVENT_FIELDS = dict.fromkeys(
    (
        "order_id",
        "merchant_id",
        "version",
        "seq",
        "status",
        "previous_status",
        "active",
        "type",
        "occurred_at",
        "received_at",
        "recorded_at",
        "due_at",
    ),
    1,
) | {"_id": 0}


class TooLong(TrackingError):
    """The report would take longer than `REPORT_SECONDS`."""


class Deadline:
    """When a report must be done, from now on."""

    def __init__(self, seconds: float = REPORT_SECONDS) -> None:
        self._end = monotonic() + seconds

    @contextmanager
    def bounded(self) -> Iterator[None]:
        """Ends what the database is asked inside when the report must be done.

        Raises:
            TooLong: it is late.
            DatabaseUnavailable: the database cannot be reached.
        """
        left = self._end - monotonic()
        if left <= 0:
            raise TooLong
        try:
            with driver_errors(), pymongo.timeout(left):
                yield
        except DatabaseUnavailable:
            if monotonic() >= self._end:
                raise TooLong from None
            raise


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes within a range of time, of readable orders."""

    readable: ReadableOrders
    start: datetime
    """No earlier one was recorded."""
    end: datetime | None
    """When they were recorded: before it. None: at any time since."""

    @property
    def orders(self) -> ListQuery:
        """The orders, from the newest to the oldest that there is.

        By what never changes: an order that is updated meanwhile is neither read twice nor missed.
        """
        created = {"$gte": EARLIEST_TIME} if self.end is None else {"$lt": self.end}
        times = {"created_at": created, "updated_at": {"$gte": self.start}}
        return _staged(self.readable.conditions("_id") | times, is_from_any_time=self.end is None)


def changes_within(readable: ReadableOrders, start: datetime, end: datetime, clock: Clock) -> Changes:
    """The changes that may belong to the range."""
    if clock == "occurred":  # it can be told long after, in an order of any age
        return Changes(readable, start - _EARLY, None)
    return Changes(readable, start, end)


async def read_histories(
    database: Database,
    partitions: int,
    changes: Changes,
    deadline: Deadline,
    take: Callable[[list[EventDocument]], None],
) -> None:
    """Gives `take` the whole history, by version, of each order with such changes, and of a few others; of
    each one once. The events hold only what reports need.

    Raises:
        TooLong: at the deadline.
        DatabaseUnavailable: the database cannot be reached.
    """
    await database.ping()  # the driver would look for a lost database as long as a report may take
    spans: list[range] = []
    if changes.readable.orders is None:
        with deadline.bounded():
            head = await read_log_end(database, partitions)
            spans = await positions_between(database, head, changes.start, changes.end)
    if changes.readable.orders is not None or await _are_fewer_orders(database, changes, spans, deadline):
        histories = _of_orders(database, changes.orders, deadline)
    else:
        histories = histories_of_log(database, changes, spans, deadline)
    async with aclosing(histories):
        async for history in histories:
            take(history)


async def _are_fewer_orders(
    database: Database, changes: Changes, spans: list[range], deadline: Deadline
) -> bool:
    """True if there are fewer readable orders than events in the spans: then they are looked at instead."""
    events = sum(map(len, spans))
    with deadline.bounded():
        if changes.readable.merchants is None:
            return await database.orders.estimated_document_count() <= events
        asked = changes.readable.conditions("_id")
        return await database.orders.count_documents(asked, limit=events + 1) <= events


async def _of_orders(
    database: Database, query: ListQuery, deadline: Deadline
) -> AsyncGenerator[list[EventDocument]]:
    async with aclosing(_orders(database, query, ("created_at",), deadline)) as chunks:
        async for orders in chunks:
            for chunk in _chunks([order["_id"] for order in orders]):
                for history in await _histories_of(database, chunk, deadline):
                    yield history


async def histories_of_log(
    database: Database,
    changes: Changes,
    spans: list[range],
    deadline: Deadline,
    *,
    window: int = WINDOW_EVENTS,
) -> AsyncGenerator[list[EventDocument]]:
    """The histories of the readable orders that have events in the spans, each with the first of these.

    Raises:
        TooLong: at the deadline.
        DatabaseUnavailable: the database cannot be reached.
    """
    for partition, seqs in windows_of(spans, window):
        created, older = await _orders_in(database, changes, partition, seqs, deadline)
        for chunk in _chunks(created):
            for history in await _histories_of(database, chunk, deadline):
                yield history
        for chunk in _chunks(older):
            for history in await _histories_of(database, chunk, deadline):
                if _first_seq(history, spans[partition]) in seqs:
                    yield history


async def _orders_in(
    database: Database, changes: Changes, partition: int, seqs: range, deadline: Deadline
) -> tuple[list[str], list[str]]:
    """The orders of events at these positions: those that were created there; and those that were created
    before the range, of which only the history tells which event is the first.
    """
    merchants = changes.readable.merchants
    keys = [position_key(partition, seq) for seq in seqs]
    shown = {"_id": 0, "order_id": 1, "version": 1, "created_at": 1, "merchant_id": 1}
    with deadline.bounded():
        found = database.order_events.find({"_id": {"$in": keys}}, shown, batch_size=len(keys))
        events = [
            event for event in await found.to_list() if merchants is None or event["merchant_id"] in merchants
        ]
    created = [event["order_id"] for event in events if event["version"] == 1]
    older = {event["order_id"] for event in events if event["created_at"] < changes.start}
    return created, sorted(older.difference(created))


def _chunks(order_ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(order_ids), CHUNK_ORDERS):
        yield order_ids[start : start + CHUNK_ORDERS]


def _first_seq(history: list[EventDocument], span: range) -> int:
    return next(event["seq"] for event in history if event["seq"] in span)


def open_orders(readable: ReadableOrders) -> ListQuery:
    """The open orders, as they stand at one moment."""
    conditions = readable.conditions("_id") | {"active": True}
    field = "created_at" if len(conditions) > 1 else "updated_at"
    return _staged(conditions, field)


async def read_open_orders(
    database: Database, query: ListQuery, deadline: Deadline, take: Callable[[OrderDocument], None]
) -> None:
    """Gives `take` each order of the list, with what the report needs.

    Raises:
        TooLong: at the deadline.
        DatabaseUnavailable: the database cannot be reached.
    """
    fields = ("merchant_id", "status", "created_at", "updated_at")
    async with aclosing(_orders(database, query, fields, deadline)) as chunks:
        async for orders in chunks:
            for order in orders:
                take(order)


@dataclass(frozen=True, slots=True)
class RefusedUpdates:
    """The refused updates of a range of time."""

    start: datetime
    end: datetime
    merchants: list[str]
    """Of these merchants, or of all if there are none."""

    def pipeline(self, since: datetime, limit: int) -> list[dict[str, Any]]:
        """The first `limit` of them from `since` on."""
        times = {"$gte": since, "$lt": self.end}
        conditions: dict[str, Any] = {"recorded_at": times, "outcome": "rejected"}
        if self.merchants:
            conditions["merchant_id"] = {"$in": self.merchants}
        shown = ("order_id", "merchant_id", "source", "problem.slug", "recorded_at")
        return [
            *match_stages(index_stages(conditions, "recorded_at")),
            {"$sort": {"recorded_at": 1}},
            {"$limit": limit},
            {"$project": dict.fromkeys(shown, 1)},
        ]


async def read_refused_updates(
    database: Database,
    asked: RefusedUpdates,
    deadline: Deadline,
    take: Callable[[UpdateDocument], None],
    *,
    page: int = BATCH_DOCUMENTS,
) -> None:
    """Gives `take` each of these updates, about `page` by one query.

    Raises:
        TooLong: at the deadline.
        DatabaseUnavailable: the database cannot be reached.
    """
    # By the index on the time alone. So of the time at which a page ends there may be more on the next one,
    # and what was read of it already is known by its id.
    await database.ping()
    since, seen = asked.start, frozenset[str]()
    while True:
        limit = page + len(seen)
        with deadline.bounded():
            found = await database.updates.aggregate(
                asked.pipeline(since, limit), batchSize=limit, hint="ttl"
            )
            updates: list[UpdateDocument] = await found.to_list()
        for update in updates:
            if update["_id"] not in seen:
                take(update)
        if len(updates) < limit:
            return
        last = updates[-1]["recorded_at"]
        ids = frozenset(update["_id"] for update in updates if update["recorded_at"] == last)
        since, seen = last, (ids | seen if last == since else ids)


def _staged(
    conditions: dict[str, Any], field: str = "created_at", *, is_from_any_time: bool = False
) -> ListQuery:
    first = next(name for name in ("_id", "merchant_id", "active", "created_at") if name in conditions)
    stages = index_stages(conditions, first)
    return ListQuery(stages, {field: -1, "_id": -1}, is_from_any_time and first == field)


async def _histories_of(
    database: Database, order_ids: list[str], deadline: Deadline
) -> list[list[EventDocument]]:
    asked = {"order_id": {"$in": order_ids}}
    with deadline.bounded():
        found = database.order_events.find(asked, _EVENT_FIELDS, batch_size=BATCH_DOCUMENTS)
        events = await found.to_list()
    events.sort(key=itemgetter("order_id", "version"))
    return [list(history) for _, history in groupby(events, key=itemgetter("order_id"))]


async def _orders(
    database: Database, query: ListQuery, fields: tuple[str, ...], deadline: Deadline
) -> AsyncGenerator[list[OrderDocument]]:
    async with opened_list(database, query, fields=fields) as chunks:
        while True:
            with deadline.bounded():
                orders = await chunks.next()
            if not orders:
                return
            yield orders
