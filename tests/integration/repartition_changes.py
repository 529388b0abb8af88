"""Asks for another number of partitions, and looks at what came of it."""

from collections.abc import Iterable
from typing import Any

from tracking.upkeep.repartition import repartition
from tracking_shared.contracts.layout import Layout, layout_of
from tracking_shared.storage.audit_trail import Actor
from tracking_shared.storage.database import open_database

OPERATOR = Actor("operator", "command-line")


async def changed(environment: dict[str, str], count: int) -> str:
    """The answer of the command."""
    lines: list[str] = []
    url, name = environment["MONGODB_URL"], environment["MONGODB_DATABASE"]
    return await repartition(url, name, count, OPERATOR, lines.append)


async def settings(environment: dict[str, str]) -> dict[str, Any]:
    """The stored settings of the partitions."""
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        found: dict[str, Any] | None = await database.raw["settings"].find_one({"_id": "partitions"})
        assert found is not None
        return found


async def layout(environment: dict[str, str]) -> Layout:
    """The stored layout."""
    return layout_of(await settings(environment))


async def partitions_of(environment: dict[str, str], order_ids: Iterable[str]) -> set[int]:
    """The partitions of these orders."""
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        named = {"_id": {"$in": list(order_ids)}}
        found = await database.orders.find(named, {"partition": 1}).to_list()
        return {order["partition"] for order in found}
