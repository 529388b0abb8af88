"""A database that is restored to an earlier point, by the steps of docs/operations.md, while commands that
were accepted since wait in the broker.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
from aiohttp import ClientSession
from bson import ObjectId
from websockets.asyncio.client import connect as connect_stream

from callers import Answer, Caller, eventually, many_lives, token
from fixtures import PARTITIONS, StartService
from listeners import examine
from reading import get
from tracking.devstack.database_node import DatabaseNode
from tracking.upkeep.check import check_records
from tracking.upkeep.checker import Acknowledged
from tracking.upkeep.record_reader import read_partitions
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.storage.database import open_database

PAGE = Path(__file__).parents[2] / "docs/operations.md"


async def test_commands_in_the_broker_are_decided_once_after_the_database_was_restored(
    service_environment: dict[str, str],
    start_database: Callable[[], Awaitable[DatabaseNode]],
    start_service: StartService,
    tmp_path: Path,
) -> None:
    database = await start_database()
    service_environment |= {"MONGODB_URL": database.url, "PARTITIONS": str(PARTITIONS)}
    order_state = await start_service("order_state")
    ingest, query, notifier = [await start_service(name) for name in ("ingest", "query", "notifier")]
    async with Caller([ingest.url]) as caller, Caller([ingest.url]) as other:
        [kept] = await many_lives(caller, 1)
        assert (await _note(caller, kept)).status == 200
        load = asyncio.create_task(many_lives(caller, 20))
        told = await _back_up(database, tmp_path / "backup", caller)
        await load
        [lost] = await many_lives(other, 1)
        cursor = (await get(query.url, "/v1/events?limit=500"))["cursor"]
        await order_state.stop()
        other.acknowledged.clear()
        [queued] = await many_lives(other, 1, Prefer="respond-async")

        for service in (ingest, query, notifier):
            await service.stop()
        await _restore(database, tmp_path / "backup")
        await _change_epoch(service_environment)
        for service in (order_state, ingest, query, notifier):
            await service.start()

        await examine(service_environment, [*told, *other.acknowledged])
        history = await get(query.url, f"/v1/orders/{queued}/history")
        assert [item["version"] for item in history["items"]] == list(range(1, len(history["items"]) + 1))
        assert await _status(query.url, f"/v1/orders/{lost}") == 404
        assert await _status(query.url, f"/v1/events?after={cursor}") == 410
        assert (await _first_message(notifier.stream_url, cursor))["reason"] == "epoch-changed"
        assert (await _note(caller, kept)).headers["Idempotent-Replayed"] == "true"
        await other.live(lost)  # what was decided after the backup is sent again, with the same update ids
        await examine(service_environment, [*told, *other.acknowledged])
    await _check(service_environment)


async def _note(caller: Caller, order_id: str) -> Answer:
    body = {"kind": "note", "message": "at the gate"}
    return await caller.post(f"/v1/orders/{order_id}/checkpoints", body, Idempotency_Key="note-1")


async def _back_up(database: DatabaseNode, folder: Path, caller: Caller) -> list[Acknowledged]:
    """Copies the files of the database in the middle of the load. Returns what was answered until then."""
    so_far = len(caller.acknowledged)

    async def is_under_load() -> bool:
        return len(caller.acknowledged) >= so_far + 30

    await eventually(is_under_load)
    await database.stop()
    told = list(caller.acknowledged)
    await asyncio.to_thread(shutil.copytree, database.data, folder)
    await database.start()
    return told


async def _restore(database: DatabaseNode, folder: Path) -> None:
    await database.stop()
    await asyncio.to_thread(shutil.rmtree, database.data)
    await asyncio.to_thread(shutil.copytree, folder, database.data)
    await database.start()


async def _change_epoch(environment: dict[str, str]) -> None:
    """As the page has the operator enter it."""
    page = PAGE.read_text()
    assert "db.partitions.updateMany({}, { $set: { epoch } });" in page
    assert 'db.settings.updateOne({ _id: "partitions" }, { $set: { epoch } });' in page
    epoch = {"$set": {"epoch": str(ObjectId())}}
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        await database.partitions.update_many({}, epoch)
        await database.raw["settings"].update_one({"_id": "partitions"}, epoch)


async def _status(url: str, path: str) -> int:
    headers = {"Authorization": f"Bearer {token()}"}
    async with ClientSession() as session, session.get(url + path, headers=headers) as response:
        return response.status


async def _first_message(url: str, cursor: str) -> Any:
    subscribe = {"type": "subscribe", "token": token(), "filter": {"active": None}, "after": cursor}
    async with connect_stream(url) as socket:
        await socket.send(orjson.dumps(subscribe).decode())
        return orjson.loads(await asyncio.wait_for(socket.recv(), 20))


async def _check(environment: dict[str, str]) -> None:
    """`tracking check` finds no fault."""
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        found = await check_records(database, await read_partitions(database), DEFAULT_WORKFLOW)
    assert (found.examples, found.unsettled) == ([], 0)
