"""A broker under an alarm takes no messages, though it answers: ingest stays ready, and says so to callers;
nothing is lost, and all go on by themselves.
"""

import time
from uuid import uuid4

from aiohttp import ClientSession

from callers import Caller, eventually, many_lives
from fixtures import StartService
from listeners import examine
from servers import Broker, memory_alarm
from tracking.devstack.service_process import ServiceProcess

CUSTOMER = {"name": "Ada Lovelace", "contact_ref": "crm-1"}

QUICKLY_SECONDS = 5.0
"""Of ten requests. Each one that waited for the broker would take longer."""


async def test_under_an_alarm_ingest_stays_ready_and_says_503_itself(
    service_environment: dict[str, str], broker_node: Broker, start_service: StartService
) -> None:
    service_environment["PARTITIONS"] = "1"
    ingest = await start_service("ingest")
    async with Caller([ingest.url]) as caller:
        assert await create(caller) == 202
        assert await blocked(ingest) == 0

        async with memory_alarm(broker_node):
            await eventually(lambda: is_told(ingest))  # nobody reports anything meanwhile
            began_at = time.monotonic()
            assert [await create(caller) for _ in range(10)] == [503] * 10
            assert time.monotonic() - began_at < QUICKLY_SECONDS
            assert await is_ready(ingest)

            newcomer = await start_service("ingest")
            async with Caller([newcomer.url]) as other:
                assert await create(other) == 503
            assert await is_ready(newcomer)

        await eventually(lambda: is_over(ingest))
        assert await create(caller) == 202
    assert ingest.log_path.read_text().count("broker connected") == 1


async def test_an_alarm_in_the_middle_of_the_work_loses_nothing(
    service_environment: dict[str, str], broker_node: Broker, start_service: StartService
) -> None:
    service_environment["PARTITIONS"] = "2"
    await start_service("order_state")
    ingest = await start_service("ingest")
    async with Caller([ingest.url]) as caller:
        await many_lives(caller, 4)
        async with memory_alarm(broker_node):
            statuses = [await create(caller) for _ in range(3)]  # the first one may get through
            assert statuses[-1] == 503
            assert await is_ready(ingest)
        await many_lives(caller, 4)
        await examine(service_environment, caller.acknowledged)


async def create(caller: Caller) -> int:
    """The status that a new order gets."""
    order = {"order_id": uuid4().hex, "merchant_id": "m-1", "customer": CUSTOMER}
    return (await caller.post("/v1/orders", order, Prefer="respond-async")).status


async def is_ready(ingest: ServiceProcess) -> bool:
    async with ClientSession() as session, session.get(f"{ingest.url}/readyz") as response:
        return response.status == 200


async def is_told(ingest: ServiceProcess) -> bool:
    """Whether the broker has told of its alarm, which it does at the first message: that of `/readyz`."""
    assert await is_ready(ingest)
    return await blocked(ingest) == 1


async def is_over(ingest: ServiceProcess) -> bool:
    return await blocked(ingest) == 0


async def blocked(ingest: ServiceProcess) -> float:
    async with ClientSession() as session, session.get(f"{ingest.url}/metrics") as response:
        samples = dict(line.rsplit(" ", 1) for line in (await response.text()).splitlines())
    return float(samples["tracking_ingest_broker_blocked"])
