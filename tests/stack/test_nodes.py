"""The private broker and database: what is committed survives a kill, and a stop leaves nothing."""

import secrets
import subprocess
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pymongo import MongoClient

from servers import Broker, create_vhosts
from tracking.devstack.broker_node import BrokerNode
from tracking.devstack.database_node import DatabaseNode
from tracking.devstack.processes import descendants, is_port_free, is_running
from tracking_shared.messaging.connection import connect
from tracking_shared.messaging.topology import COMMANDS_EXCHANGE, partition_queue_name, routing_key


def _client(node: DatabaseNode) -> MongoClient[dict[str, Any]]:
    return MongoClient(node.url)


@pytest.mark.slow  # 20 s; test_outages shows the same of the whole system
async def test_a_confirmed_message_survives_the_kill_of_the_broker(
    start_broker: Callable[[], Awaitable[BrokerNode]],
) -> None:
    node = await start_broker()
    async with connect(node.url, "test") as connection:
        await connection.declare(2)
    # RabbitMQ 3.10 writes the registration of a new queue down within a second, or when it stops.
    await node.restart()
    async with connect(node.url, "test") as connection:
        publisher = await connection.publisher(COMMANDS_EXCHANGE)
        await publisher.publish(routing_key(1), b"kept", content_type="text/plain")

    await node.kill()
    await node.start()

    async with connect(node.url, "test") as connection:
        consumer = await connection.consumer(partition_queue_name(1), prefetch=1)
        assert [delivery.body for delivery in await consumer.next_batch(10)] == [b"kept"]


async def test_a_committed_document_survives_the_kill_of_the_database(
    start_database: Callable[[], Awaitable[DatabaseNode]],
) -> None:
    node = await start_database()
    with _client(node) as client:
        client["kept"]["documents"].insert_one({"_id": 1})

    await node.kill()
    await node.start()

    with _client(node) as client:
        assert client["kept"]["documents"].find_one({}) == {"_id": 1}


async def test_stopping_a_broker_leaves_no_process_and_asking_it_then_starts_none(
    start_broker: Callable[[], Awaitable[BrokerNode]],
) -> None:
    node = await start_broker()
    own = {identity for process in node.processes for identity in descendants(process.pid)}
    assert own, "the node is expected to start processes of its own"

    await node.stop()

    assert not any(map(is_running, own))
    assert all(process.exit_code is not None for process in node.processes)

    with pytest.raises(subprocess.CalledProcessError):
        await node.control("status")

    assert is_port_free(node.epmd_port)


async def test_virtual_hosts_are_separate(fresh_vhost_url: str, broker_node: Broker) -> None:
    other = f"other-{secrets.token_hex(4)}"
    await create_vhosts(broker_node, [other])
    async with connect(fresh_vhost_url, "one") as one, connect(broker_node.url + other, "two") as two:
        for connection, body in ((one, b"first"), (two, b"second")):
            await connection.declare(1)
            publisher = await connection.publisher(COMMANDS_EXCHANGE)
            await publisher.publish(routing_key(0), body, content_type="text/plain")

        for connection, body in ((one, b"first"), (two, b"second")):
            consumer = await connection.consumer(partition_queue_name(0), prefetch=10)
            assert [delivery.body for delivery in await consumer.next_batch(10)] == [body]
