"""Finds the homes of orders: the partitions in which they are, once there are several generations of them."""

from collections.abc import Collection

from pymongo.asynchronous.client_session import AsyncClientSession

from tracking_shared.contracts.layout import Layout
from tracking_shared.storage.database import Database
from tracking_shared.storage.reads import bounded_read

HOME = {"partition": 1}


async def find_homes(
    database: Database,
    layout: Layout,
    order_ids: Collection[str],
    session: AsyncClientSession | None = None,
) -> dict[str, int]:
    """The homes of those of these orders that have one. All others are new, and belong to the newest
    generation.

    Raises:
        DatabaseUnavailable: no answer, or not in time.
    """
    if layout.generation == 0 or not order_ids:
        return {}
    homes: dict[str, int] = {}
    # In this order: an order that is archived meanwhile is found in the second one, and one that is restored
    # in the last one, where the restore has noted it.
    for name in ("orders", "archived_orders", "order_homes"):
        if missing := sorted(set(order_ids) - homes.keys()):
            with bounded_read():
                found = (
                    await database.raw[name].find({"_id": {"$in": missing}}, HOME, session=session).to_list()
                )
            homes |= {one["_id"]: one["partition"] for one in found}
    return homes
