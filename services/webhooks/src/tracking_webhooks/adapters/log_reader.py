"""Reads of the event log: its end, what is new there, and what a webhook has missed."""

from collections.abc import Sequence
from typing import Any

from tracking_shared.contracts.cursors import Position
from tracking_shared.contracts.documents import MAX_SEQ, EventDocument, position_key
from tracking_shared.contracts.formats import ORDER_EVENTS, upcast_all
from tracking_shared.storage.database import Database, DatabaseUnavailable
from tracking_shared.storage.embedded_database import match_stages
from tracking_shared.storage.reads import (
    CausalReads,
    bounded_read,
    read_events,
    read_log_ends,
    read_newest_log_end,
)

PAGE_EVENTS = 500

MAX_SEARCHED = 5_000
"""Positions that one read looks through for the few events of a webhook."""


class LogReader:
    """The log, read by one process. No read is older than one before it."""

    def __init__(self, database: Database, partitions: int) -> None:
        self._database = database
        self._partitions = partitions
        self._causal = CausalReads(database)

    async def read_ends(self) -> tuple[Position, Position]:
        """The positions up to which orders have been archived, and at which the log ends.

        Raises:
            DatabaseUnavailable: also while the database is not set up yet.
        """
        with bounded_read():
            async with self._causal.session() as session:
                return await read_log_ends(self._database, self._partitions, session)

    async def read_new(self, partition: int, after: int, last: int) -> list[EventDocument]:
        """The events after the seq `after`, up to `last`, at most `PAGE_EVENTS`.

        Raises:
            DatabaseUnavailable: also if one of them cannot be read yet.
        """
        last = min(last, after + PAGE_EVENTS)
        events = await self._page(partition, after, last)
        if len(events) < last - after:
            with bounded_read():
                async with self._causal.session() as session:
                    # Makes the next read at least as recent as the commit of these events.
                    await read_newest_log_end(self._database, self._partitions, session)
            events = await self._page(partition, after, last)
        if len(events) < last - after:
            raise DatabaseUnavailable(f"events up to {last} of partition {partition} are not all there")
        return events

    async def read_matching(
        self, partition: int, after: int, last: int, stages: Sequence[dict[str, Any]], limit: int
    ) -> tuple[list[EventDocument], int]:
        """The next events that meet the conditions, and the seq up to which the log was looked through."""
        if not stages:
            last = min(last, after + limit)
            return await self._page(partition, after, last), last
        last = min(last, after + MAX_SEARCHED)
        events = await self._between(partition, after, last, stages, limit)
        return events, events[-1]["seq"] if len(events) == limit else last

    async def count_archived(self, partition: int, after: int, last: int) -> int:
        """The events after the seq `after`, up to `last`, that are in the log no longer."""
        keys = {"$gt": position_key(partition, after), "$lte": position_key(partition, last)}
        with bounded_read():
            async with self._causal.session() as session:
                events = self._database.raw["order_events"]
                cursor = await events.aggregate([{"$match": {"_id": keys}}, {"$count": "n"}], session=session)
                counted: list[dict[str, int]] = await cursor.to_list()
        return last - after - (counted[0]["n"] if counted else 0)

    async def read_next_of_order(
        self, order_id: str, version: int, last_seq: int, stages: Sequence[dict[str, Any]]
    ) -> EventDocument | None:
        """The first event of an order from `version` on, up to a seq, that meets the conditions."""
        behind = {"version": {"$gte": version}, "seq": {"$lte": last_seq}}
        conditions: list[dict[str, Any]] = [{"order_id": order_id}, behind, *stages]
        found = await self._find(conditions, {"version": 1}, 1)
        return found[0] if found else None

    async def read_again(self, events: Sequence[EventDocument]) -> list[EventDocument]:
        """The events as they are now: without the customer, if that was erased meanwhile."""
        keys = [event["_id"] for event in events]
        return await self._find([{"_id": {"$in": keys}}], {"_id": 1}, len(keys))

    async def _page(self, partition: int, after: int, last: int) -> list[EventDocument]:
        with bounded_read():
            async with self._causal.session() as session:
                return await read_events(self._database, partition, after + 1, min(last, MAX_SEQ), session)

    async def _between(
        self, partition: int, after: int, last: int, stages: Sequence[dict[str, Any]], limit: int
    ) -> list[EventDocument]:
        keys = {"$gt": position_key(partition, after), "$lte": position_key(partition, min(last, MAX_SEQ))}
        return await self._find([{"_id": keys}, *stages], {"_id": 1}, limit)

    async def _find(
        self, stages: Sequence[dict[str, Any]], sort: dict[str, int], limit: int
    ) -> list[EventDocument]:
        pipeline = [*match_stages(stages), {"$sort": sort}, {"$limit": limit}]
        with bounded_read():
            async with self._causal.session() as session:
                cursor = await self._database.order_events.aggregate(pipeline, session=session)
                found: list[EventDocument] = await cursor.to_list()
            return upcast_all(ORDER_EVENTS, found)
