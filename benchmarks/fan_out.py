"""A crowd of dashboards: the server's cost of each event on its way to each of them, and the time it takes.

Real updates go through the whole system, whether the crowd is at the notifier or at the peer, which then
broadcasts the same events as the notifier shows them to one client. So both work on an equally busy machine.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from secrets import token_hex
from time import perf_counter

import orjson

from benchmarks.crowd import Crowd, open_crowd, recorded_times
from benchmarks.http_client import HttpClient, connect_http
from benchmarks.load import Result, Run, Site, WrongResult, summary_ms
from benchmarks.socket_client import Door, SocketClient, notifier_door, subscribe_request
from benchmarks.workload import Conveyor, lifecycles
from tracking_shared.contracts.timestamps import format_time, now

CALLERS = 32
"""At 200 updates a second each may take 160 ms."""

WARM_UPS = 50
"""Not counted: first calls pay for connections and caches, and the peer is compiled while it runs."""

SINGLE_SECONDS = 0.04
"""From one single event to the next: the server is idle in between."""

PER_SECOND = 200
EVENT_SECONDS = 30
DRAIN_SECONDS = 60


async def one_by_one(
    site: Site, dashboards: int, samples: int, peer_port: int = 0, peer_feed_port: int = 0
) -> AsyncIterator[Run]:
    """One event at a time, when the one before has come to everybody."""
    async with _prepared(site, dashboards, peer_port, peer_feed_port) as (crowd, feed):

        async def run() -> Result:
            start = perf_counter()
            await _one_by_one(crowd, feed, samples)
            return _result(crowd, samples, dashboards, start)

        yield run


async def steady(
    site: Site, *, dashboards: int, burst: int, seconds: float, peer_port: int = 0, peer_feed_port: int = 0
) -> AsyncIterator[Run]:
    """200 events a second, in bursts of so many, and later where the feed falls behind."""
    async with _prepared(site, dashboards, peer_port, peer_feed_port) as (crowd, feed):

        async def run() -> Result:
            start = perf_counter()
            turns = max(round(seconds * PER_SECOND / burst), 1)
            for turn in range(turns):
                await asyncio.sleep(max(start + turn * burst / PER_SECOND - perf_counter(), 0))
                await feed.send(burst)
            await crowd.saw(turns * burst, timeout=DRAIN_SECONDS)
            return _result(crowd, turns * burst, dashboards, start)

        yield run


@asynccontextmanager
async def _prepared(
    site: Site, dashboards: int, peer_port: int, peer_feed_port: int
) -> AsyncIterator[tuple[Crowd, "Feed"]]:
    async with asyncio.TaskGroup() as group, AsyncExitStack() as opened:
        if peer_port:
            await opened.enter_async_context(_open_bridge(site, peer_feed_port))
        crowd = await opened.enter_async_context(open_crowd(site, dashboards, peer_port))
        clients = [await connect_http(site.ingest, site.token()) for _ in range(CALLERS)]
        feed = Feed(clients, group)
        await _one_by_one(crowd, feed, WARM_UPS)
        crowd.forget()
        yield crowd, feed
        await feed.close()


async def _one_by_one(crowd: Crowd, feed: "Feed", events: int) -> None:
    for number in range(1, events + 1):
        rest = asyncio.create_task(asyncio.sleep(SINGLE_SECONDS))
        await feed.send(1)
        await crowd.saw(number, timeout=EVENT_SECONDS)
        await rest


def _result(crowd: Crowd, events: int, dashboards: int, start: float) -> Result:
    crowd.check(events)
    elapsed, deliveries = crowd.arrived_at - start, events * dashboards
    return {
        "clients": dashboards,
        "updates": events + WARM_UPS,
        "deliveries": deliveries,
        "seconds": elapsed,
        "rate": deliveries / elapsed,
        **summary_ms(crowd.delays(recorded_times(crowd.witnessed()))),
    }


class Caller:
    """A sender with orders of its own, so that no caller waits for another's."""

    def __init__(self, client: HttpClient) -> None:
        run_id, time = token_hex(4), format_time(now())
        self.client = client
        self._steps = lifecycles(run_id, time)
        self._conveyor = Conveyor(f"{run_id}-b", time)

    async def send(self, size: int) -> None:
        """An update by itself, or a batch; returns with the answer, which is checked."""
        if size == 1:
            await self.client.send(next(self._steps))
        else:
            await self.client.send_batch(self._conveyor.next_batch(size))


class Feed:
    """Updates of several callers, whose requests run in `group`: a wrong answer ends the measurement."""

    def __init__(self, clients: list[HttpClient], group: asyncio.TaskGroup) -> None:
        self._group = group
        self._free: asyncio.Queue[Caller] = asyncio.Queue()
        for client in clients:
            self._free.put_nowait(Caller(client))

    async def send(self, size: int) -> None:
        """Sends `size` updates together. Returns when they are on their way."""
        caller = await self._free.get()
        self._group.create_task(self._send(caller, size))

    async def _send(self, caller: Caller, size: int) -> None:
        await caller.send(size)
        self._free.put_nowait(caller)

    async def close(self) -> None:
        """Waits for the answers, then closes the connections."""
        for _ in range(CALLERS):
            (await self._free.get()).client.close()


class Bridge(SocketClient):
    """Sees every event at the notifier, and passes each by itself to the peer, which is one hop more.

    So the peer gets the same bytes at the same times, while the same work goes on around it.
    """

    def __init__(self, door: Door, writer: asyncio.StreamWriter) -> None:
        super().__init__(door)
        self._writer = writer
        self.live: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def received(self, data: bytes, start: int, end: int) -> None:
        message = orjson.loads(data[start:end])
        if message["type"] == "live":
            self.live.set_result(None)
        for event in message.get("events", ()):
            self._writer.write(orjson.dumps(message | {"events": [event]}) + b"\n")

    def lost(self, reason: str) -> None:
        if not self.live.done():
            self.live.set_exception(WrongResult(f"the notifier: {reason}"))


@asynccontextmanager
async def _open_bridge(site: Site, peer_feed_port: int) -> AsyncIterator[None]:
    async with open_peer_feed(peer_feed_port) as writer:
        bridge = Bridge(notifier_door(site.notifier, subscribe_request(site.token())), writer)
        await bridge.connect()
        await bridge.live
        yield
        bridge.leave()


@asynccontextmanager
async def open_peer_feed(port: int) -> AsyncIterator[asyncio.StreamWriter]:
    """The connection on which the peer takes the messages to broadcast, one a line."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    yield writer
    writer.close()
