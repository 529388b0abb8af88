"""Reads and writes of held updates (collection `held`). Errors of the driver are the caller's."""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

from pymongo import DeleteOne, ReplaceOne
from pymongo.asynchronous.client_session import AsyncClientSession

from tracking_order_state.domain.decisions import Decisions
from tracking_order_state.domain.holding import MAX_WAITING_PER_SENDER
from tracking_order_state.errors import TooManyHeld
from tracking_shared.contracts.documents import HeldDocument
from tracking_shared.contracts.formats import HELD, stamped, upcast_all
from tracking_shared.storage.database import Database

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
    held = upcast_all(HELD, await found.limit(MAX_HELD_PER_BATCH + 1).to_list())
    if len(held) > MAX_HELD_PER_BATCH:
        raise TooManyHeld(f"more than {MAX_HELD_PER_BATCH} updates are held of the orders of a batch")
    return by_order(held)


def by_order(held: Iterable[HeldDocument]) -> dict[str, list[HeldDocument]]:
    """Held updates, by order id."""
    found: dict[str, list[HeldDocument]] = {}
    for one in held:
        found.setdefault(one["order_id"], []).append(one)
    return found


async def count_waiting(
    database: Database, session: AsyncClientSession, sender_keys: Collection[str]
) -> dict[str, int]:
    """The number of updates of each of these senders that are held for orders that did not exist."""
    found = database.held.find(
        {"sender_key": {"$in": [*sender_keys]}}, {"sender_key": 1}, session=session
    ).limit(MAX_WAITING_PER_SENDER * len(sender_keys))
    return Counter(one["sender_key"] for one in await found.to_list())


def holding_operations(decisions: Decisions) -> list[Any]:
    """The writes of the held updates of these decisions."""
    return [
        *(DeleteOne({"_id": name}) for name in decisions.unheld),
        *(
            ReplaceOne({"_id": name}, stamped(HELD, held), upsert=True)
            for name, held in decisions.held.items()
        ),
    ]
