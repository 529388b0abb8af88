"""Connections: served again after a loss, not when it is told to end; what an earlier version declared."""

import asyncio

import aiormq.connection
import pytest

from broker_tap import tap_broker
from servers import Broker
from tracking_shared.messaging.connection import Connection, connect
from tracking_shared.messaging.errors import BrokerUnavailable
from tracking_shared.messaging.reconnection import serve_connections
from tracking_shared.messaging.topology import DEAD_QUEUE, dead_queue, partition_queue_name


async def test_it_serves_again_after_each_loss(broker_node: Broker) -> None:
    served = 0

    async def lose_it_twice(_: Connection) -> None:
        nonlocal served
        served += 1
        if served < 3:
            async with asyncio.TaskGroup() as group:
                group.create_task(fall())

    await asyncio.wait_for(serve_connections(broker_node.url, "test", lose_it_twice), 30)

    assert served == 3


async def test_told_to_end_it_ends_also_when_its_parts_answer_with_a_loss(broker_node: Broker) -> None:
    begun = asyncio.Event()

    async def serve(_: Connection) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fall_when_cancelled(begun))

    serving = asyncio.create_task(serve_connections(broker_node.url, "test", serve))
    await asyncio.wait_for(begun.wait(), 30)
    serving.cancel()
    _, unheeding = await asyncio.wait({serving}, timeout=10)
    serving.cancel()
    assert not unheeding


async def fall() -> None:
    """Fails while its group waits for it."""
    await asyncio.sleep(0)
    raise BrokerUnavailable("lost")


async def fall_when_cancelled(begun: asyncio.Event) -> None:
    """As whoever publishes when the driver's connection goes."""
    begun.set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError as error:
        raise BrokerUnavailable("lost") from error


async def test_a_dead_letter_queue_of_an_earlier_version_stays_as_it_is(fresh_vhost_url: str) -> None:
    earlier = {name: value for name, value in dead_queue().arguments.items() if name != "x-delivery-limit"}
    async with connect(fresh_vhost_url, "test") as connection:
        channel = await connection._connection.channel()
        await channel.declare_queue(DEAD_QUEUE, durable=True, arguments=earlier)
        for _ in range(2):
            await connection.declare(1)
        assert await connection.depth(partition_queue_name(0)) == 0


async def test_a_node_that_answers_no_declaration_is_given_up_before_its_heartbeats_are(
    broker_node: Broker,
) -> None:
    async with tap_broker(broker_node.url) as tap, connect(tap.url + "?heartbeat=60", "test") as connection:
        tap.silent = True
        with pytest.raises(BrokerUnavailable):
            async with asyncio.timeout(12):
                await connection.private_consumer(None, limit=10)
        await tap.cut()


async def test_a_lost_connection_is_not_waited_for(
    broker_node: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aiormq.connection.Connection, "READER_CLOSE_TIMEOUT", 600)

    async def lose() -> None:
        async with connect(tap.url, "test"):
            tap.silent = True
            await fall()

    async with tap_broker(broker_node.url) as tap:
        with pytest.raises(BrokerUnavailable):
            await asyncio.wait_for(lose(), 30)
        await tap.cut()
