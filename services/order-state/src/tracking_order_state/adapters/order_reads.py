"""Reads for the cache of orders. Errors of the driver are the caller's."""

import asyncio
from collections.abc import Awaitable, Collection
from typing import TypeVar

from pymongo.asynchronous.client_session import AsyncClientSession

from tracking_order_state.domain.remembered_orders import MAX_IDS
from tracking_shared.contracts.documents import OrderDocument
from tracking_shared.contracts.formats import ORDERS, upcast_all
from tracking_shared.storage.database import Database

MAX_LISTED = 1_000
"""Refused update ids that are listed at once. Where there are more, they are looked up one by one."""

A = TypeVar("A")
B = TypeVar("B")


async def read_orders(
    database: Database, session: AsyncClientSession, order_ids: Collection[str]
) -> dict[str, OrderDocument]:
    """The documents of these orders, by their ids."""
    if not order_ids:
        return {}
    found = database.orders.find({"_id": {"$in": [*order_ids]}}, session=session)
    return {order["_id"]: order for order in upcast_all(ORDERS, await found.to_list())}


async def list_refused(
    database: Database, session: AsyncClientSession, order_ids: Collection[str]
) -> dict[str, list[str]]:
    """The refused update ids of each of these orders. Where they are too many, only the orders that have more
    than `MAX_IDS` are in it.
    """
    fields = {"order_id": 1, "update_id": 1}
    found = database.updates.find({"order_id": {"$in": [*order_ids]}}, fields, session=session)
    listed = await found.limit(MAX_LISTED + 1).to_list()
    refused: dict[str, list[str]] = {order_id: [] for order_id in order_ids}
    for update in listed:
        refused[update["order_id"]].append(update["update_id"])
    if len(listed) <= MAX_LISTED:
        return refused
    return {order_id: ids for order_id, ids in refused.items() if len(ids) > MAX_IDS}


async def await_both(first: Awaitable[A], second: Awaitable[B]) -> tuple[A, B]:
    """Awaits both and returns both results. If one fails, the other has ended too: both sessions are free."""
    one, other = await asyncio.gather(first, second, return_exceptions=True)
    if isinstance(one, BaseException):
        raise one
    if isinstance(other, BaseException):
        raise other
    return one, other
