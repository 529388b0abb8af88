"""The broker, the database and ingest killed in the middle of a load."""

import asyncio
from collections.abc import Awaitable, Callable

from callers import Caller, many_lives
from fixtures import StartService
from listeners import examine
from tracking.devstack.broker_node import BrokerNode
from tracking.devstack.database_node import DatabaseNode

LIVES = 60


async def test_the_broker_killed_and_restarted_under_load(
    service_environment: dict[str, str],
    start_broker: Callable[[], Awaitable[BrokerNode]],
    start_service: StartService,
) -> None:
    broker = await start_broker()
    service_environment |= {"AMQP_URL": broker.url, "PARTITIONS": "4"}
    ingest = await start_service("ingest")
    await start_service("order_state")
    # A quorum queue of RabbitMQ 3.10 that is killed in its first second breaks for good, and loses what
    # it had confirmed; once it has been through a clean stop it does not.
    await broker.stop()
    await broker.start()
    async with Caller([ingest.url]) as caller:
        await many_lives(caller, 4)
        lives = asyncio.create_task(many_lives(caller, LIVES))
        await some_acknowledged(caller)
        await broker.kill()
        await broker.start()
        await lives
        await examine(service_environment, caller.acknowledged)


async def test_the_database_killed_and_restarted_under_load(
    service_environment: dict[str, str],
    start_database: Callable[[], Awaitable[DatabaseNode]],
    start_service: StartService,
) -> None:
    database = await start_database()
    service_environment |= {"MONGODB_URL": database.url, "PARTITIONS": "4"}
    ingest = await start_service("ingest")
    await start_service("order_state")
    async with Caller([ingest.url]) as caller:
        lives = asyncio.create_task(many_lives(caller, LIVES))
        await some_acknowledged(caller)
        await database.kill()
        await database.start()
        await lives
        await examine(service_environment, caller.acknowledged)


async def test_ingest_killed_while_callers_wait_and_repeat(
    service_environment: dict[str, str], start_service: StartService
) -> None:
    service_environment["PARTITIONS"] = "4"
    ingest = await start_service("ingest")
    await start_service("order_state")
    async with Caller([ingest.url]) as caller:
        lives = asyncio.create_task(many_lives(caller, LIVES))
        for _ in range(3):
            await some_acknowledged(caller)
            await ingest.kill()
            await ingest.start()
        await lives
        await examine(service_environment, caller.acknowledged)


async def test_accepted_updates_of_a_load_without_order_state_are_applied_when_it_comes(
    service_environment: dict[str, str], start_service: StartService
) -> None:
    service_environment["PARTITIONS"] = "4"
    ingest = await start_service("ingest")
    async with Caller([ingest.url]) as caller:
        await many_lives(caller, 20, Prefer="respond-async")
        assert {told.outcome for told in caller.acknowledged} == {"accepted"}
        await start_service("order_state")
        await examine(service_environment, caller.acknowledged)


async def some_acknowledged(caller: Caller, number: int = 25) -> None:
    """Returns when so many more have been answered."""
    goal = len(caller.acknowledged) + number
    async with asyncio.timeout(30):
        while len(caller.acknowledged) < goal:  # noqa: ASYNC110 - the list has no event to wait for
            await asyncio.sleep(0.01)
