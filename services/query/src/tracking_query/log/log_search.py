"""Reads the event log from the database, from any position: the positions first, then the data. Finds the
part that was recorded in a range of time by halving, for positions are dense.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

from pymongo.asynchronous.client_session import AsyncClientSession

from tracking_query.log.log_page import LogPage, keys_of
from tracking_shared.contracts.access import ReadableOrders
from tracking_shared.contracts.cursors import Position, is_before, resync_reason
from tracking_shared.contracts.documents import EventDocument, position_key
from tracking_shared.contracts.formats import ORDER_EVENTS, upcast_all
from tracking_shared.contracts.layout import Layout, layout_of, padded
from tracking_shared.errors import TrackingError
from tracking_shared.storage.database import Database, DatabaseUnavailable
from tracking_shared.storage.embedded_database import match_stages
from tracking_shared.storage.reads import bounded_read, read_log_ends, read_log_ends_to_resume

log = logging.getLogger(__name__)

SEARCH_SECONDS = 2.0
"""After this long a search for rare events answers with what it has; the next page goes on from there."""

MAX_WINDOW = 1000
"""Positions looked at in one query: 8 µs each (12 µs found), more beyond."""

WINDOW_GROWTH = 4
"""The factor by which the next window is wider where the last one did not fill the page."""


class UnknownPosition(TrackingError):
    """The position is not one of this log: another partition count, or later than its end."""


class ExpiredPosition(TrackingError):
    """The position belongs to a log that was replaced, or is before the beginning of this one. The message
    says which, after "The cursor".
    """


@dataclass(frozen=True, slots=True)
class LogFilter:
    """The events to read."""

    readable: ReadableOrders
    statuses: frozenset[str]
    """Empty: all."""

    def conditions(self) -> dict[str, Any]:
        """As conditions of a database query."""
        conditions = self.readable.conditions("order_id")
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
    """The next matching events after a position, at most `limit`; without one, from where the log begins.

    A page always gets ahead, though it may be short of events when `search_seconds` have passed.

    Raises:
        UnknownPosition, ExpiredPosition: `after` cannot be joined.
        DatabaseUnavailable: also while no event log was set up.
    """
    # One causal session: after a change of the primary the data must not be older than the positions.
    with bounded_read():
        async with database.client.start_session(causal_consistency=True) as session:
            start, head = (
                await read_log_ends(database, partitions, session)
                if after is None
                else await read_log_ends_to_resume(database, partitions, after, session)
            )
            page = LogPage(limit, head, _start(after, start, head))
            orders = wanted.readable.orders
            if orders is None:
                await _search(database, page, wanted.conditions(), session, monotonic() + search_seconds)
            else:
                page.add_sorted(await _events_of(database, page, orders, wanted, session) if orders else [])
    return page


def _start(after: Position | None, start: Position, end: Position) -> list[int]:
    if after is None:
        return list(start.seqs)
    if after.epoch != end.epoch:
        raise ExpiredPosition("belongs to a log that was replaced")
    if resync_reason(after, end) is not None:
        raise UnknownPosition
    if is_before(after, start):
        raise ExpiredPosition("is from before the beginning of the log; older orders were archived")
    return list(padded(after.seqs, len(end.seqs)))


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
        # By keys, not by range: seqs are dense, so the keys are known, and
        # each database has an index for them.
        keys = keys_of(window)
        stages = match_stages([{"_id": {"$in": keys}}, conditions])
        found = await _aggregate(database, stages, session)
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
    spans = _spans(page, orders, await _layout(database, session))
    return await _aggregate(
        database,
        [
            *match_stages([by_order, conditions | {"$or": spans}]),
            {"$sort": {"seq": 1, "partition": 1}},
            {"$limit": page.limit + 1},
        ],
        session,
    )


async def _layout(database: Database, session: AsyncClientSession) -> Layout:
    stored = await database.raw["settings"].find_one({"_id": "partitions"}, session=session)
    if stored is None:
        raise DatabaseUnavailable("the settings were removed")
    return layout_of(stored)


def _spans(page: LogPage, orders: frozenset[str], layout: Layout) -> list[dict[str, Any]]:
    homes = {home for order in orders for home in layout.homes(order)}
    partitions = {home for home in homes if home < len(page.seqs)}
    return [
        {"partition": partition, "seq": {"$gt": page.seqs[partition], "$lte": page.head.seqs[partition]}}
        for partition in sorted(partitions)
    ]


async def _aggregate(
    database: Database, pipeline: list[dict[str, Any]], session: AsyncClientSession
) -> list[EventDocument]:
    found = await (await database.order_events.aggregate(pipeline, session=session)).to_list()
    return upcast_all(ORDER_EVENTS, found)


MAX_DISORDER = timedelta(minutes=1)
"""An event of a partition may seem to be recorded so much earlier than one before it: its owner may have
changed, and the clocks of the two differ."""


async def positions_between(
    database: Database, head: Position, start: datetime, end: datetime | None
) -> list[range]:
    """Seqs of each partition, up to `head`, among which are all events recorded from `start` on and before
    `end` (None: up to the head). There are a few others among them.

    Raises:
        DatabaseUnavailable: it does not answer, or not in time.
    """
    firsts = await _first_at(database, head, start - MAX_DISORDER)
    if end is None:
        return [range(first, seq + 1) for first, seq in zip(firsts, head.seqs, strict=True)]
    return list(map(range, firsts, await _first_at(database, head, end + MAX_DISORDER)))


async def _first_at(database: Database, head: Position, time: datetime) -> list[int]:
    """A seq of each partition before which an event was recorded earlier than `time`, and at which not."""
    low, high = [1] * len(head.seqs), [seq + 1 for seq in head.seqs]
    while open_ones := [partition for partition, (a, b) in enumerate(zip(low, high, strict=True)) if a < b]:
        middles = {partition: (low[partition] + high[partition]) // 2 for partition in open_ones}
        recorded = await _recorded_at(database, middles)
        for partition, seq in middles.items():
            key = position_key(partition, seq)
            # One that is missing counts as early: what is removed is old.
            if key in recorded and recorded[key] >= time:
                high[partition] = seq
            else:
                low[partition] = seq + 1
    return low


async def _recorded_at(database: Database, seqs: Mapping[int, int]) -> dict[int, datetime]:
    keys = [position_key(partition, seq) for partition, seq in seqs.items()]
    with bounded_read():
        found = await database.order_events.find({"_id": {"$in": keys}}, {"recorded_at": 1}).to_list()
    return {event["_id"]: event["recorded_at"] for event in found}


def windows_of(spans: Sequence[range], width: int) -> list[tuple[int, range]]:
    """The spans in pieces of at most `width` positions: partition and seqs, one partition after another."""
    return [
        (partition, span[start : start + width])
        for partition, span in enumerate(spans)
        for start in range(0, len(span), width)
    ]
