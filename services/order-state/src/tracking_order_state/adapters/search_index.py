"""Keeps the search index: a document for each order, with the words that it is found by.

It follows the log, a moment behind it, and is not written in the transactions of batches: on the embedded
database an index on words there made a batch of 500 changes take 1.7 times as long. So it also indexes the
changes that an earlier release recorded.
"""

import asyncio
import logging
from collections import OrderedDict
from contextlib import suppress
from datetime import timedelta
from math import inf
from time import monotonic
from typing import Any

import pymongo
from pymongo import ReplaceOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError
from uuid_utils import uuid4

from tracking_order_state.errors import Fault, fault_of
from tracking_shared.contracts.documents import (
    EventDocument,
    PartitionDocument,
    log_start_of,
    position_keys,
)
from tracking_shared.contracts.texts import words_of_event
from tracking_shared.contracts.timestamps import now
from tracking_shared.storage.database import DURABLE, Database, DatabaseUnavailable, driver_errors

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5

CHUNK_EVENTS = 200

BUSY_FACTOR = 40
"""While orders change, the pause is so many times as long as a chunk took: the database has 97 % of its time
for others. On the embedded one, about 130 changes a second are indexed then."""

QUIET_FACTOR = 2
"""While they do not, nothing else needs the database."""

BUSY_CHANGES_A_SECOND = 50

MAX_REST_SECONDS = 10.0

LEASE = timedelta(seconds=30)
"""One replica follows the log. Another one takes over when its lease has not been renewed for this long."""

RENEWAL_SECONDS = 10.0
"""How often the lease is renewed, and the progress looked at while nothing changes: a renewal is a flush to
the disk, behind which commits wait."""

WRITE_SECONDS = 8.0
"""The time limit of a write, with everything that the driver repeats of it; without it, 120 s."""

MAX_REMEMBERED = 20_000
"""Orders whose indexed words are remembered: most changes leave them as they are."""

Changed = list[tuple[str, dict[str, Any]]]
"""Order id and index entry of each order whose words have changed."""

_FIELDS = dict.fromkeys(
    ("order_id", "merchant_id", "reference", "customer", "source", "created_at", "seq", "partition"), 1
)


class _Overtaken(Exception):
    """Another replica has taken these changes in."""


