"""The number of partitions is changed while everything runs: nothing lost, twice, reordered or unsaid."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import ClientSession
from repartition_changes import changed, layout, partitions_of, settings
from webhook_stack import LOOPBACK, Receiver, receiver

from callers import Caller, eventually, many_lives, token
from fixtures import StartService
from followers import EventStreamFollower, Follower, newest_versions
from listeners import examine, listening
from reading import get
from statements.recording import with_recording
from tracking.devstack.service_process import PORT_VARIABLES, ServiceProcess
from tracking_shared.contracts.layout import Layout

PARTITIONS = "4"
HERE = str(Path(__file__).parent.parent)

STEPS = (
    pytest.param("prepared", marks=pytest.mark.slow),
    "decided",
    "noted",
    pytest.param("switched", marks=pytest.mark.slow),
)
"""Of a change: see `faulty_order_state`."""

STEPS_WITHOUT_UPDATES = ("fenced", pytest.param("in-switch", marks=pytest.mark.slow), "activating")
"""The others, at which ingest takes no updates."""

FOLLOWERS = (Follower, EventStreamFollower)
"""A dashboard over a WebSocket, and one over an event stream."""

PAUSE_SECONDS = 5.0
"""The longest time for which ingest may take no updates."""


@pytest.fixture
def environment(service_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Short heartbeats; the faulty module can be started."""
    monkeypatch.setitem(PORT_VARIABLES, "faulty_order_state", "ORDER_STATE_PORT")
    service_environment["AMQP_URL"] += "?heartbeat=1"
    service_environment |= {"PARTITIONS": PARTITIONS, "PYTHONPATH": with_recording(HERE)}
    return service_environment


