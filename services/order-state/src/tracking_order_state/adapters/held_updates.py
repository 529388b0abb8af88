"""Reads and writes of held updates (collection `held`). Errors of the driver are the caller's, except in
`EndedHolds`.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from pymongo import DeleteOne, ReplaceOne
from pymongo.asynchronous.client_session import AsyncClientSession

from tracking_order_state.adapters.due_orders import database_time
from tracking_order_state.domain.decisions import Decisions
from tracking_order_state.domain.holding import MAX_WAITING_PER_SENDER
from tracking_order_state.errors import TooManyHeld
from tracking_shared.contracts.documents import HeldDocument, due_key
from tracking_shared.contracts.timestamps import UNIX_EPOCH
from tracking_shared.storage.database import Database
from tracking_shared.storage.reads import bounded_read

MAX_HELD_PER_BATCH = 2_000
"""Held updates of the orders of one batch: each of them may be applied in its transaction."""


async def read_held(
    database: Database, session: AsyncClientSession, order_ids: Collection[str]
) -> dict[str, list[HeldDocument]]:
    """The held updates of these orders, by order id.

    Raises:
        TooManyHeld: they are more than one transaction should apply.
    """
    found = database.held.find({"order_id": {"$in": [*order_ids]}}, session=session)
    held = await found.limit(MAX_HELD_PER_BATCH + 1).to_list()
    if len(held) > MAX_HELD_PER_BATCH:
        raise TooManyHeld(f"more than {MAX_HELD_PER_BATCH} updates are held of the orders of a batch")
    return by_order(held)


async def read_held_by_id(
    database: Database, session: AsyncClientSession, ids: Collection[str]
) -> dict[str, list[HeldDocument]]:
    """Those of these updates that are held, by order id."""
    return by_order(await database.held.find({"_id": {"$in": [*ids]}}, session=session).to_list())


def by_order(held: Iterable[HeldDocument]) -> dict[str, list[HeldDocument]]:
    """Held updates, by order id."""
    found: dict[str, list[HeldDocument]] = {}
    for one in held:
        found.setdefault(one["order_id"], []).append(one)
    return found


async def count_waiting(
    database: Database, session: AsyncClientSession, sender_keys: Collection[str]
) -> dict[str, int]:
    """How many updates of each of these senders are held for orders that did not exist."""
    found = database.held.find(
        {"sender_key": {"$in": [*sender_keys]}}, {"sender_key": 1}, session=session
    ).limit(MAX_WAITING_PER_SENDER * len(sender_keys))
    return Counter(one["sender_key"] for one in await found.to_list())


def holding_operations(decisions: Decisions) -> list[Any]:
    """The writes of the held updates of these decisions."""
    return [
        *(DeleteOne({"_id": name}) for name in decisions.unheld),
        *(ReplaceOne({"_id": name}, held, upsert=True) for name, held in decisions.held.items()),
    ]


class EndedHolds:
    """Looks for held updates whose time is over. What it finds is a hint: whoever decides them reads them
    again.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def time(self) -> datetime:
        """The time by which the time of an update is over or not: that of the database.

        Raises:
            DatabaseUnavailable: no answer.
        """
        return await database_time(self._database)

    async def find(self, partition: int, now: datetime, limit: int) -> list[str]:
        """The `_id` of at most `limit` held updates of a partition whose time was over at `now` or before,
        the earliest first.

        Raises:
            DatabaseUnavailable: no answer.
        """
        keys = {"$gte": due_key(partition, UNIX_EPOCH), "$lte": due_key(partition, now)}
        with bounded_read():
            found = self._database.held.find({"held_key": keys}, {"_id": 1}, sort=[("held_key", 1)])
            return [held["_id"] for held in await found.limit(limit).to_list()]