class SearchIndexer:
    """Follows the log. Each write counts only where the index stands as it did when the changes were read: a
    replica that lost its lease without noticing cannot put older words over newer ones.
    """

    def __init__(self, database: Database, *, renewal_seconds: float = RENEWAL_SECONDS) -> None:
        self._database = database
        self._renewal_seconds = renewal_seconds
        self._name = uuid4().hex
        self._written: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._looked_at: tuple[float, int] | None = None
        """The time of the last look at the log, and the number of changes in it."""
        self._rest_factor = BUSY_FACTOR
        self._renewed_at = -inf
        self._complete: tuple[float, int] | None = None
        """When it was last seen that the index has all changes, and their number."""

    async def run(self) -> None:
        """Follows the log without end, from the stored progress. A fault of our own stops the index alone."""
        while True:
            started = monotonic()
            rest = MAX_REST_SECONDS
            try:
                if not isinstance(await fault_of(self.follow()), Fault):
                    rest = max(
                        POLL_SECONDS, min((monotonic() - started) * self._rest_factor, MAX_REST_SECONDS)
                    )
            except DatabaseUnavailable as error:
                log.warning("the search index waits for the database: %s", error)
            await asyncio.sleep(rest)

    async def follow(self) -> int:
        """Indexes the next changes of every partition, at most `CHUNK_EVENTS` of each. Returns their number.

        Raises:
            DatabaseUnavailable: the database cannot be reached.
        """
        try:
            return await self._follow()
        except _Overtaken:
            self._forget()
            return 0
        except DatabaseUnavailable:
            self._forget()  # what was written is unknown
            raise

    async def _follow(self) -> int:
        with driver_errors():
            partitions = await self._database.partitions.find({}, {"seq": 1, "log_start": 1}).to_list()
            changes = sum(partition["seq"] for partition in partitions)
            self._choose_pace(changes)
            if not partitions or self._is_complete(changes) or not await self._is_ours():
                return 0
            progress = await self._database.search_progress.find({}).to_list()
            reached = {document["_id"]: document["seq"] for document in progress if "seq" in document}
            erasures = {document["_id"]: document.get("erasures") for document in progress}
            taken = 0
            for partition in partitions:
                number, seq = partition["_id"], reached.get(partition["_id"], 0)
                if seq < partition["seq"]:
                    taken += await self._take(partition, seq, erasures.get(number))
            if taken + sum(reached.values()) == changes:
                self._complete = monotonic(), changes
            return taken

    def _is_complete(self, changes: int) -> bool:
        """True if nothing has changed since the index had all, and that was seen a short time ago: somebody
        may have removed the index, to have it built again.
        """
        if self._complete is None:
            return False
        seen_at, number = self._complete
        return number == changes and monotonic() - seen_at < self._renewal_seconds

    def _forget(self) -> None:
        self._written.clear()
        self._complete, self._renewed_at = None, -inf

    def _choose_pace(self, changes: int) -> None:
        looked_at, self._looked_at = self._looked_at, (monotonic(), changes)
        if looked_at is not None:
            a_second = (changes - looked_at[1]) / max(self._looked_at[0] - looked_at[0], 0.001)
            self._rest_factor = BUSY_FACTOR if a_second > BUSY_CHANGES_A_SECOND else QUIET_FACTOR

    async def _is_ours(self) -> bool:
        started = monotonic()
        if started - self._renewed_at < self._renewal_seconds:
            return True
        time = now()
        free = {"_id": "lease", "$or": [{"holder": self._name}, {"until": {"$lt": time}}]}
        try:
            await self._database.search_progress.update_one(
                free, {"$set": {"holder": self._name, "until": time + LEASE}}, upsert=True
            )
        except DuplicateKeyError:  # another one has it
            self._forget()
            return False
        self._renewed_at = started
        return True

    async def _take(self, head: PartitionDocument, seq: int, erasures: int | None) -> int:
        if seq == 0:
            self._written.clear()  # perhaps the index was removed, to have it built again
        partition = head["_id"]
        # Keys rather than a sort: there are no holes, except where orders were archived.
        last = min(seq + CHUNK_EVENTS, head["seq"])
        keys = position_keys(partition, seq + 1, last)
        found = await self._database.order_events.find({"_id": {"$in": keys}}, _FIELDS).to_list()
        events = sorted(found, key=lambda event: event["seq"])
        reached = max(min(last, log_start_of(head)), events[-1]["seq"] if events else seq)
        if reached == seq:
            return 0
        changed = self._changed(events)
        await self._write(partition, (seq, erasures), reached, changed)
        for key, document in changed:
            self._remember(key, tuple(document["words"]))
        return reached - seq

    async def _write(
        self, partition: int, before: tuple[int, int | None], seq: int, changed: Changed
    ) -> None:
        # One transaction, for one flush to the disk instead of one for each order. The number of erasures was
        # read before the events: a customer who was erased since is not put back.
        progress = self._database.search_progress
        reached = {"_id": partition, "seq": before[0], "erasures": before[1]}
        if before[0] == 0:
            with suppress(DuplicateKeyError):
                await progress.insert_one({"_id": partition, "seq": 0})
        writes: list[Any] = [ReplaceOne({"_id": key}, document, upsert=True) for key, document in changed]

        async def write(session: AsyncClientSession) -> None:
            moved = await progress.update_one(reached, {"$set": {"seq": seq}}, session=session)
            if moved.matched_count == 0:
                raise _Overtaken
            if writes:
                await self._database.order_search.bulk_write(writes, ordered=True, session=session)

        async with self._database.client.start_session() as session:
            with pymongo.timeout(WRITE_SECONDS):
                await session.with_transaction(write, write_concern=DURABLE)

    def _changed(self, events: list[EventDocument]) -> Changed:
        newest = {event["order_id"]: event for event in events}
        return [
            (
                order_id,
                {"merchant_id": event["merchant_id"], "created_at": event["created_at"], "words": words},
            )
            for order_id, event in newest.items()
            if tuple(words := words_of_event(event)) != self._written.get(order_id)
        ]

    def _remember(self, order_id: str, words: tuple[str, ...]) -> None:
        self._written[order_id] = words
        self._written.move_to_end(order_id)
        if len(self._written) > MAX_REMEMBERED:
            self._written.popitem(last=False)
