"""Setting a database up: by many at once, and over as many documents as there are."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientSession
from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from callers import eventually
from fixtures import PARTITIONS, StartService
from tracking.devstack.service_process import ServiceProcess
from tracking_shared.storage.database import INDEXES, OPERATION_TIMEOUT_MS, Database, open_database
from wire_tap import tap_database

BOUND_SECONDS = 5.0
"""Of a call, here."""

BUILDING = "building the indexes of orders, which may take minutes"


class SlowBuilds(CommandListener):
    """Makes the first build of indexes take longer than any other call may."""

    def __init__(self) -> None:
        self.bounds: set[str] = set()
        """What the calls tell the server of how long they may take."""

    def started(self, event: CommandStartedEvent) -> None:
        """The driver waits for it."""
        if event.command_name == "createIndexes":
            if not self.bounds:
                time.sleep(BOUND_SECONDS + 0.2)
            self.bounds.add(str(event.command.get("maxTimeMS", "none")))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Nothing."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing."""


@asynccontextmanager
async def slow_database(url: str, name: str, builds: SlowBuilds) -> AsyncIterator[Database]:
    """A database whose calls are bounded as in production, only sooner."""
    client: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(
        url, timeoutMS=int(BOUND_SECONDS * 1000), event_listeners=[builds]
    )
    try:
        yield Database(client, name)
    finally:
        await client.close()


async def test_indexes_are_built_however_long_that_takes(
    mongodb_url: str, database_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    builds = SlowBuilds()
    async with slow_database(mongodb_url, database_name, builds) as database:
        with caplog.at_level(logging.INFO):
            await database.prepare(PARTITIONS)
        assert builds.bounds == {"none"}
        present = await database.raw["orders"].index_information()
        assert present.keys() > {index.document["name"] for index in INDEXES["orders"]}
        told = [
            record.getMessage()
            for record in caplog.records
            if record.name == "tracking_shared.storage.database"
        ]
        assert told == [BUILDING]

        caplog.clear()
        with caplog.at_level(logging.INFO):
            await database.prepare(PARTITIONS)
        assert not caplog.records


async def test_order_state_is_not_ready_while_indexes_are_built_and_does_not_begin_again(
    service_environment: dict[str, str], start_service: StartService
) -> None:
    async with tap_database(service_environment["MONGODB_URL"]) as tap:
        built = tap.held["createIndexes"] = asyncio.Event()
        order_state = await start_service("order_state", wait=False, MONGODB_URL=tap.url)

        async def is_building() -> bool:
            return order_state.log_path.exists() and BUILDING in order_state.log_path.read_text()

        await eventually(is_building)
        assert await failing(order_state) == {
            "database": "DatabaseUnavailable",
            "broker": "BrokerUnavailable",
        }
        asyncio.get_running_loop().call_later(OPERATION_TIMEOUT_MS / 1000, built.set)
        await order_state.start()
        assert await failing(order_state) == {}
    builds = [command["createIndexes"] for command in tap.commands if "createIndexes" in command]
    assert builds == [name for name, indexes in INDEXES.items() if indexes]


async def test_an_index_is_there_when_a_majority_has_built_it_and_a_member_that_is_down_is_not_waited_for(
    mongodb_url: str, database_name: str
) -> None:
    async with tap_database(mongodb_url) as tap, open_database(tap.url, database_name) as database:
        await database.prepare(PARTITIONS)
        quorums = {command["commitQuorum"] for command in tap.commands if "createIndexes" in command}
        assert quorums == {"majority"}


async def failing(service: ServiceProcess) -> dict[str, str]:
    """What `/readyz` says is away."""
    async with ClientSession() as session, session.get(f"{service.url}/readyz") as response:
        found: dict[str, str] = (await response.json())["failing"]
        assert (response.status == 503) == bool(found)
        return found


async def test_many_set_up_the_same_database_at_once(mongodb_url: str, database_name: str) -> None:
    async def prepare() -> None:
        async with open_database(mongodb_url, database_name) as database:
            await database.prepare(PARTITIONS)

    await asyncio.gather(*(prepare() for _ in range(8)))

    async with open_database(mongodb_url, database_name) as database:
        assert set(await database.raw.list_collection_names()) == INDEXES.keys()
        assert await database.partitions.count_documents({}) == PARTITIONS
