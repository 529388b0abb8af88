"""Reads the event log from the database, from any position. The positions first, then the data."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from pymongo.asynchronous.client_session import AsyncClientSession

from query.log_page import LogPage, keys_of
from query.reach import Reach
from shared.bounded_reads import bounded_read
from shared.causal_reads import newest_partitions
from shared.cursors import Position
from shared.database import Database, DatabaseUnavailable
from shared.documents import EventDocument, PartitionDocument
from shared.partitioning import partition_of

log = logging.getLogger(__name__)

SEARCH_SECONDS = 2.0
"""After this long a search for rare events answers with what it has; the next page goes on from there."""

MAX_WINDOW = 1000
"""Positions looked at in one query: 8 µs each (12 µs found) on the embedded database, more beyond."""

WINDOW_GROWTH = 4
"""How much wider the next window is where the last one did not fill the page."""


class UnknownPosition(Exception):
    """The position is not one of this log: another partition count, or later than its end."""


class ExpiredPosition(Exception):
    """The position belongs to a log that was replaced."""


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which events to read."""

    reach: Reach
    statuses: frozenset[str]
    """Empty: all."""

    def conditions(self) -> dict[str, Any]:
        """As conditions of a database query."""
        conditions = self.reach.conditions("order_id")
        if self.statuses:
            conditions["status"] = {"$in": sorted(self.statuses)}
        return conditions


async def read_log(
    database: Database,
    partitions: int,
    after: Position | None,
    wanted: LogFilter,
    limit: int,
    *,
    search_seconds: float = SEARCH_SECONDS,
) -> LogPage:
    """The next matching events after a position, at most `limit`; from the beginning without one.

    A page always gets ahead, though it may be short of events when `search_seconds` have passed.

    Raises:
        UnknownPosition, ExpiredPosition: `after` cannot be joined.
        DatabaseUnavailable: also while no event log was set up.
    """
    # One causal session: after a change of the primary the data must not be older than the positions.
    with bounded_read():
        async with database.client.start_session(causal_consistency=True) as session:
            head = await _head_to_join(database, partitions, after, session)
            page = LogPage(limit, head, _start(after, head))
            orders = wanted.reach.orders
            if orders is None:
                await _search(database, page, wanted.conditions(), session, monotonic() + search_seconds)
            else:
                page.add_sorted(await _events_of(database, page, orders, wanted, session) if orders else [])
    return page


async def read_head(
    database: Database, partitions: int, session: AsyncClientSession | None = None
) -> Position:
    """The end of the log.

    Raises:
        DatabaseUnavailable: no event log was set up. Errors of the driver are the caller's.
    """
    return _head_of(await database.partitions.find({}, session=session).to_list(), partitions)


async def _head_to_join(
    database: Database, partitions: int, after: Position | None, session: AsyncClientSession
) -> Position:
    """The end of the log, surely not from before `after` was given out."""
    head = await read_head(database, partitions, session)
    if after is None or _can_join(after, head):
        return head
    # A primary that was just elected may answer from before the newest commits. A caller who is told that
    # its cursor is bad drops what it has, so this is asked once more, surely.
    return _head_of(await newest_partitions(database, session), partitions)


def _head_of(documents: list[PartitionDocument], partitions: int) -> Position:
    documents.sort(key=lambda document: document["_id"])
    if [document["_id"] for document in documents] != list(range(partitions)):
        raise DatabaseUnavailable(f"{len(documents)} of {partitions} partitions are set up")
    return Position(documents[0]["epoch"], tuple(document["seq"] for document in documents))


def _start(after: Position | None, head: Position) -> list[int]:
    if after is None:
        return [0] * len(head.seqs)
    if after.epoch != head.epoch:
        raise ExpiredPosition
    if not _can_join(after, head):
        raise UnknownPosition
    return list(after.seqs)


def _can_join(after: Position, head: Position) -> bool:
    if after.epoch != head.epoch or len(after.seqs) != len(head.seqs):
        return False
    return all(a <= h for a, h in zip(after.seqs, head.seqs, strict=True))


async def _search(
    database: Database,
    page: LogPage,
    conditions: dict[str, Any],
    session: AsyncClientSession,
    deadline: float,
) -> None:
    # Without conditions every position holds a match, so a full page needs no look beyond it.
    width = min(page.limit, MAX_WINDOW)
    while not (page.at_head or page.has_surplus):
        if page.room == 0 and not conditions:
            return
        window = page.next_window(width)
        # By keys, not by range, and in a stage of its own: seqs are dense, so the keys are known, and
        # the embedded database has no index for ranges of `_id` nor for a second condition beside it.
        keys = keys_of(window)
        found = await _aggregate(database, [{"$match": {"_id": {"$in": keys}}}, *_match(conditions)], session)
        if not conditions and len(found) < len(keys):
            log.error("the event log misses %d events between %s", len(keys) - len(found), window)
        page.add(window, found)
        if monotonic() > deadline:
            return
        width = min(width * WINDOW_GROWTH, MAX_WINDOW)


async def _events_of(
    database: Database,
    page: LogPage,
    orders: frozenset[str],
    wanted: LogFilter,
    session: AsyncClientSession,
) -> list[EventDocument]:
    # Few orders in a long log: by their index, all partitions in one sorted run.
    conditions = wanted.conditions()
    by_order = {"order_id": conditions.pop("order_id")}
    return await _aggregate(
        database,
        [
            {"$match": by_order},
            {"$match": conditions | {"$or": _spans(page, orders)}},
            {"$sort": {"seq": 1, "partition": 1}},
            {"$limit": page.limit + 1},
        ],
        session,
    )


def _spans(page: LogPage, orders: frozenset[str]) -> list[dict[str, Any]]:
    partitions = {partition_of(order, len(page.seqs)) for order in orders}
    return [
        {"partition": partition, "seq": {"$gt": page.seqs[partition], "$lte": page.head.seqs[partition]}}
        for partition in sorted(partitions)
    ]


def _match(conditions: dict[str, Any]) -> Sequence[dict[str, Any]]:
    return [{"$match": conditions}] if conditions else []


async def _aggregate(
    database: Database, pipeline: list[dict[str, Any]], session: AsyncClientSession
) -> list[EventDocument]:
    return await (await database.order_events.aggregate(pipeline, session=session)).to_list()
