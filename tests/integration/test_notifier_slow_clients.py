"""Clients that do not keep up: what is queued for them is bounded, and nobody else notices."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from notifier_stack import (
    Document,
    RawClient,
    Stage,
    StartService,
    eventually,
    ids,
    new_order,
    notifier_stage,
    raw_client,
    subscribed,
)
from websockets.asyncio.client import connect

QUEUE_BYTES = 128 * 1024
BATCH = 100
ORDERS_MORE_THAN_THE_KERNEL_HOLDS = 1200
"""With their ballast some 5 MB."""

DELAY_SECONDS = 15
"""Far more than the tenth of a second that a batch takes; a fast client never waits for a slow one."""


@pytest.fixture
def settings() -> dict[str, str]:
    return {"NOTIFIER_QUEUE_BYTES": str(QUEUE_BYTES), "NOTIFIER_DRAIN_SECONDS": "20"}


@pytest.fixture
async def stage(
    start_service: StartService, service_environment: dict[str, str], settings: dict[str, str]
) -> AsyncIterator[Stage]:
    async with notifier_stage(start_service, service_environment, **settings) as stage:
        stage.stub.metadata = {"ballast": "x" * 4000}
        yield stage


@asynccontextmanager
async def narrow_client(stage: Stage, *, is_live: bool = True, **request: Any) -> AsyncIterator[RawClient]:
    """A client with little room between it and the server. Once it is live, or from the beginning, it reads
    nothing while nobody receives.
    """
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, port = stage.url.removeprefix("ws://").removesuffix("/v1/stream").split(":")
    narrow.connect((host, int(port)))
    options: dict[str, Any] = {"compression": None, "max_queue": 1, "max_size": None, "ping_interval": None}
    async with connect(stage.url, sock=narrow, **options) as connection:
        client = RawClient(connection)
        await client.send(type="subscribe", token=stage.token(), **request)
        if is_live:
            await client.until("live")
        yield client
        connection.transport.abort()


class Flood:
    """Events of a few orders, more than a slow client takes; a fast one gets each batch without delay."""

    def __init__(self, stage: Stage, fast: RawClient) -> None:
        self.stage = stage
        self.orders = [new_order() for _ in range(5)]
        self.sent = 0
        self.fast = fast

    async def batch(self) -> None:
        changes = [(order, "acme", "in_transit") for order in self.orders] * (BATCH // len(self.orders))
        sent = [f"{e['order_id']}:{e['version']}" for e in await self.stage.stub.commit(*changes)]
        async with asyncio.timeout(DELAY_SECONDS):
            assert sorted(ids(await self.fast.events(BATCH))) == sorted(sent)
        self.sent += BATCH

    async def until(self, metric: str, value: float) -> None:
        """Batches until the metric has this value."""
        async with asyncio.timeout(40):
            while await self.stage.metric(metric) < value:
                await self.batch()


@pytest.fixture
async def flood(stage: Stage) -> AsyncIterator[Flood]:
    async with subscribed(stage.url, stage.token()) as fast:
        yield Flood(stage, fast)


FELL_BEHIND = "tracking_stream_fell_behind_total"
HELD = "tracking_stream_held_connections"
RESYNCS = 'tracking_stream_resyncs_total{reason="too-slow"}'
CLOSED = 'tracking_stream_closed_total{code="1013"}'


async def test_a_client_that_falls_behind_gets_the_newest_state_once_it_reads_again(
    stage: Stage, flood: Flood
) -> None:
    async with narrow_client(stage) as slow:
        await flood.until(FELL_BEHIND, 1)
        late = new_order()
        await stage.stub.commit((late, "acme", "created"))
        assert ids(await flood.fast.events(1)) == [f"{late}:1"]
        assert await stage.metric(CLOSED) == 0
        assert await stage.metric(HELD) == 1

        *before, live = await slow.until("live")
        kinds = [message["type"] for message in before]
        place = kinds.index("resync")
        assert before[place]["reason"] == "too-slow"
        assert set(kinds[:place]) == {"events"}
        assert set(kinds[place + 1 :]) == {"snapshot"}
        queued = [event for message in before[:place] for event in message["events"]]
        assert_in_order(queued)
        assert len(queued) < flood.sent
        assert late not in {event["subject"] for event in queued}, "queued though it had fallen behind"
        held = orders_of(before[place:])
        assert held == await fresh_orders(stage)
        assert held.keys() == {late, *flood.orders}

        await stage.stub.commit((late, "acme", "picked_up"))
        assert ids(await slow.events(1)) == [f"{late}:2"]
        assert live["cursor"]
        assert await stage.metric(RESYNCS) == 1
        assert await stage.metric(HELD) == 0


def assert_in_order(events: list[Document]) -> None:
    versions: dict[str, int] = {}
    for event in events:
        assert event["data"]["version"] == versions.get(event["subject"], 0) + 1, event["id"]
        versions[event["subject"]] = event["data"]["version"]


def orders_of(messages: list[Document]) -> dict[str, Document]:
    return {order["order_id"]: order for message in messages for order in message.get("orders", ())}


async def fresh_orders(stage: Stage) -> dict[str, Document]:
    async with raw_client(stage.url) as client:
        await client.send(type="subscribe", token=stage.token())
        return orders_of(await client.until("live"))


async def test_a_client_that_falls_behind_again_and_again_is_closed(stage: Stage, flood: Flood) -> None:
    async with narrow_client(stage) as slow:
        for times in (1, 2, 3):
            await flood.until(FELL_BEHIND, times)
            await slow.until("live")
        await flood.until(CLOSED, 1)
        code, reason, _ = await slow.closed()
    assert (code, reason) in {(1013, "too slow"), (1006, "")}  # cut, if it took too long to read that far


@pytest.mark.parametrize(
    "settings", [{"NOTIFIER_QUEUE_BYTES": str(QUEUE_BYTES), "NOTIFIER_DRAIN_SECONDS": "1"}]
)
async def test_a_client_that_reads_nothing_is_closed_in_time_and_loses_nothing(
    stage: Stage, flood: Flood
) -> None:
    async with raw_client(stage.url) as client:
        await client.send(type="subscribe", token=stage.token())
        cursor = (await client.until("live"))[-1]["cursor"]
    async with narrow_client(stage, after=cursor):
        await flood.until(FELL_BEHIND, 1)

        async def closed() -> bool:
            return await stage.metric(CLOSED) == 1

        await eventually(closed, seconds=20)
        await flood.batch()
    async with raw_client(stage.url) as client:
        await client.send(type="subscribe", token=stage.token(), after=cursor)
        *missed, _ = await client.until("live")
    events = [event for message in missed for event in message["events"]]
    assert_in_order(events)
    assert len(events) == flood.sent


@pytest.mark.parametrize("settings", [{"NOTIFIER_DRAIN_SECONDS": "1"}])
async def test_a_client_that_does_not_read_its_snapshot_is_closed_and_counted(stage: Stage) -> None:
    for _ in range(ORDERS_MORE_THAN_THE_KERNEL_HOLDS // BATCH):
        await stage.stub.commit(*[(new_order(), "acme", "created") for _ in range(BATCH)])
    async with narrow_client(stage, is_live=False):

        async def closed() -> bool:
            return await stage.metric(CLOSED) == 1

        await eventually(closed, seconds=20)
        assert await stage.metric(FELL_BEHIND) == 1


async def test_a_slow_client_may_ask_for_something_else(stage: Stage, flood: Flood) -> None:
    other = new_order()
    await stage.stub.commit((other, "zeta", "created"))
    assert ids(await flood.fast.events(1)) == [f"{other}:1"]
    async with narrow_client(stage, filter={"merchant_id": ["acme"]}) as slow:
        await flood.until(FELL_BEHIND, 1)
        await slow.send(type="subscribe", filter={"merchant_id": ["zeta"]})
        *before, _ = await slow.until("live")
        snapshots = [message for message in before if message["type"] == "snapshot"]
        assert orders_of(snapshots).keys() == {other}
        await flood.batch()
        await stage.stub.commit((other, "zeta", "picked_up"))
        assert ids(await slow.events(1)) == [f"{other}:2"]