class Pause:
    """Asks ingest to take a new order again and again, and measures how long it does not."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self.longest_seconds = 0.0

    async def measure(self) -> None:
        """Measures until cancelled."""
        clock = asyncio.get_running_loop().time
        taken_at = clock()
        while True:
            order_id = f"probe-{uuid4().hex}"
            body = {
                "order_id": order_id,
                "merchant_id": "m-1",
                "customer": {"name": "Ada", "contact_ref": "crm-1"},
            }
            answer = await self._caller.post("/v1/orders", body, Prefer="respond-async")
            assert answer.status in (202, 503), answer
            self.longest_seconds = max(self.longest_seconds, clock() - taken_at)
            if answer.status == 202:
                taken_at = clock()
            await asyncio.sleep(0.02)


def patient(amqp_url: str) -> str:
    """The address for a listener in the process of the test, whose stalls are no losses of a connection."""
    return amqp_url.partition("?")[0]


@pytest.mark.parametrize("step", STEPS)
async def test_killed_at_a_step_of_a_change_of_the_partitions_the_next_one_carries_on(
    step: str, environment: dict[str, str], start_service: StartService
) -> None:
    async with listening(patient(environment["AMQP_URL"]), int(PARTITIONS)) as announced:
        ingest = await start_service("ingest")
        faulty = await start_service("faulty_order_state", FAULT=f"kill:{step}")
        async with Caller([ingest.url]) as caller:
            old = await many_lives(caller, 4)
            lives = asyncio.create_task(many_lives(caller, 12))
            change = asyncio.create_task(changed(environment, 6))
            await faulty.process.wait()
            await start_service("order_state")
            assert "6 partitions for new orders, 10 in all" in await change
            await lives
            new = await many_lives(caller, 12)
        await examine(environment, caller.acknowledged, announced)
    assert await layout(environment) == Layout((4, 6))
    assert await partitions_of(environment, old) <= set(range(4))
    assert await partitions_of(environment, new) <= set(range(4, 10))


@pytest.mark.parametrize("step", STEPS_WITHOUT_UPDATES)
async def test_services_that_start_in_the_middle_of_a_change_know_what_comes_after_it(
    step: str, environment: dict[str, str], start_service: StartService
) -> None:
    ingest = await start_service("ingest")
    faulty = await start_service("faulty_order_state", FAULT=f"kill:{step}")
    async with Caller([ingest.url]) as caller, receiver() as hook:
        old = await many_lives(caller, 4)
        change = asyncio.create_task(changed(environment, 6))
        await faulty.process.wait()
        new_ingest, notifier, query, _ = [
            await start_service(name, name=f"new-{name}", WEBHOOK_ALLOW_NETWORKS=LOOPBACK)
            for name in ("ingest", "notifier", "query", "webhooks")
        ]
        await subscribed(query.url, hook)
        for service in (ingest, new_ingest):
            await eventually(partial(takes_nothing, service.url))
        followers = [kind(lambda: notifier.stream_url) for kind in FOLLOWERS]
        following = [asyncio.create_task(one.run()) for one in followers]
        for one in followers:
            await eventually(one.is_following)
        first = await get(query.url, "/v1/events?limit=1000")
        await start_service("order_state")
        assert "6 partitions for new orders, 10 in all" in await change
        caller.urls = [ingest.url, new_ingest.url]
        new = await many_lives(caller, 8)
        await examine(environment, caller.acknowledged)
        async with ClientSession() as session:
            events = list(first["events"])
            await followed(session, query.url, first["cursor"], events)
        assert faults_of(events, {}) == []
        assert {one["data"]["order_id"] for one in events} == {*old, *new}
        for one in followers:
            await eventually(partial(has_seen, one.versions, new))
        await eventually(partial(has_received, hook.taken, new))
        cancel(following)
    assert await layout(environment) == Layout((4, 6))
    assert await partitions_of(environment, new) <= set(range(4, 10))


async def takes_nothing(url: str) -> bool:
    """True if ingest refuses an order for now."""
    body = {"merchant_id": "m-1", "customer": {"name": "Ada", "contact_ref": "crm-1"}}
    async with Caller([url]) as caller:
        answer = await caller.post("/v1/orders", body, Prefer="respond-async")
    return answer.status == 503 and int(answer.headers["Retry-After"]) > 0


async def subscribed(query_url: str, hook: Receiver) -> None:
    """Has a webhook send all events from now on."""
    headers = {"Authorization": f"Bearer {token(scope='webhooks:manage orders:read')}"}
    async with (
        ClientSession(headers=headers) as session,
        session.post(f"{query_url}/v1/webhooks", json={"url": hook.url}) as answer,
    ):
        assert answer.status == 201, await answer.text()


async def has_seen(versions_of: Mapping[str, list[int]], order_ids: Iterable[str]) -> bool:
    """True once a client of the stream has seen a whole life of each of these orders, in its order. Fails if
    it has seen something twice.
    """
    lives = [versions_of.get(order_id, []) for order_id in order_ids]
    assert all(versions == list(range(1, len(versions) + 1)) for versions in lives), lives
    return all(len(versions) == len(lives[0]) > 1 for versions in lives)


async def has_received(versions_of: Mapping[str, list[int]], order_ids: Iterable[str]) -> bool:
    """The same for a webhook, which may get something twice."""
    return await has_seen({key: list(dict.fromkeys(taken)) for key, taken in versions_of.items()}, order_ids)


def cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Ends followers. One that has failed says so."""
    for task in tasks:
        if task.done():
            task.result()
        task.cancel()


async def page_of(session: ClientSession, url: str, after: str | None) -> dict[str, Any]:
    """A page of the log."""
    parameters = {"limit": "1000"} | ({"after": after} if after else {})
    headers = {"Authorization": f"Bearer {token()}"}
    async with session.get(f"{url}/v1/events", params=parameters, headers=headers) as response:
        assert response.status == 200, await response.text()
        page: dict[str, Any] = await response.json()
        return page


async def followed(session: ClientSession, url: str, after: str, events: list[dict[str, Any]]) -> str:
    """Reads the log on from a cursor to its end. Returns the cursor there."""
    while True:
        page = await page_of(session, url, after)
        events += page["events"]
        after = page["cursor"]
        if not page["has_more"]:
            return str(after)


def faults_of(events: Iterable[dict[str, Any]], newest: dict[str, int]) -> list[str]:
    """Events that do not follow the one before of their order."""
    faults = []
    for event in events:
        order_id, version = event["data"]["order_id"], event["data"]["version"]
        if version != newest.get(order_id, 0) + 1:
            faults.append(f"{order_id}: {version} after {newest.get(order_id, 0)}")
        newest[order_id] = version
    return faults


