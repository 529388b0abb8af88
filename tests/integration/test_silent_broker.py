"""A broker node that answers everything and delivers nothing, while commands wait."""

from urllib.parse import urlsplit
from uuid import uuid4

from aiohttp import ClientSession

from broker_tap import BrokerTap, tap_broker
from callers import Caller, eventually
from fixtures import StartService
from tracking.devstack.service_process import ServiceProcess
from tracking_order_state.processing.subscriptions import PREFETCH_MESSAGES
from tracking_shared.storage.database import open_database

SILENCE_SECONDS = "1"


async def readiness(service: ServiceProcess) -> tuple[int, str]:
    """Status and body of `/readyz`."""
    async with ClientSession() as session, session.get(f"{service.url}/readyz") as answer:
        return answer.status, await answer.text()


async def metric(service: ServiceProcess, name: str) -> float:
    """The value of a metric without labels."""
    async with ClientSession() as session, session.get(f"{service.url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def in_use(order_state: ServiceProcess, taps: tuple[BrokerTap, BrokerTap]) -> BrokerTap:
    """The one that order-state gets its commands through."""
    log = order_state.log_path.read_text()
    return max(taps, key=lambda tap: log.rfind(f"broker connected: 127.0.0.1:{tap.port}"))


async def test_a_node_that_delivers_nothing_is_left_for_another_one(
    start_service: StartService, service_environment: dict[str, str]
) -> None:
    url = service_environment["AMQP_URL"]
    async with tap_broker(url) as one, tap_broker(url) as other:
        place = urlsplit(url).netloc.rpartition("@")[2]
        both = url.replace(place, f"127.0.0.1:{one.port},127.0.0.1:{other.port}")
        order_state = await start_service(
            "order_state", AMQP_URL=both, PARTITIONS="1", BROKER_SILENCE_SECONDS=SILENCE_SECONDS
        )
        ingest = await start_service("ingest", PARTITIONS="1")
        async with Caller([ingest.url]) as caller:
            await caller.live(uuid4().hex)
            silent = in_use(order_state, (one, other))
            silent.keeps_deliveries = True
            order_ids = [uuid4().hex for _ in range(PREFETCH_MESSAGES)]
            for order_id in order_ids:  # one after the other: each message has one command
                await caller.live(order_id, steps=("picked_up",), Prefer="respond-async")

            async def says_so() -> bool:
                status, body = await readiness(order_state)
                return status == 503 and "BrokerSilent" in body

            await eventually(says_so, seconds=30)

            async def is_over() -> bool:
                return (await readiness(order_state))[0] == 200

            await eventually(is_over, seconds=45)
            assert in_use(order_state, (one, other)) is not silent
            assert await metric(order_state, "tracking_broker_silences_total") == 1
            assert await metric(order_state, "tracking_broker_silent") == 0
            await caller.live(uuid4().hex)  # decided after all that waited
    names = (service_environment["MONGODB_URL"], service_environment["MONGODB_DATABASE"])
    async with open_database(*names) as database:
        for order_id in order_ids:
            events = await database.order_events.find({"order_id": order_id}).sort("seq").to_list()
            assert [event["version"] for event in events] == [1, 2]
