"""A broker that does not take what order-state announces: nothing stops, and no command is worn out by it."""

import re
from uuid import uuid4

import orjson
from aiohttp import ClientSession

from callers import Caller, eventually, many_lives
from fixtures import PARTITIONS, Spine, StartService
from listeners import examine, listening
from servers import Broker, memory_alarm
from tracking.devstack.service_process import ServiceProcess
from tracking_shared.messaging.connection import Connection, connect
from tracking_shared.messaging.topology import EVENTS_EXCHANGE, partition_queue_name

ALWAYS_FULL = orjson.dumps({"max-length": 0, "overflow": "reject-publish"}).decode()


async def test_a_full_queue_of_somebody_else_at_the_events_holds_up_nobody(
    spine: Spine, broker_node: Broker
) -> None:
    url = spine.environment["AMQP_URL"]
    async with listening(url, PARTITIONS) as announced, connect(url, "somebody else") as connection:
        name, _ = await connection.private_consumer(EVENTS_EXCHANGE, limit=1)
        vhost = url.rpartition("/")[2]
        await broker_node.control("set_policy", "--vhost", vhost, "full", f"^{re.escape(name)}$", ALWAYS_FULL)

        async def is_refused() -> bool:
            answers = await spine.caller.live(uuid4().hex)
            assert [answer.status for answer in answers] == [201, 200, 409, 200, 200, 200, 409]
            return await refusals(spine.order_state) > 0

        await eventually(is_refused)
        await examine(spine.environment, spine.caller.acknowledged, announced)


async def refusals(order_state: ServiceProcess) -> float:
    """How many announcements were refused."""
    async with ClientSession() as session, session.get(f"{order_state.url}/metrics") as response:
        samples = dict(line.rsplit(" ", 1) for line in (await response.text()).splitlines())
    return float(samples["tracking_announcements_refused_total"])


async def test_while_the_broker_takes_no_messages_no_command_is_taken_in_hand(
    service_environment: dict[str, str], broker_node: Broker, start_service: StartService
) -> None:
    service_environment["PARTITIONS"] = "1"
    ingest = await start_service("ingest")
    url = service_environment["AMQP_URL"]
    async with Caller([ingest.url]) as caller, connect(url, "tap") as connection:
        await many_lives(caller, 4, Prefer="respond-async")
        async with memory_alarm(broker_node):
            order_state = await start_service("order_state", wait=False)
            await eventually(lambda: says(order_state, "broker away"))
            await order_state.kill()
            assert not await were_in_hand(connection)
        await order_state.start()
        await examine(service_environment, caller.acknowledged)


async def says(service: ServiceProcess, text: str) -> bool:
    return service.log_path.exists() and text in service.log_path.read_text()


async def were_in_hand(connection: Connection) -> bool:
    """Whether any of what waits in the only queue was delivered before."""
    consumer = await connection.consumer(partition_queue_name(0), prefetch=1)
    deliveries = await consumer.next_batch(1)
    await consumer.close()
    return any(delivery.redelivered for delivery in deliveries)
