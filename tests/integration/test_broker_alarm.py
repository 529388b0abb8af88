"""A broker under an alarm takes no messages, though it answers: ingest says so, and goes on by itself."""

from collections.abc import Awaitable, Callable
from uuid import uuid4

from aiohttp import ClientSession

from callers import Caller, eventually
from fixtures import StartService
from tracking.broker_node import BrokerNode
from tracking.service_process import ServiceProcess

CUSTOMER = {"name": "Ada Lovelace", "contact_ref": "crm-1"}


async def test_ingest_is_not_ready_while_an_alarm_of_the_broker_lasts(
    service_environment: dict[str, str],
    start_broker: Callable[[], Awaitable[BrokerNode]],
    start_service: StartService,
) -> None:
    broker = await start_broker()
    service_environment |= {"AMQP_URL": broker.url, "PARTITIONS": "1"}
    ingest = await start_service("ingest")
    async with Caller([ingest.url]) as caller:
        assert await create(caller) == 202
        assert await failing(ingest) == {}

        await broker.control("set_vm_memory_high_watermark", "absolute", "1000")
        await eventually(lambda: failing(ingest))  # nobody reports anything meanwhile
        assert await failing(ingest) == {"broker": "BrokerUnavailable"}
        assert await create(caller) == 503
        assert await failing(ingest) == {"broker": "BrokerUnavailable"}

        await broker.control("set_vm_memory_high_watermark", "0.6")
        await eventually(lambda: is_ready(ingest))
        assert await create(caller) == 202


async def create(caller: Caller) -> int:
    """The status that a new order gets. Nobody decides here."""
    order = {"order_id": uuid4().hex, "merchant_id": "m-1", "customer": CUSTOMER}
    return (await caller.post("/v1/orders", order, Prefer="respond-async")).status


async def failing(ingest: ServiceProcess) -> dict[str, str]:
    """What `/readyz` says is away."""
    async with ClientSession() as session, session.get(f"{ingest.url}/readyz") as response:
        found: dict[str, str] = (await response.json())["failing"]
        assert (response.status == 503) == bool(found)
        return found


async def is_ready(ingest: ServiceProcess) -> bool:
    return await failing(ingest) == {}
