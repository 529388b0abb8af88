"""Two replicas of order-state share, take over and give back; what is set up wrongly refuses to start."""

import asyncio
from collections.abc import Awaitable, Callable

from callers import Caller, eventually, many_lives
from fixtures import StartService
from listeners import examine, listening
from tracking.devstack.service_process import ServiceProcess
from tracking_shared.storage.database import open_database


async def owners(environment: dict[str, str]) -> dict[int, str]:
    """Which worker has claimed which partition."""
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        return {p["_id"]: p["worker"] async for p in database.partitions.find({})}


async def test_replicas_share_take_over_and_give_back(
    service_environment: dict[str, str], start_service: StartService
) -> None:
    environment = service_environment
    environment |= {
        "PARTITIONS": "4",
        "REPLICA_COUNT": "2",
        "REBALANCE_SECONDS": "1",
        "STANDBY_DELAY_SECONDS": "1",
    }
    first = await start_service("order_state", REPLICA_ORDINAL="0")
    ingest = await start_service("ingest")

    async with listening(environment["AMQP_URL"], 4) as announced, Caller([ingest.url]) as caller:

        async def owned_by_first() -> list[int]:
            await many_lives(caller, 8)
            claimed = await owners(environment)
            return sorted(partition for partition, worker in claimed.items() if worker in workers_of_first)

        await many_lives(caller, 24)
        workers_of_first = set((await owners(environment)).values())
        second = await start_service("order_state", REPLICA_ORDINAL="1")
        await eventually(is_(owned_by_first, [0, 2]))
        await second.kill()
        await eventually(is_(owned_by_first, [0, 1, 2, 3]))
        await second.start()
        await eventually(is_(owned_by_first, [0, 2]))
        await first.stop()
        await many_lives(caller, 8)
        await eventually(is_(owned_by_first, []))
        await examine(environment, caller.acknowledged, announced)


def is_(question: Callable[[], Awaitable[list[int]]], expected: list[int]) -> Callable[[], Awaitable[bool]]:
    """Whether the answer is the expected one."""

    async def holds() -> bool:
        return await question() == expected

    return holds


async def ends_with(service: ServiceProcess, code: int, line: str) -> None:
    """Fails unless the process ends with this code and a last line that says why, and with no more words."""
    assert await asyncio.wait_for(service.process.wait(), 30) == code
    assert line in service.process.last_line()
    assert "Traceback" not in service.log_path.read_text()


async def test_another_partition_count_than_the_stored_one_is_refused(
    service_environment: dict[str, str], start_service: StartService
) -> None:
    await start_service("order_state", PARTITIONS="4")
    for module in ("order_state", "ingest", "query", "notifier"):
        service = await start_service(module, wait=False, PARTITIONS="6")
        await ends_with(service, 78, "PARTITIONS: the database was set up with 4")


async def test_an_ingest_that_was_there_first_with_another_partition_count_does_not_stay(
    start_service: StartService,
) -> None:
    ingest = await start_service("ingest", PARTITIONS="6")
    await start_service("order_state", PARTITIONS="4")
    await ends_with(ingest, 78, "PARTITIONS: the database was set up with 4")


async def test_a_short_secret_is_refused(start_service: StartService) -> None:
    for module in ("order_state", "ingest", "query", "notifier"):
        service = await start_service(module, wait=False, JWT_SECRET="short")
        await ends_with(service, 78, "JWT_SECRET: has 5 bytes, needs 32 or more")


async def test_an_address_under_which_decisions_would_be_read_from_a_secondary_is_refused(
    service_environment: dict[str, str], start_service: StartService
) -> None:
    url = service_environment["MONGODB_URL"] + "&readPreference=secondaryPreferred"
    services = [
        await start_service(module, wait=False, MONGODB_URL=url)
        for module in ("order_state", "ingest", "query", "notifier")
    ]
    for service in services:
        await ends_with(service, 78, "MONGODB_URL: readPreference: leave it out")
