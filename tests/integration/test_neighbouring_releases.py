"""Rolling upgrade and rollback: the release before and this one run side by side, under load."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

import pytest

from callers import Caller, eventually, many_lives
from earlier_release import NoEarlierRelease, earlier_tree
from followers import Follower
from forked_services import ForkedService
from listeners import examine, listening
from reading import get
from tracking.devstack.service_process import ServiceProcess
from tracking.upkeep.repartition import repartition
from tracking_shared.storage.audit_trail import Actor

PARTITIONS = 4
OPERATOR = Actor("operator", "command-line")
SERVICES = ("order_state", "ingest", "query", "notifier")
PROMPT_SECONDS = 20
"""In which an update is answered, whatever is replaced meanwhile: a take-over takes a few."""

PACE_SECONDS = 0.04
"""Without it, the load would take the processor from the services that start."""

WAYS = list(permutations(SERVICES))
USUAL = WAYS[0]
"""order-state first. The way back is the reverse, so that it is also the last."""


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> str:
    try:
        return earlier_tree(tmp_path_factory.mktemp("earlier"))
    except NoEarlierRelease as error:
        pytest.skip(f"no source tree of the release before: {error}")


@dataclass(slots=True)
class Installation:
    """One replica of each service. A replacement is ready before the one in its place is stopped."""

    environment: dict[str, str]
    logs: Path
    running: AsyncExitStack
    now: dict[str, ServiceProcess] = field(default_factory=dict)
    ingest_urls: list[str] = field(default_factory=list)
    started: int = 0

    async def replace(self, service: str, python_path: str) -> None:
        """By a replica of the release on this path; "": of this one."""
        self.started += 1
        # The fork servers have imported this release.
        kind = ServiceProcess if python_path else ForkedService
        environment = self.environment | ({"PYTHONPATH": python_path} if python_path else {})
        process = kind(service, environment=environment, logs=self.logs, name=f"{service}-{self.started}")
        self.running.push_async_callback(process.stop)
        await process.start()
        before = self.now.get(service)
        self.now[service] = process
        if service == "ingest":
            self.ingest_urls[:] = [process.url]
        if before is not None:
            await before.stop()


@dataclass(slots=True)
class Load:
    """Callers that report, each some twenty times a second."""

    caller: Caller
    slowest_seconds: float = 0.0

    async def run(self) -> None:
        while True:
            order_id = uuid4().hex
            for path, body in (
                ("/v1/orders", {"order_id": order_id, "merchant_id": "m-1", "customer": PERSON}),
                (f"/v1/orders/{order_id}/updates", {"status": "picked_up"}),
                (f"/v1/orders/{order_id}/checkpoints", {"kind": "note", "message": "at the gate"}),
                (f"/v1/orders/{order_id}/updates", {"status": "delivered"}),
            ):
                begun = monotonic()
                await self.caller.insist(path, body, uuid4().hex, order_id)
                self.slowest_seconds = max(self.slowest_seconds, monotonic() - begun)
                await asyncio.sleep(PACE_SECONDS)  # the pace, not a wait for a condition


PERSON = {"name": "Wilhelmina Vaughan", "contact_ref": "crm-77"}


@pytest.fixture
async def installation(service_environment: dict[str, str], tmp_path: Path) -> AsyncIterator[Installation]:
    environment = service_environment | {"PARTITIONS": str(PARTITIONS), "STANDBY_DELAY_SECONDS": "0.5"}
    async with AsyncExitStack() as running:
        yield Installation(environment, tmp_path / "logs", running)


@pytest.mark.parametrize(
    "way",
    [pytest.param(way, id=", ".join(way), marks=() if way == USUAL else pytest.mark.slow) for way in WAYS],
)
async def test_up_and_down_again_under_load(
    way: Sequence[str], installation: Installation, earlier: str
) -> None:
    for service in SERVICES:
        await installation.replace(service, earlier)
    environment = installation.environment
    async with (
        listening(environment["AMQP_URL"], PARTITIONS) as announced,
        Caller(installation.ingest_urls) as caller,
        asyncio.TaskGroup() as group,
    ):
        follower = Follower(lambda: installation.now["notifier"].stream_url)
        load = Load(caller)
        following = group.create_task(follower.run())
        await eventually(follower.is_following)
        loading = [group.create_task(load.run()) for _ in range(4)]
        for python_path, services in (("", way), (earlier, way[::-1])):
            for service in services:
                await installation.replace(service, python_path)
                await is_working(installation, caller)
        for task in loading:
            task.cancel()
        await asyncio.wait(loading)
        await examine(environment, caller.acknowledged, announced)
        await eventually(lambda: follower.has_all(environment))
        following.cancel()
    assert load.slowest_seconds < PROMPT_SECONDS


async def is_working(installation: Installation, caller: Caller) -> None:
    """Waits until more updates are decided, and reads one of them."""
    so_far = len(caller.acknowledged)

    async def has_more() -> bool:
        return len(caller.acknowledged) >= so_far + 20

    await eventually(has_more)
    order_id = caller.acknowledged[-20].order_id
    history = await get(installation.now["query"].url, f"/v1/orders/{order_id}/history")
    assert history["items"][0]["status"] == "created"


async def started(
    stack: AsyncExitStack, installation: Installation, service: str, **added: str
) -> ServiceProcess:
    """One more replica, of this release unless `PYTHONPATH` is added. It may end at once."""
    installation.started += 1
    process = ServiceProcess(
        service,
        environment=installation.environment | added,
        logs=installation.logs,
        name=f"{service}-{installation.started}",
    )
    stack.push_async_callback(process.stop)
    process.launch()
    return process


@pytest.mark.slow
async def test_after_a_change_of_the_partitions_the_release_before_decides_nothing(
    installation: Installation, earlier: str
) -> None:
    """Its replicas that run wait, or are refused by the broker; none starts, with whichever number."""
    environment = installation.environment
    for service in ("order_state", "ingest"):
        await installation.replace(service, earlier)
    async with (
        listening(environment["AMQP_URL"], PARTITIONS) as announced,
        AsyncExitStack() as stack,
        Caller(installation.ingest_urls) as caller,
    ):
        await many_lives(caller, 4)
        worker = await started(stack, installation, "order_state")
        ingest = await started(stack, installation, "ingest")
        await worker.start()
        await ingest.start()
        url, name = environment["MONGODB_URL"], environment["MONGODB_DATABASE"]
        await repartition(url, name, PARTITIONS + 2, OPERATOR, lambda line: None)
        old = {one.order_id for one in caller.acknowledged}
        refused = await caller.post("/v1/orders", new_order())
        assert refused.status == 503
        async with Caller([ingest.url], caller.acknowledged) as new_caller:
            await many_lives(new_caller, 4)
            late = [
                await started(stack, installation, service, PYTHONPATH=earlier, PARTITIONS=str(number))
                for service in SERVICES
                for number in (PARTITIONS, PARTITIONS + 2)
            ]
            for process in late:
                assert await asyncio.wait_for(process.process.wait(), 30) == 78
            for process in installation.now.values():
                await process.stop()
            for order_id in old:
                note = {"kind": "note", "message": "at the gate"}
                await new_caller.insist(f"/v1/orders/{order_id}/checkpoints", note, uuid4().hex, order_id)
        await examine(environment, new_caller.acknowledged, announced)


def new_order() -> dict[str, Any]:
    """The body that creates an order."""
    return {"order_id": uuid4().hex, "merchant_id": "m-1", "customer": PERSON}
