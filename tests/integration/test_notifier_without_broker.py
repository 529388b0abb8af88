"""A notifier whose broker is dead, frozen or half dead follows the log; without the database, too, it says
that nothing is live.
"""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import ClientSession
from notifier_stack import (
    Document,
    Stage,
    Watcher,
    eventually,
    ids,
    new_order,
    notifier_stage,
    raw_client,
    subscribed,
    watching,
)

from broker_tap import BrokerTap, tap_broker
from fixtures import StartService
from tracking.devstack.database_node import DatabaseNode

LATE_SECONDS = 15
"""By how much events may be late: a look at the log comes once a second, on a machine with time for it."""

STATUSES = ("picked_up", *["in_transit"] * 20)


@pytest.fixture
async def tap(fresh_vhost_url: str) -> AsyncIterator[BrokerTap]:
    """The broker as the notifier sees it."""
    async with tap_broker(fresh_vhost_url) as tap:
        yield tap


@pytest.fixture
async def stage(
    tap: BrokerTap, start_service: StartService, service_environment: dict[str, str]
) -> AsyncIterator[Stage]:
    async with notifier_stage(start_service, service_environment, AMQP_URL=tap.url) as stage:
        yield stage


async def test_without_its_broker_it_follows_the_log_and_says_so(
    stage: Stage, start_service: StartService, service_environment: dict[str, str]
) -> None:
    lonely = await start_service(
        "notifier", wait=False, PARTITIONS="4", AMQP_URL="amqp://guest:guest@127.0.0.1:1/"
    )
    await eventually(
        lambda: says(lonely.url, {"status": "degraded", "failing": {"broker": "BrokerUnavailable"}})
    )
    order = new_order()
    async with subscribed(lonely.stream_url, stage.token()) as client:
        for version, status in enumerate(("created", "picked_up", "in_transit"), 1):
            await stage.stub.commit((order, "acme", status))
            assert (await client.receive(LATE_SECONDS))["events"][0]["id"] == f"{order}:{version}"


@pytest.mark.parametrize("how", ["silent", "cut"])
async def test_a_broker_that_falls_silent_or_away_delays_events_and_loses_none(
    stage: Stage, tap: BrokerTap, how: str
) -> None:
    order = new_order()
    async with subscribed(stage.url, stage.token()) as client:
        await stage.stub.commit((order, "acme", "created"))
        assert ids(await client.events(1)) == [f"{order}:1"]
        tap.silent = True
        if how == "cut":
            await tap.cut()
        for version, status in enumerate(("picked_up", "in_transit"), 2):
            await stage.stub.commit((order, "acme", status))
            assert (await client.receive(LATE_SECONDS))["events"][0]["id"] == f"{order}:{version}"
        tap.silent = False
        await eventually(stage.notifier.is_ready, seconds=30)
        await stage.stub.commit((order, "acme", "delivered"))
        assert ids(await client.events(1)) == [f"{order}:4"]


async def test_a_broker_that_answers_and_brings_nothing_is_left_for_a_new_connection(
    stage: Stage, tap: BrokerTap
) -> None:
    order = new_order()
    watcher = Watcher(stage.url, stage.token)
    async with watching(watcher):
        await stage.stub.commit((order, "acme", "created"))
        await eventually(lambda: len(watcher.events) == 1)
        tap.keeps_deliveries = True
        for number, status in enumerate(STATUSES, 2):
            await stage.stub.commit((order, "acme", status))
            await eventually(lambda number=number: len(watcher.events) == number, seconds=LATE_SECONDS)
            if tap.connections > 1:
                break
        assert tap.connections > 1
        tap.keeps_deliveries = False
        taken = await from_broker(stage)

        async def comes_from_the_broker() -> bool:
            await stage.stub.commit((new_order(), "acme", "created"))
            return await from_broker(stage) > taken

        await eventually(comes_from_the_broker)
    assert await stage.metric("tracking_feed_silences_total") >= 1
    assert watcher.live.gaps == 0
    assert watcher.live.connections == 1


async def test_without_broker_and_database_nobody_is_told_that_it_is_live(
    tap: BrokerTap,
    start_service: StartService,
    service_environment: dict[str, str],
    start_database: Callable[[], Awaitable[DatabaseNode]],
) -> None:
    database = await start_database()
    service_environment["MONGODB_URL"] = database.url
    async with notifier_stage(
        start_service, service_environment, AMQP_URL=tap.url, NOTIFIER_HEARTBEAT_SECONDS="1"
    ) as stage:
        order = new_order()
        async with subscribed(stage.url, stage.token(), heartbeat=True) as client:
            await stage.stub.commit((order, "acme", "created"))
            cursor = (await client.events(1))[0]["id"] and (await client.receive())["cursor"]  # a heartbeat
            tap.silent = True
            await tap.cut()
            await database.kill()
            code, reason, messages = await client.closed(seconds=30)
            assert (code, reason) == (1013, "not live")
            assert messages[-1]["problem"]["type"] == "/problems/database-unavailable"
        async with raw_client(
            stage.url
        ) as newcomer:  # all that it missed is in memory, and is not all that there is
            await newcomer.send(type="subscribe", token=stage.token(), after=cursor)
            assert (await newcomer.closed())[0] == 1013
        await database.start()
        await stage.stub.commit((order, "acme", "picked_up"))

        async def catches_up() -> bool:
            async with raw_client(stage.url) as again:
                await again.send(type="subscribe", token=stage.token(), after=cursor)
                message = await again.receive()
                return ids(message.get("events", [])) == [f"{order}:2"]

        await eventually(catches_up)


async def says(url: str, expected: Document) -> bool:
    """Whether `/readyz` says exactly this, with 503."""
    try:
        async with ClientSession() as session, session.get(f"{url}/readyz") as response:
            return response.status == 503 and await response.json() == expected
    except OSError:
        return False


async def from_broker(stage: Stage) -> float:
    return await stage.metric('tracking_feed_events_total{source="broker"}')
