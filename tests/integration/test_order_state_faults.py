"""order-state killed, frozen and stopped at each step: nothing lost, twice, reordered or unsaid."""

import asyncio
from pathlib import Path

import pytest

from callers import Caller, eventually, many_lives
from fixtures import StartService
from listeners import examine, listening, waiting
from shared.broker import connect
from shared.commands import decode_commands
from shared.database import open_database
from tracking.service_process import PORT_VARIABLES, ServiceProcess

PARTITIONS = "4"
HERE = str(Path(__file__).parent.parent)


@pytest.fixture
def environment(service_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Short heartbeats, so that a frozen process is noticed soon; the faulty module can be started."""
    monkeypatch.setitem(PORT_VARIABLES, "faulty_order_state", "ORDER_STATE_PORT")
    service_environment["AMQP_URL"] += "?heartbeat=1"
    service_environment |= {"PARTITIONS": PARTITIONS, "PYTHONPATH": HERE, "REBALANCE_SECONDS": "2"}
    return service_environment


async def written(environment: dict[str, str]) -> tuple[int, int, int]:
    """How many events and outcomes there are, and the sum of the positions."""
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        return (
            await database.order_events.count_documents({}),
            await database.updates.count_documents({}),
            sum([partition["seq"] async for partition in database.partitions.find({})]),
        )


NOTICED = {
    "before-commit": "gave up partition",
    "in-transaction": "gave up partition",
    "after-commit": "broker away",
}
"""How a frozen one finds out that it is not the one any more: by the fence, or by its dead connection."""


async def has_noticed(frozen: ServiceProcess, step: str) -> bool:
    return NOTICED[step] in await asyncio.to_thread(frozen.log_path.read_text)


@pytest.mark.parametrize("step", ["before-commit", "in-transaction", "after-commit", "after-announce"])
async def test_killed_at_a_step_the_next_one_carries_on(
    step: str, environment: dict[str, str], start_service: StartService
) -> None:
    async with listening(environment["AMQP_URL"], int(PARTITIONS)) as announced:
        ingest = await start_service("ingest")
        faulty = await start_service("faulty_order_state", FAULT=f"kill:{step}")
        async with Caller([ingest.url]) as caller:
            lives = asyncio.create_task(many_lives(caller, 12))
            await faulty.process.wait()
            await start_service("order_state")
            await lives
        await examine(environment, caller.acknowledged, announced)


@pytest.mark.parametrize("step", NOTICED)
async def test_frozen_until_a_standby_took_over_it_writes_nothing_any_more(
    step: str, environment: dict[str, str], start_service: StartService
) -> None:
    async with listening(environment["AMQP_URL"], int(PARTITIONS)) as announced:
        ingest = await start_service("ingest")
        frozen = await start_service("faulty_order_state", FAULT=f"freeze:{step}")
        await start_service("order_state", REPLICA_ORDINAL="1", REPLICA_COUNT="2")
        async with Caller([ingest.url]) as caller:
            await many_lives(caller, 12)
            before = await written(environment)
            frozen.resume()
            await eventually(lambda: has_noticed(frozen, step))
            assert await written(environment) == before
            await many_lives(caller, 4)
        await examine(environment, caller.acknowledged, announced)


@pytest.mark.parametrize("step", ["before-commit", "in-transaction", "after-commit", "after-announce"])
async def test_told_to_stop_it_finishes_what_it_has_begun(
    step: str, environment: dict[str, str], start_service: StartService
) -> None:
    async with listening(environment["AMQP_URL"], int(PARTITIONS)) as announced:
        ingest = await start_service("ingest")
        stopping = await start_service("faulty_order_state", FAULT=f"stop:{step}")
        async with Caller([ingest.url]) as caller:
            lives = asyncio.create_task(many_lives(caller, 12))
            assert await stopping.process.wait() == 0
            decided, waiting_ids = await outcomes(environment), await waiting_updates(environment)
            assert decided
            assert not decided & waiting_ids, "decided, and left for the next one to find that out"
            await start_service("order_state")
            await lives
        await examine(environment, caller.acknowledged, announced)


async def outcomes(environment: dict[str, str]) -> set[str]:
    """The updates whose outcome is stored."""
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        return {update["update_id"] async for update in database.updates.find({})}


async def waiting_updates(environment: dict[str, str]) -> set[str]:
    """The updates that are in the queues."""
    async with connect(environment["AMQP_URL"], "tap") as connection:
        bodies = [body for p in range(int(PARTITIONS)) for body in await waiting(connection, p)]
    return {command.update_id for body in bodies for command in decode_commands(body)}
