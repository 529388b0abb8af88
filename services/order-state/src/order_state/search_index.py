"""Keeps the search index: a document for each order, with the words that it is found by.

It follows the log, a moment behind it, and not in the transactions that record changes: on the embedded
database an index on words there made a batch of 500 changes take 1.7 times as long. So it also takes in
what an earlier release recorded, and of an installation that has no index yet, everything.
"""

import asyncio
import logging
from collections import OrderedDict
from datetime import timedelta
from time import monotonic
from typing import Any

from pymongo import ReplaceOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError
from uuid_utils import uuid4

from order_state.faults import fault_of
from shared.database import DURABLE, Database, DatabaseUnavailable, driver_errors
from shared.documents import EventDocument, position_key
from shared.search_words import words_of_event
from shared.timestamps import now

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5

CHUNK_EVENTS = 200

BUSY_FACTOR = 40
"""While orders change, it rests so many times as long as a chunk took: the database has 97 % of its time for
others. The embedded one then takes in about 130 changes a second."""

QUIET_FACTOR = 2
"""While they do not, nobody waits for the database."""

BUSY_CHANGES_A_SECOND = 50

MAX_REST_SECONDS = 10.0

LEASE = timedelta(seconds=30)
"""One replica follows. Another one takes over when it has not been heard of for so long."""

MAX_REMEMBERED = 20_000
"""Orders whose words are known to be written: most changes leave them as they are."""

Changed = list[tuple[str, dict[str, Any]]]
"""Order id and index entry of each order whose words are others now."""

_FIELDS = dict.fromkeys(
    ("order_id", "merchant_id", "customer", "source", "created_at", "seq", "partition"), 1
)


class SearchIndexer:
    """Follows the log. Safe to run twice: the index then says the same."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._name = uuid4().hex
        self._written: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._looked_at: tuple[float, int] | None = None
        """When the log was looked at last, and how many changes there were in all."""
        self._rest_factor = BUSY_FACTOR

    async def run(self) -> None:
        """Follows without end, from where the index is. A fault of our own holds up the index alone."""
        while True:
            started = monotonic()
            rest = MAX_REST_SECONDS
            try:
                if await fault_of(self._follow_all()) is None:
                    rest = max(
                        POLL_SECONDS, min((monotonic() - started) * self._rest_factor, MAX_REST_SECONDS)
                    )
            except DatabaseUnavailable as error:
                log.warning("the search index waits for the database: %s", error)
            await asyncio.sleep(rest)

    async def _follow_all(self) -> None:
        await self.follow()

    async def follow(self) -> int:
        """Takes in the next changes of every partition, at most `CHUNK_EVENTS` of each. Returns how many.

        Raises:
            DatabaseUnavailable: the database cannot be reached.
        """
        with driver_errors():
            partitions = await self._database.partitions.find({}, {"seq": 1}).to_list()
            self._choose_pace(sum(partition["seq"] for partition in partitions))
            if not partitions or not await self._is_ours():
                return 0
            progress = await self._database.search_progress.find({}).to_list()
            reached = {document["_id"]: document["seq"] for document in progress if "seq" in document}
            taken = 0
            for partition in partitions:
                number, seq = partition["_id"], reached.get(partition["_id"], 0)
                if seq < partition["seq"]:
                    taken += await self._take(number, seq)
            return taken

    def _choose_pace(self, changes: int) -> None:
        looked_at, self._looked_at = self._looked_at, (monotonic(), changes)
        if looked_at is not None:
            a_second = (changes - looked_at[1]) / max(self._looked_at[0] - looked_at[0], 0.001)
            self._rest_factor = BUSY_FACTOR if a_second > BUSY_CHANGES_A_SECOND else QUIET_FACTOR

    async def _is_ours(self) -> bool:
        time = now()
        free = {"_id": "lease", "$or": [{"holder": self._name}, {"until": {"$lt": time}}]}
        try:
            await self._database.search_progress.update_one(
                free, {"$set": {"holder": self._name, "until": time + LEASE}}, upsert=True
            )
        except DuplicateKeyError:  # another one has it
            self._written.clear()
            return False
        return True

    async def _take(self, partition: int, seq: int) -> int:
        # Keys rather than a sort: there are no holes.
        keys = [position_key(partition, number) for number in range(seq + 1, seq + 1 + CHUNK_EVENTS)]
        found = await self._database.order_events.find({"_id": {"$in": keys}}, _FIELDS).to_list()
        events = sorted(found, key=lambda event: event["seq"])
        if not events:
            return 0
        changed = self._changed(events)
        await self._write(partition, events[-1]["seq"], changed)
        for key, document in changed:
            self._remember(key, tuple(document["words"]))
        return len(events)

    async def _write(self, partition: int, seq: int, changed: Changed) -> None:
        # One transaction, for one flush to the disk instead of one for each order.
        writes: list[Any] = [ReplaceOne({"_id": key}, document, upsert=True) for key, document in changed]

        async def write(session: AsyncClientSession) -> None:
            if writes:
                await self._database.order_search.bulk_write(writes, ordered=True, session=session)
            await self._database.search_progress.update_one(
                {"_id": partition}, {"$set": {"seq": seq}}, upsert=True, session=session
            )

        async with self._database.client.start_session() as session:
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
