"""A crowd of dashboards: the server's cost of each event on its way to each of them, and the time it takes.

Real updates go through the whole system, whether the crowd is at the notifier or at the peer, which then
broadcasts the same events as the notifier shows them to one client. So both work on an equally busy machine.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from time import perf_counter

import orjson

from benchmarks.crowd import Crowd, door_of, open_crowd, subscribe_request
from benchmarks.http_client import HttpClient, connect_http
from benchmarks.load import BenchmarkFailed, Result, Run, Site, summary_ms
from benchmarks.socket_client import Door, SocketClient
from benchmarks.workload import Conveyor, Step, lifecycles

CALLERS = 32
"""At 200 updates a second each may take 160 ms."""

WARM_UPS = 50
"""Not counted: first calls pay for connections and caches, and the peer is compiled while it runs."""

SINGLE_SECONDS = 0.04
"""From one single event to the next: the server is idle in between."""

Caller = tuple[HttpClient, Iterator[Step], Conveyor]

PER_SECOND = 200
EVENT_SECONDS = 30
DRAIN_SECONDS = 60


async def fan_out(
    site: Site,
    dashboards: int,
    burst: int,
    samples: int = 0,
    seconds: float = 0,
    *,
    event_stream: bool = False,
) -> AsyncIterator[Run]:
    """200 events a second, in bursts of so many, and later where the feed falls behind.

    With a burst of 0, one event at a time, when the one before has come to everybody. `event_stream`: to
    clients of server-sent events.
    """
    async with asyncio.TaskGroup() as group, AsyncExitStack() as opened:
        if site.peer_port:
            await opened.enter_async_context(_open_bridge(site))
        crowd = await opened.enter_async_context(open_crowd(site, dashboards, event_stream=event_stream))
        feed = Feed([await connect_http(site.ingest, site.token()) for _ in range(CALLERS)], group)
        await _one_by_one(crowd, feed, range(1, WARM_UPS + 1))

        async def run() -> Result:
            start = perf_counter()
            events = max(round(seconds * PER_SECOND / burst), 1) * burst if burst else samples
            updates = WARM_UPS + events
            if burst:
                for sent in range(0, events, burst):
                    await asyncio.sleep(max(start + sent / PER_SECOND - perf_counter(), 0))
                    await feed.send(burst)
                await crowd.saw(updates, timeout=DRAIN_SECONDS)
            else:
                await _one_by_one(crowd, feed, range(WARM_UPS + 1, updates + 1))
            crowd.check(updates)
            elapsed, deliveries = crowd.arrived_at - start, events * dashboards
            counts = {"clients": dashboards, "updates": updates, "deliveries": deliveries}
            times = summary_ms(crowd.delays(WARM_UPS))
            return {**counts, "seconds": elapsed, "rate": deliveries / elapsed, **times}

        yield run
        await feed.close()


async def _one_by_one(crowd: Crowd, feed: "Feed", numbers: range) -> None:
    for number in numbers:
        rest = asyncio.create_task(asyncio.sleep(SINGLE_SECONDS))
        await feed.send(1)
        await crowd.saw(number, timeout=EVENT_SECONDS)
        await rest


class Feed:
    """Updates of several callers, whose requests run in `group`: a wrong answer ends the measurement.

    Each caller has orders of its own, so that none waits for another's.
    """

    def __init__(self, clients: list[HttpClient], group: asyncio.TaskGroup) -> None:
        self._group = group
        self._free: asyncio.Queue[Caller] = asyncio.Queue()
        for client in clients:
            self._free.put_nowait((client, lifecycles(), Conveyor()))

    async def send(self, size: int) -> None:
        """Sends `size` updates together. Returns when they are on their way; the answer is checked."""
        caller = await self._free.get()
        self._group.create_task(self._send(caller, size))

    async def _send(self, caller: Caller, size: int) -> None:
        client, steps, conveyor = caller
        if size == 1:
            await client.send(next(steps))
        else:
            await client.send_batch(conveyor.next_batch(size))
        self._free.put_nowait(caller)

    async def close(self) -> None:
        """Waits for the answers, then closes the connections."""
        for _ in range(CALLERS):
            (await self._free.get())[0].close()


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
            self.live.set_exception(BenchmarkFailed(f"the notifier: {reason}"))


@asynccontextmanager
async def _open_bridge(site: Site) -> AsyncIterator[None]:
    async with open_peer_feed(site) as writer:
        bridge = Bridge(door_of(replace(site, peer_port=0), subscribe_request(site.token())), writer)
        await bridge.connect()
        await bridge.live
        yield
        bridge.leave()


@asynccontextmanager
async def open_peer_feed(site: Site) -> AsyncIterator[asyncio.StreamWriter]:
    """The connection on which the peer takes the messages to broadcast, one a line."""
    _, writer = await asyncio.open_connection("127.0.0.1", site.peer_feed_port)
    yield writer
    writer.close()


async def idle(site: Site, connections: int, *, event_stream: bool = False) -> AsyncIterator[Run]:
    """Connections on which nothing happens. The connecting is what is measured."""
    async with AsyncExitStack() as opened:

        async def run() -> Result:
            start = perf_counter()
            await opened.enter_async_context(open_crowd(site, connections, event_stream=event_stream))
            elapsed = perf_counter() - start
            await asyncio.sleep(1)  # the last of the handshakes end
            return {"clients": connections, "seconds": elapsed}

        yield run
