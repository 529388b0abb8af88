"""Queues whose bounds are others than this release declares: they are kept, and so are the guarantees."""

from typing import Any
from uuid import uuid4

import pytest

from callers import Caller
from fixtures import PARTITIONS, StartService
from listeners import examine
from servers import Broker
from tracking_shared.contracts.commands import COMMANDS_MEDIA_TYPE
from tracking_shared.messaging.connection import connect
from tracking_shared.messaging.errors import BrokerRefused, PublishRefused
from tracking_shared.messaging.topology import (
    COMMANDS_EXCHANGE,
    partition_queue,
    partition_queue_name,
    routing_key,
)


async def declare(url: str, partition: int, **changed: Any) -> None:
    """The queue of a partition, as somebody else has declared it."""
    names = {name.replace("_", "-"): value for name, value in changed.items()}
    arguments = {**partition_queue(partition).arguments, **names}
    async with connect(url, "somebody else") as connection:
        channel = await connection._connection.channel()
        await channel.declare_queue(
            partition_queue_name(partition),
            durable=True,
            arguments={name: value for name, value in arguments.items() if value is not None},
        )


async def test_queues_with_other_bounds_are_kept_and_serve(
    service_environment: dict[str, str], start_service: StartService
) -> None:
    url = service_environment["AMQP_URL"]
    service_environment["PARTITIONS"] = str(PARTITIONS)
    await declare(url, 0, x_max_length=500, x_max_length_bytes=2**32, x_delivery_limit=30)
    await declare(url, 1, x_max_length=None)
    order_state = await start_service("order_state")
    ingest = await start_service("ingest")
    async with Caller([ingest.url]) as caller:
        for _ in range(4 * PARTITIONS):
            await caller.live(uuid4().hex)
        await examine(service_environment, caller.acknowledged)
    said = order_state.log_path.read_text()
    assert "x-delivery-limit is 30, not 50, x-max-length is 500, not 20000" in said
    assert "orders.commands.p1 stays as it is: x-max-length is not set, not 20000" in said


@pytest.mark.parametrize(
    "lacking",
    [
        {"x_single_active_consumer": None},
        {"x_overflow": "drop-head", "x_dead_letter_strategy": None, "x_max_length": 500},
        {"x_dead_letter_exchange": None, "x_dead_letter_strategy": None},
    ],
    ids=["no single active consumer", "drops messages", "no dead letters"],
)
async def test_a_queue_that_lacks_a_guarantee_is_refused(
    lacking: dict[str, Any], fresh_vhost_url: str
) -> None:
    await declare(fresh_vhost_url, 0, **lacking)
    async with connect(fresh_vhost_url, "order-state") as connection:
        with pytest.raises(BrokerRefused, match="inequivalent arg"):
            await connection.declare(1)


async def test_a_policy_lowers_the_bound_of_a_queue_that_is_there(
    broker_node: Broker, fresh_vhost_url: str
) -> None:
    vhost = fresh_vhost_url.rpartition("/")[2]
    async with connect(fresh_vhost_url, "test") as connection:
        await connection.declare(1)
        publisher = await connection.publisher(COMMANDS_EXCHANGE)

        async def fill(most: int) -> int:
            for number in range(most):
                try:
                    await publisher.publish(routing_key(0), b"x", content_type=COMMANDS_MEDIA_TYPE)
                except PublishRefused:
                    return number
            return most

        assert await fill(50) == 50
        policy = ["set_policy", "--vhost", vhost, "--apply-to", "queues", "bounds", "^orders.commands"]
        await broker_node.control(*policy, '{"max-length":10}')
        assert await fill(50) <= 2  # the publisher hears of it a message later
        await connection.declare(1)
        await broker_node.control("clear_policy", "--vhost", vhost, "bounds")
        assert await fill(50) >= 48