@dataclass(slots=True)
class Scene:
    """Two replicas of ingest and order-state, one of everything else, and clients that follow it all."""

    environment: dict[str, str]
    ingests: list[ServiceProcess]
    workers: list[ServiceProcess]
    query: ServiceProcess
    notifier: ServiceProcess
    hook: Receiver
    followers: list[Follower]
    seen: list[dict[str, Any]] = field(default_factory=list)

    async def is_delivered(self) -> bool:
        """True once the webhook has got each version of each order, in their order."""
        taken = {order_id: list(dict.fromkeys(versions)) for order_id, versions in self.hook.taken.items()}
        newest = await newest_versions(self.environment)
        return taken == {order_id: list(range(1, last + 1)) for order_id, last in newest.items()}

    async def kill_command(self, count: int) -> None:
        """Runs the command and kills it as soon as it has asked for the change."""
        named = [sys.executable, "-m", "tracking", "repartition", str(count)]
        process = await asyncio.create_subprocess_exec(*named, env=self.environment)
        await eventually(self._is_asked_for)
        with suppress(ProcessLookupError):  # the change was quick
            process.kill()
        await process.wait()

    async def _is_asked_for(self) -> bool:
        found = await settings(self.environment)
        return "switch" in found or "counts" in found


@asynccontextmanager
async def running(environment: dict[str, str], start_service: StartService) -> AsyncIterator[Scene]:
    """A scene."""
    workers = [
        await start_service("order_state", name=f"order-{n}", REPLICA_ORDINAL=str(n), REPLICA_COUNT="2")
        for n in range(2)
    ]
    ingests = [await start_service("ingest", name=f"ingest-{n}") for n in range(2)]
    query = await start_service("query", WEBHOOK_ALLOW_NETWORKS=LOOPBACK)
    notifier = await start_service("notifier")
    await start_service("webhooks", WEBHOOK_ALLOW_NETWORKS=LOOPBACK)
    async with AsyncExitStack() as stack:
        hook = await stack.enter_async_context(receiver())
        await subscribed(query.url, hook)
        followers = [kind(lambda: notifier.stream_url) for kind in FOLLOWERS]
        following = [asyncio.create_task(one.run()) for one in followers]
        for one in followers:
            await eventually(one.is_following)
        yield Scene(environment, ingests, workers, query, notifier, hook, followers)
        cancel(following)


@pytest.mark.slow
async def test_4_to_16_to_8_partitions_under_load_with_faults(
    environment: dict[str, str], start_service: StartService, capsys: pytest.CaptureFixture[str]
) -> None:
    async with (
        listening(patient(environment["AMQP_URL"]), int(PARTITIONS)) as announced,
        running(environment, start_service) as scene,
        Caller([one.url for one in scene.ingests]) as caller,
        Caller([scene.ingests[0].url]) as prober,
        ClientSession() as session,
    ):
        url = scene.query.url
        first = await page_of(session, url, None)
        pause = Pause(prober)
        measuring = asyncio.create_task(pause.measure())
        lives = asyncio.create_task(many_lives(caller, 300))
        cursor = await followed(session, url, first["cursor"], scene.seen)
        await scene.kill_command(16)
        assert "16 partitions" in await changed(environment, 16)
        cursor = await followed(session, url, cursor, scene.seen)
        change = asyncio.create_task(changed(environment, 8))
        await scene.workers[0].kill()
        await scene.ingests[1].kill()
        await scene.notifier.kill()
        await scene.ingests[1].start()
        await scene.notifier.start()
        assert "8 partitions for new orders, 28 in all" in await change
        await scene.workers[0].start()
        await lives
        new = await many_lives(caller, 40)
        measuring.cancel()
        with suppress(asyncio.CancelledError):
            await measuring  # it fails at an answer that is neither
        await examine(environment, caller.acknowledged, announced)
        for follower in scene.followers:
            await eventually(partial(follower.has_all, environment))
        await eventually(scene.is_delivered)
        await followed(session, url, cursor, scene.seen)
        again: list[dict[str, Any]] = []
        await followed(session, url, first["cursor"], again)
    with capsys.disabled():
        print(f"\nlongest pause of ingest: {pause.longest_seconds:.2f} s")
    assert pause.longest_seconds < PAUSE_SECONDS
    assert faults_of(scene.seen, {}) == []
    assert faults_of(again, {}) == []
    assert {one["id"] for one in again} == {one["id"] for one in scene.seen}
    assert await layout(environment) == Layout((4, 16, 8))
    assert await partitions_of(environment, new) <= set(range(20, 28))
