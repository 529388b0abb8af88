"""A change of the number of partitions that is cancelled, or that is followed by the restore of a backup."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from bson import ObjectId
from repartition_changes import OPERATOR, changed, layout, partitions_of, settings

from callers import Caller, eventually, many_lives
from fixtures import PARTITIONS, StartService
from listeners import examine
from tracking.upkeep.repartition import NotRepartitioned, cancel_repartition
from tracking_ingest.submission.routing import StoredRouting
from tracking_shared.contracts.layout import Layout, Routing
from tracking_shared.storage.database import open_database

Copy = Mapping[str, list[dict[str, Any]]]


@pytest.fixture
async def environment(mongodb_url: str, database_name: str) -> dict[str, str]:
    """A database that is set up, without a service."""
    async with open_database(mongodb_url, database_name) as database:
        await database.prepare(PARTITIONS)
    return {"MONGODB_URL": mongodb_url, "MONGODB_DATABASE": database_name}


async def cancelled(environment: Mapping[str, str]) -> str:
    """The answer of the command."""
    return await cancel_repartition(environment["MONGODB_URL"], environment["MONGODB_DATABASE"], OPERATOR)


async def audited(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """The actions of the operator, and their subjects."""
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        entries = await database.audit.find({}).to_list()
    return [(one["action"], one["subject"]) for one in sorted(entries, key=lambda one: one["_id"])]


async def test_a_change_that_waits_is_cancelled(environment: dict[str, str]) -> None:
    with pytest.raises(NotRepartitioned, match="no change of the number of partitions is under way"):
        await cancelled(environment)
    change = asyncio.create_task(changed(environment, 16))
    await eventually(lambda: is_under_way(environment))
    with pytest.raises(NotRepartitioned, match="a change to 16 partitions is under way"):
        await changed(environment, 8)
    assert await cancelled(environment) == "the change to 16 partitions is cancelled"
    with pytest.raises(NotRepartitioned, match="the change was cancelled"):
        await change
    assert await layout(environment) == Layout((PARTITIONS,))
    asked, taken_back = ("partitions.changed", "16"), ("partitions.cancelled", "16")
    assert [entry for entry in await audited(environment) if entry[1] == "16"] == [asked, taken_back]


@pytest.mark.parametrize("phase", ["fenced", "decided"])
async def test_a_change_that_has_begun_is_not_cancelled(phase: str, environment: dict[str, str]) -> None:
    switch = {"count": 16, "phase": phase, "attempt": 1}
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        await database.raw["settings"].update_one({"_id": "partitions"}, {"$set": {"switch": switch}})
    with pytest.raises(NotRepartitioned, match="has begun; wait for its end"):
        await cancelled(environment)
    assert (await settings(environment))["switch"] == switch


async def test_the_routing_is_read_as_of_now_and_orders_of_all_generations_are_found(
    environment: dict[str, str],
) -> None:
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        stored = StoredRouting(database)
        before = await stored.read()
        assert before == Routing(Layout((PARTITIONS,)))
        assert await stored.is_current(before)
        assert await stored.homes(before.layout, ["o-1"]) == {}
        changes = {"$set": {"counts": [PARTITIONS, 2], "count": 0, "route": 1}}
        await database.raw["settings"].update_one({"_id": "partitions"}, changes)
        assert not await stored.is_current(before)
        after = await stored.read()
        assert after == Routing(Layout((PARTITIONS, 2)), 1)
        await database.order_homes.insert_one({"_id": "o-1", "partition": 3})
        assert await stored.homes(after.layout, ["o-1", "o-2"]) == {"o-1": 3}


async def is_under_way(environment: dict[str, str]) -> bool:
    """True once a change was asked for."""
    return "switch" in await settings(environment)


@pytest.mark.slow
async def test_after_the_restore_of_a_backup_from_before_a_change_the_same_change_decides_what_waits(
    service_environment: dict[str, str], start_service: StartService
) -> None:
    environment = service_environment
    environment["PARTITIONS"] = str(PARTITIONS)
    order_state, ingest = [await start_service(name) for name in ("order_state", "ingest")]
    async with Caller([ingest.url]) as caller, Caller([ingest.url]) as later:
        old = await many_lives(caller, 4)
        backup = await copied(environment)
        await changed(environment, 6)
        await order_state.stop()
        queued = await many_lives(later, 4, Prefer="respond-async")
        await ingest.stop()
        await restored(environment, backup)
        for service in (order_state, ingest):
            await service.start()

        assert await layout(environment) == Layout((PARTITIONS,))
        between = await many_lives(caller, 4)
        assert await partitions_of(environment, [*old, *between]) <= set(range(PARTITIONS))
        assert await partitions_of(environment, queued) == set()
        await changed(environment, 6)
        await examine(environment, [*caller.acknowledged, *later.acknowledged])
        assert await partitions_of(environment, queued) <= set(range(PARTITIONS, PARTITIONS + 6))
        assert await newest(environment, queued) == await newest(environment, old)


async def newest(environment: Mapping[str, str], order_ids: list[str]) -> list[int]:
    """The versions of these orders: they have had the same life."""
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        found = await database.orders.find({"_id": {"$in": order_ids}}).to_list()
    return sorted(order["version"] for order in found)


async def copied(environment: Mapping[str, str]) -> Copy:
    """A copy of all documents, while nothing changes them."""
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        names = await database.raw.list_collection_names()
        return {name: await database.raw[name].find({}).to_list() for name in names}


async def restored(environment: Mapping[str, str], backup: Copy) -> None:
    """The documents are as they were, with another epoch of the log, as docs/operations.md has it."""
    epoch = {"$set": {"epoch": str(ObjectId())}}
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        for name in await database.raw.list_collection_names():
            await database.raw[name].delete_many({})
            if documents := backup.get(name):
                await database.raw[name].insert_many(documents)
        await database.partitions.update_many({}, epoch)
        await database.raw["settings"].update_one({"_id": "partitions"}, epoch)
