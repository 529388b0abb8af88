"""Rolling upgrade and rollback: the release before and this one run side by side, under load."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

import orjson
import pytest
from websockets.asyncio.client import connect as connect_stream
from websockets.exceptions import ConnectionClosed, WebSocketException

from callers import Caller, eventually, token
from earlier_release import NoEarlierRelease, earlier_tree
from forked_services import ForkedService
from listeners import examine, listening
from reading import get
from tracking.devstack.service_process import ServiceProcess
from tracking_shared.storage.database import open_database

PARTITIONS = 4
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
class Follower:
    """A dashboard that follows all orders from its cursor on, whichever notifier is there."""

    installation: Installation
    cursor: str | None = None
    versions: dict[str, list[int]] = field(default_factory=dict)

    async def run(self) -> None:
        while True:
            with suppress(ConnectionClosed, WebSocketException, OSError, TimeoutError):
                await self._follow(self.installation.now["notifier"].stream_url)
            await asyncio.sleep(0.1)  # back-off, not a wait for a condition

    async def _follow(self, url: str) -> None:
        subscribe: dict[str, Any] = {"type": "subscribe", "token": token(), "filter": {"active": None}}
        subscribe |= {"snapshot": False} if self.cursor is None else {"after": self.cursor}
        async with connect_stream(url) as socket:
            await socket.send(orjson.dumps(subscribe).decode())
            async for text in socket:
                message = orjson.loads(text)
                assert message["type"] not in ("resync", "problem"), message
                for event in message.get("events", ()):
                    self.versions.setdefault(event["data"]["order_id"], []).append(event["data"]["version"])
                self.cursor = message.get("cursor", self.cursor)


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
        follower, load = Follower(installation), Load(caller)
        following = group.create_task(follower.run())
        await eventually(lambda: is_following(follower))
        loading = [group.create_task(load.run()) for _ in range(4)]
        for python_path, services in (("", way), (earlier, way[::-1])):
            for service in services:
                await installation.replace(service, python_path)
                await is_working(installation, caller)
        for task in loading:
            task.cancel()
        await asyncio.wait(loading)
        await examine(environment, caller.acknowledged, announced)
        await eventually(lambda: has_followed(follower, environment))
        following.cancel()
    assert load.slowest_seconds < PROMPT_SECONDS


async def is_following(follower: Follower) -> bool:
    return follower.cursor is not None


async def is_working(installation: Installation, caller: Caller) -> None:
    """Waits until more updates are decided, and reads one of them."""
    so_far = len(caller.acknowledged)

    async def has_more() -> bool:
        return len(caller.acknowledged) >= so_far + 20

    await eventually(has_more)
    order_id = caller.acknowledged[-20].order_id
    history = await get(installation.now["query"].url, f"/v1/orders/{order_id}/history")
    assert history["items"][0]["status"] == "created"


async def has_followed(follower: Follower, environment: dict[str, str]) -> bool:
    """True once it has each version of each order, in their order, and fails if it has one twice."""
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        orders = {one["_id"]: one["version"] async for one in database.orders.find({}, {"version": 1})}
    for order_id, versions in follower.versions.items():
        assert versions == list(range(1, len(versions) + 1)), order_id
    return {order_id: len(versions) for order_id, versions in follower.versions.items()} == orders
