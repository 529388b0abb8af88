"""Migrates what an earlier release has recorded: the outcomes of applied updates go into their events.

Each step is one transaction over a few events of one partition, and moves on how far the partition is
migrated. So it goes on after a crash where it stood, and several replicas do no harm: one of two that take
the same events is refused. Nothing that it writes is written by batches, so it does not conflict with them.
"""

import asyncio
import logging
from time import monotonic
from typing import Any

import pymongo
from pymongo import DeleteOne, UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession

from tracking_order_state.errors import Fault, fault_of
from tracking_shared.contracts.documents import OUTCOMES_ID, EventDocument, position_keys, update_key
from tracking_shared.contracts.timestamps import now
from tracking_shared.storage.database import DURABLE, Database, DatabaseUnavailable, driver_errors

log = logging.getLogger(__name__)

CHUNK_EVENTS = 200

REST_FACTOR = 5
"""The pause after a round is so many times as long as the round: the database has five sixths of its time for
others."""

MIN_REST_SECONDS = 0.05
MAX_REST_SECONDS = 10.0

WAIT_SECONDS = 60.0
"""Between looks at the clock, while services of the earlier release may be running."""

WRITE_SECONDS = 8.0
"""The time limit of a write, with everything that the driver repeats of it."""

_FIELDS = dict.fromkeys(("order_id", "update_id", "update_key"), 1)


class _Overtaken(Exception):
    """Another replica has migrated these events."""


class OutcomeMigration:
    """Migrates the log from the stored progress to its end, once no earlier release writes to it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self) -> None:
        """Runs until everything is migrated. A fault of our own holds up the migration alone."""
        while True:
            started = monotonic()
            rest = MAX_REST_SECONDS
            try:
                done = await fault_of(self.step())
                if done is True:
                    return
                if not isinstance(done, Fault):
                    rest = await self._rest(monotonic() - started)
            except DatabaseUnavailable as error:
                log.warning("the migration of outcomes waits for the database: %s", error)
            await asyncio.sleep(rest)

    async def _rest(self, taken: float) -> float:
        form = await self._database.form_of_outcomes()
        if form is None or now() < form["in_events_from"]:
            return WAIT_SECONDS
        return max(MIN_REST_SECONDS, min(taken * REST_FACTOR, MAX_REST_SECONDS))

    async def step(self) -> bool:
        """Migrates the next events of every partition, at most `CHUNK_EVENTS` of each. Returns True if
        everything is migrated.

        Raises:
            DatabaseUnavailable: the database cannot be reached.
        """
        form = await self._database.form_of_outcomes()
        if form is None or now() < form["in_events_from"]:
            return False
        if form["migrated"]:
            return True
        with driver_errors():
            partitions = await self._database.partitions.find({}, {"seq": 1}).to_list()
            ends = {partition["_id"]: partition["seq"] for partition in partitions}
            reached = form["reached"]
            behind = {p: seq for p, end in ends.items() if (seq := reached.get(str(p), 0)) < end}
            try:
                for partition, seq in behind.items():
                    through = min(seq + CHUNK_EVENTS, ends[partition])
                    # Keys rather than a sort: there are no holes.
                    keys = position_keys(partition, seq + 1, through)
                    after = reached | {str(partition): through}
                    await self._migrate(keys, reached, after)
                    reached = after
            except _Overtaken:
                log.debug("these events were migrated by another process")
            if ends and not behind:
                await self._database.raw["settings"].update_one(
                    {"_id": OUTCOMES_ID}, {"$set": {"migrated": True}}
                )
                log.info("the outcomes of applied updates are in their events")
        return False

    async def _migrate(self, keys: list[int], before: dict[str, int], after: dict[str, int]) -> None:
        """Migrates the events with these keys, if the progress is still as it was `before`."""

        async def write(session: AsyncClientSession) -> None:
            moved = await self._database.raw["settings"].update_one(
                {"_id": OUTCOMES_ID, "reached": before}, {"$set": {"reached": after}}, session=session
            )
            if moved.matched_count == 0:
                raise _Overtaken
            found = self._database.order_events.find({"_id": {"$in": keys}}, _FIELDS, session=session)
            await self._move_outcomes(session, await found.to_list())

        async with self._database.client.start_session() as session:
            with pymongo.timeout(WRITE_SECONDS):
                await session.with_transaction(write, write_concern=DURABLE)

    async def _move_outcomes(self, session: AsyncClientSession, events: list[EventDocument]) -> None:
        database = self._database
        keys = list({update_key(event["order_id"], event["update_id"]) for event in events})
        fields = {"fingerprint": 1, "position": 1}
        stored = await database.updates.find({"_id": {"$in": keys}}, fields, session=session).to_list()
        outcomes = {outcome["_id"]: outcome for outcome in stored}
        with_keys = database.order_events.find(
            {"update_key": {"$in": keys}}, {"update_key": 1}, session=session
        )
        holders = {event["update_key"]: event["_id"] for event in await with_keys.to_list()}
        changes = [
            change for event in _newest(events, holders) for change in _keyed(event, outcomes, holders)
        ]
        if changes:
            await database.order_events.bulk_write(changes, ordered=True, session=session)
        gone: list[Any] = [DeleteOne({"_id": key}) for key in outcomes]
        if gone:
            await database.updates.bulk_write(gone, ordered=True, session=session)


def _newest(events: list[EventDocument], holders: dict[str, int]) -> list[EventDocument]:
    """The events that get a key: of an update that took effect again after 30 days the newest one, whose
    outcome its sender knows.
    """
    newest: dict[str, EventDocument] = {}
    for event in sorted(events, key=lambda event: event["_id"]):
        key = update_key(event["order_id"], event["update_id"])
        if event["_id"] > holders.get(key, -1):
            newest[key] = event
    return list(newest.values())


def _keyed(event: EventDocument, outcomes: dict[str, Any], holders: dict[str, int]) -> list[Any]:
    key = update_key(event["order_id"], event["update_id"])
    fields = {"update_key": key}
    if key in outcomes and outcomes[key]["position"] == event["_id"]:
        fields["fingerprint"] = outcomes[key]["fingerprint"]
    changes: list[Any] = [UpdateOne({"_id": event["_id"]}, {"$set": fields})]
    if key in holders:
        without: dict[str, Any] = {"$unset": {"update_key": "", "fingerprint": ""}}
        changes.insert(0, UpdateOne({"_id": holders[key]}, without))
    return changes
