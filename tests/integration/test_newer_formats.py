"""Documents and messages of a later release: who cannot read them waits, and everybody else goes on."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import ClientSession

from builders import create_command, update_command
from callers import Caller, eventually, token
from fixtures import PARTITIONS, Spine, StartService
from listeners import examine
from statements.recording import with_recording
from tracking.devstack.service_process import PORT_VARIABLES, ServiceProcess
from tracking_shared.contracts.commands import (
    COMMANDS_MEDIA_TYPE,
    AnyCommand,
    encode_command,
    join_commands,
)
from tracking_shared.contracts.formats import FORMAT
from tracking_shared.contracts.identifiers import partition_of
from tracking_shared.contracts.timestamps import now
from tracking_shared.messaging.connection import connect
from tracking_shared.messaging.topology import COMMANDS_EXCHANGE, DEAD_QUEUE, routing_key
from tracking_shared.storage.database import open_database

HERE = str(Path(__file__).parent.parent)

Send = Callable[..., Awaitable[None]]


@pytest.fixture
def environment(service_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An order-state of a later release can be started."""
    monkeypatch.setitem(PORT_VARIABLES, "later_order_state", "ORDER_STATE_PORT")
    service_environment |= {"PARTITIONS": str(PARTITIONS), "PYTHONPATH": with_recording(HERE)}
    return service_environment


async def send(environment: dict[str, str], *commands: AnyCommand, version: object = None) -> None:
    """One message, in the format that it says."""
    partition = partition_of(commands[0].order_id, PARTITIONS)
    async with connect(environment["AMQP_URL"], "sender") as connection:
        publisher = await connection.publisher(COMMANDS_EXCHANGE)
        await publisher.publish(
            routing_key(partition),
            join_commands([encode_command(command) for command in commands]),
            content_type=COMMANDS_MEDIA_TYPE,
            headers=None if version is None else {FORMAT: version},
        )


async def read(service: ServiceProcess, path: str) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {token()}"}
    async with ClientSession(headers=headers) as session, session.get(service.url + path) as response:
        return response.status, await response.text()


async def metric(service: ServiceProcess, name: str) -> float:
    _, text = await read(service, "/metrics")
    return float(next((line.split()[-1] for line in text.splitlines() if line.startswith(name + " ")), 0))


async def statuses(environment: dict[str, str], order_id: str) -> list[str]:
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        events = await database.order_events.find({"order_id": order_id}).sort("version").to_list()
        return [event["status"] for event in events]


def order_in(partition: int) -> str:
    names = (uuid4().hex for _ in range(10_000))
    return next(name for name in names if partition_of(name, PARTITIONS) == partition)


async def test_a_partition_waits_for_a_later_release_and_all_others_go_on(
    environment: dict[str, str], start_service: StartService
) -> None:
    order_state = await start_service("order_state", name="present")
    ingest = await start_service("ingest")
    order_id, other = order_in(0), order_in(0)
    waits = 'tracking_waits_for_upgrade{partition="0"}'

    async def is_waiting() -> bool:
        return await metric(order_state, waits) == 1

    async def is_created() -> bool:
        return await statuses(environment, order_id) == ["created"]

    await send(environment, create_command(order_id, received_at=now()))
    await send(environment, update_command(order_id, "picked_up", received_at=now()), version=2)
    await send(environment, update_command(order_id, "in_transit", received_at=now()))
    await send(environment, create_command(other, received_at=now()))
    await eventually(is_waiting)
    await eventually(is_created)  # what was before it is decided
    async with Caller([ingest.url]) as caller:
        for partition in range(1, PARTITIONS):
            answers = await caller.live(order_in(partition))
            assert [answer.status for answer in answers] == [201, 200, 409, 200, 200, 200, 409]

        async def horizon_moves() -> bool:
            return await metric(order_state, 'tracking_horizon_timestamp_seconds{partition="0"}') > begun

        begun = now().timestamp()
        await eventually(horizon_moves)
        assert await metric(order_state, 'tracking_oldest_command_seconds{partition="0"}') > 0
        assert (await read(order_state, "/readyz"))[0] == 200
        assert await statuses(environment, other) == []
        assert order_state.log_path.read_text().count("partition 0 waits: ") == 1
        async with connect(environment["AMQP_URL"], "test") as connection:
            assert await connection.depth(DEAD_QUEUE) == 0

        await start_service("later_order_state", name="later")

        async def is_decided() -> bool:
            return await statuses(environment, other) == ["created"]

        await eventually(is_decided)
        assert await statuses(environment, order_id) == ["created", "picked_up", "in_transit"]

        async def is_over() -> bool:
            return await metric(order_state, waits) == 0

        await eventually(is_over)
        await examine(environment, caller.acknowledged)


async def test_a_message_whose_format_is_no_number_is_a_dead_letter(spine: Spine) -> None:
    async with connect(spine.environment["AMQP_URL"], "test") as connection:
        for number, version in enumerate(("two", 0, -1), 1):
            await send(spine.environment, create_command(uuid4().hex), version=version)

            async def is_dead(number: int = number) -> bool:
                return await connection.depth(DEAD_QUEUE) == number

            await eventually(is_dead)
    await spine.caller.live(uuid4().hex)
    await examine(spine.environment, spine.caller.acknowledged)


async def test_nobody_decides_on_a_document_of_a_later_release_or_shows_it(
    spine: Spine, start_service: StartService
) -> None:
    """Until it can be read: then the update that waited is applied once."""
    query = await start_service("query")
    order_id, other = order_in(0), order_in(1)
    for one in (order_id, other):
        await spine.caller.live(one, steps=["picked_up"])
    environment = spine.environment
    await spine.order_state.stop()  # it remembers the order
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        orders: Any = database.raw["orders"]
        await orders.update_one({"_id": order_id}, {"$set": {FORMAT: 2}})
        order_state = await start_service("order_state")
        status, body = await read(query, f"/v1/orders/{order_id}")
        assert (status, "database-unavailable" in body) == (503, True)
        assert (await read(query, f"/v1/orders/{other}"))[0] == 200

        async def is_stalled() -> bool:
            return await metric(order_state, "tracking_stalled_partitions") == 1

        waiting = asyncio.create_task(
            spine.caller.insist(
                f"/v1/orders/{order_id}/updates", {"status": "in_transit"}, "late", order_id, Prefer="wait=10"
            )
        )
        await eventually(is_stalled)
        answers = await spine.caller.live(order_in(1))
        assert [answer.status for answer in answers] == [201, 200, 409, 200, 200, 200, 409]
        assert "orders of format 2, this release reads up to 1" in order_state.log_path.read_text()
        await orders.update_one({"_id": order_id}, {"$unset": {FORMAT: ""}})
    assert (await waiting).status in (200, 202)

    async def is_applied() -> bool:
        return await statuses(environment, order_id) == ["created", "picked_up", "in_transit"]

    await eventually(is_applied)
    await examine(environment, spine.caller.acknowledged)
