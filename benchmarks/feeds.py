"""Where the events of a crowd come from: updates sent to ingest, and from the notifier on to the peer."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson

from benchmarks.http_client import IngestClient, connect_ingest
from benchmarks.load_process import WrongResult
from benchmarks.socket_client import Door, SocketClient
from benchmarks.workload import Conveyor, Step, lifecycles, operation_of
from shared.timestamps import format_time, now

CALLERS = 32
"""At 200 updates a second each may take 160 ms."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A sender with orders of its own, so that no caller waits for another's."""

    client: IngestClient
    steps: Iterator[Step]
    conveyor: Conveyor

    async def send(self, size: int) -> None:
        """An update by itself, or a batch; returns with the answer, which is checked."""
        if size == 1:
            await self.client.send(next(self.steps))
        else:
            steps = self.conveyor.next_batch(size)
            await self.client.send_batch(steps, [operation_of(step) for step in steps])


class IngestFeed:
    """The real thing: update, commit, announcement."""

    def __init__(self, callers: list[Caller], group: asyncio.TaskGroup) -> None:
        self._callers = callers
        self._group = group
        self._free: asyncio.Queue[Caller] = asyncio.Queue()
        for caller in callers:
            self._free.put_nowait(caller)

    async def send(self, size: int) -> None:
        """Has `size` updates made together. Returns when they are on their way."""
        caller = await self._free.get()
        self._group.create_task(self._send(caller, size))

    async def _send(self, caller: Caller, size: int) -> None:
        await caller.send(size)
        self._free.put_nowait(caller)

    async def close(self) -> None:
        """Waits for the answers, then closes the connections."""
        for _ in self._callers:
            (await self._free.get()).client.close()


async def open_ingest_feed(url: str, token: str, run_id: str, group: asyncio.TaskGroup) -> IngestFeed:
    """A feed whose requests run in `group`, so that a wrong answer ends the measurement."""
    time_text = format_time(now())
    return IngestFeed(
        [
            Caller(
                await connect_ingest(url, token),
                lifecycles(f"{run_id}-{number}", time_text),
                Conveyor(f"{run_id}-b{number}", time_text),
            )
            for number in range(CALLERS)
        ],
        group,
    )


class Bridge(SocketClient):
    """Sees every event at the notifier, and hands each by itself to the peer, which is one hop more.

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
async def open_bridge(door: Door, peer_feed_port: int) -> AsyncIterator[None]:
    """The peer broadcasts what happens at the notifier (`door`) while the body runs.

    Raises:
        WrongResult: the notifier lets nobody watch.
        OSError: one of the two cannot be reached.
    """
    async with open_peer_feed(peer_feed_port) as writer:
        bridge = Bridge(door, writer)
        await bridge.connect()
        await bridge.live
        yield
        bridge.leave()


@asynccontextmanager
async def open_peer_feed(port: int) -> AsyncIterator[asyncio.StreamWriter]:
    """Where the peer takes what it broadcasts, one message a line."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    yield writer
    writer.close()
