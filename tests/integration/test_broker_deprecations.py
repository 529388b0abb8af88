"""RabbitMQ 4 that refuses every feature it has deprecated and keeps its metadata in Khepri, as 4.3 does by
default. An earlier release is asked to.
"""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import aiormq.exceptions
import orjson
import pytest
from websockets.asyncio.client import connect as open_socket

from callers import JWT_SECRET, Caller, token
from fixtures import PARTITIONS, StartService
from tracking.devstack.broker_node import BrokerNode, broker_release
from tracking_shared.messaging.connection import connect

DEPRECATED = (
    "amqp_address_v1",
    "global_qos",
    "queue_master_locator",
    "ram_node_type",
    "transient_nonexcl_queues",
)


class StrictBroker(BrokerNode):
    """A private node without anything deprecated."""

    def _write_configuration(self) -> None:
        super()._write_configuration()
        with (self._data / "rabbitmq.conf").open("a") as configuration:
            for feature in DEPRECATED:
                print(f"deprecated_features.permit.{feature} = false", file=configuration)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[StrictBroker]:
    if broker_release().startswith("3."):
        pytest.skip("needs RabbitMQ 4: `make test-rabbitmq4`")
    node = StrictBroker(tmp_path / "strict-broker")
    try:
        await node.start()
        await node.control("enable_feature_flag", "--experimental", "khepri_db")
        yield node
    finally:
        await node.stop()


@pytest.fixture
def service_environment(broker: StrictBroker, mongodb_url: str, database_name: str) -> dict[str, str]:
    return {
        "AMQP_URL": broker.url,
        "MONGODB_URL": mongodb_url,
        "MONGODB_DATABASE": database_name,
        "JWT_SECRET": JWT_SECRET,
        "PARTITIONS": str(PARTITIONS),
    }


async def test_the_services_need_nothing_that_rabbitmq_4_3_refuses(
    broker: StrictBroker, start_service: StartService
) -> None:
    await start_service("order_state")
    ingest, notifier = await start_service("ingest"), await start_service("notifier")
    order_id = secrets.token_hex(8)
    async with open_socket(notifier.stream_url, compression=None) as socket:
        wish = {"type": "subscribe", "token": token(), "filter": {"order_id": [order_id]}}
        await socket.send(orjson.dumps(wish).decode())
        while orjson.loads(await socket.recv())["type"] != "live":
            pass
        async with Caller([ingest.url]) as caller:
            answers = await caller.live(order_id, ("picked_up",))
        assert [answer.status for answer in answers] == [201, 200]
        seen: list[str] = []
        while len(seen) < 2:
            seen += [event["id"] for event in orjson.loads(await socket.recv()).get("events", [])]
    assert seen == [f"{order_id}:1", f"{order_id}:2"]


async def test_the_broker_of_these_tests_refuses_what_is_deprecated(broker: StrictBroker) -> None:
    flags = await broker.control("list_feature_flags")
    assert "khepri_db\tenabled" in flags
    async with connect(broker.url, "somebody else") as connection:
        channel = await connection._connection.channel()
        with pytest.raises(aiormq.exceptions.AMQPError, match="transient_nonexcl_queues"):
            await channel.declare_queue("neither", durable=False, exclusive=False)
