"""order-state killed, frozen and stopped at each step: nothing lost, twice, reordered or unsaid."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from callers import LIFE, Answer, Caller, eventually, many_lives, token
from fixtures import StartService
from listeners import examine, listening, waiting
from statements.recording import with_recording
from stored_outcomes import stored_outcomes
from tracking.devstack.service_process import PORT_VARIABLES, ServiceProcess
from tracking.upkeep.checker import Acknowledged, find_faults
from tracking.upkeep.record_reader import read_records
from tracking_shared.contracts.commands import ReleaseOrder, decode_commands
from tracking_shared.messaging.connection import connect
from tracking_shared.storage.database import open_database

PARTITIONS = "4"
HERE = str(Path(__file__).parent.parent)

STEPS = ("before-commit", "in-transaction", "committed", "after-commit", "after-announce")
"""Of a pass, in their order: see `faulty_order_state`."""


@pytest.fixture
def environment(service_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Short heartbeats, so that a frozen process is noticed soon; the faulty module can be started."""
    monkeypatch.setitem(PORT_VARIABLES, "faulty_order_state", "ORDER_STATE_PORT")
    service_environment["AMQP_URL"] += "?heartbeat=1"
    service_environment |= {
        "PARTITIONS": PARTITIONS,
        "PYTHONPATH": with_recording(HERE),
        "REBALANCE_SECONDS": "2",
    }
    return service_environment


async def written(environment: dict[str, str]) -> tuple[int, int, int]:
    """How many events and outcomes there are, and the sum of the positions."""
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        return (
            await database.order_events.count_documents({}),
            len(await stored_outcomes(database)),
            sum([partition["seq"] async for partition in database.partitions.find({})]),
        )


NOTICED = {
    "before-commit": ("gave up partition",),
    "in-transaction": ("gave up partition",),
    "after-commit": ("broker away", "gave up partition"),
}
"""The log lines of a frozen one that finds out that it does not own the partition any more: by the fence of
the transaction that it resumes; after its commit by its dead connection, or the fence of its next one."""


async def has_noticed(frozen: ServiceProcess, step: str) -> bool:
    text = await asyncio.to_thread(frozen.log_path.read_text)
    return any(line in text for line in NOTICED[step])


@pytest.mark.parametrize("step", STEPS)
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


@pytest.mark.parametrize("step", STEPS)
async def test_killed_while_outcomes_of_a_stranger_give_way_the_next_one_carries_on(
    step: str, environment: dict[str, str], start_service: StartService
) -> None:
    orders = [uuid4().hex for _ in range(12)]
    names = [name for order_id in orders for name in names_of(order_id)]
    async with listening(environment["AMQP_URL"], int(PARTITIONS)) as announced:
        ingest = await start_service("ingest")
        first = await start_service("order_state")
        async with Caller([ingest.url]) as caller:
            refused = await report_before_there_are_orders(caller, orders)
            assert {line["problem"]["type"] for line in refused.body["results"]} == {
                "/problems/order-not-found"
            }
            await first.stop()
            assert await senders(environment) == dict.fromkeys(names, "stranger")
            faulty = await start_service("faulty_order_state", FAULT=f"kill:{step}")
            lives = asyncio.create_task(live_at_once(caller, orders))
            await faulty.process.wait()
            assert await faults_left_behind(environment) == []
            await start_service("order_state")
            await lives
        await examine(environment, caller.acknowledged, announced)
        assert await senders(environment) == dict.fromkeys(names, "caller")


def names_of(order_id: str) -> list[str]:
    """The update ids of an order's life."""
    return [f"{order_id}.create", *(f"{order_id}.{number}" for number in range(len(LIFE)))]


async def report_before_there_are_orders(caller: Caller, orders: list[str]) -> Answer:
    """A stranger takes every update id of orders that are not there yet."""
    lines = [
        {"op": "update", "order_id": order_id, "update_id": name, "status": "picked_up"}
        for order_id in orders
        for name in names_of(order_id)
    ]
    bearer = token(sub="stranger", merchants=["nobodys"])
    return await caller.post("/v1/batch", lines, bearer=bearer, Prefer="wait=10")


async def live_at_once(caller: Caller, orders: list[str]) -> None:
    """Takes the orders through a life each, all in one request: legal and illegal steps share a pass."""
    customer = {"name": "Ada Lovelace", "contact_ref": "crm-1"}
    lines: list[dict[str, Any]] = []
    for order_id in orders:
        create = {"op": "create", "order_id": order_id, "merchant_id": "m-1", "customer": customer}
        steps = [{"op": "update", "order_id": order_id, "status": status} for status in LIFE]
        named = zip([create, *steps], names_of(order_id), strict=True)
        lines += [line | {"update_id": name} for line, name in named]
    answer = await caller.post("/v1/batch", lines, Prefer="wait=10")
    for line in answer.body["results"]:
        slug = line["problem"]["type"].rsplit("/", 1)[1] if "problem" in line else None
        caller.acknowledged.append(
            Acknowledged(line["order_id"], line["update_id"], line["outcome"], line.get("version"), slug)
        )


async def senders(environment: dict[str, str]) -> dict[str, str]:
    """Whose update each stored outcome is."""
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        outcomes = await stored_outcomes(database)
        return {outcome["update_id"]: outcome["source"]["id"] for outcome in outcomes.values()}


async def faults_left_behind(environment: dict[str, str]) -> list[str]:
    """What contradicts itself in the database while nobody writes."""
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        return find_faults(await read_records(database))


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


@pytest.mark.parametrize("step", STEPS)
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
        return {outcome["update_id"] for outcome in (await stored_outcomes(database)).values()}


async def waiting_updates(environment: dict[str, str]) -> set[str]:
    """The updates that are in the queues, beside the requests that claim a partition."""
    async with connect(environment["AMQP_URL"], "tap") as connection:
        bodies = [body for p in range(int(PARTITIONS)) for body in await waiting(connection, p)]
    commands = [command for body in bodies for command in decode_commands(body)]
    return {command.update_id for command in commands if not isinstance(command, ReleaseOrder)}
