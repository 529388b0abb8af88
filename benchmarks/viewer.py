"""A dashboard: a WebSocket client that sees every event, and notices each one that is missing or repeated."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from benchmarks.load_process import WrongResult
from benchmarks.socket_client import subscribe_request

CONNECT_SECONDS = 10

_MAX_MESSAGE_BYTES = 16 * 1024 * 1024


class Viewer:
    """Counts events. They must come in seq order, without holes, per partition."""

    def __init__(self, socket: ClientConnection) -> None:
        self.seen = 0
        self.arrived_at = 0.0
        """`perf_counter` when the newest message arrived."""
        self.update_id = ""
        """Of the newest event."""
        self._socket = socket
        self._seqs: dict[int, int] = {}
        """By partition: the newest event."""
        self._progress = asyncio.Event()

    async def subscribe(self, token: str) -> None:
        """Returns when the stream is live. All events from then on will be seen.

        Raises:
            WrongResult: the notifier sends something else.
        """
        await self._socket.send(subscribe_request(token), text=True)
        message = await self._next()
        if message["type"] != "live":
            raise WrongResult(f"the stream begins with {str(message)[:300]}")

    async def watch(self) -> None:
        """Counts until cancelled.

        Raises:
            WrongResult: an event is missing or repeated, or the stream ended.
        """
        while True:
            message = await self._next()
            self.arrived_at = perf_counter()
            if message["type"] != "events":
                raise WrongResult(f"instead of events the notifier sends {str(message)[:300]}")
            for event in message["events"]:
                self._count(event)
            self.update_id = message["events"][-1]["data"]["update_id"]
            self._progress.set()

    async def saw(self, number: int, *, timeout: float) -> None:
        """Returns when `number` events have been seen.

        Raises:
            WrongResult: they did not come in time.
        """
        try:
            async with asyncio.timeout(timeout):
                while self.seen < number:
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            raise WrongResult(f"{self.seen} of {number} events were received in time") from None

    def _count(self, event: dict[str, Any]) -> None:
        partition, seq = event["partition"], int(event["sequence"])
        # The cursor does not say where a partition begins; `saw` notices if its first event is missing.
        if seq != self._seqs.get(partition, seq - 1) + 1:
            raise WrongResult(f"partition {partition}: event {seq} after {self._seqs[partition]}")
        self._seqs[partition] = seq
        self.seen += 1

    async def _next(self) -> dict[str, Any]:
        try:
            message: dict[str, Any] = orjson.loads(await self._socket.recv(decode=False))
        except ConnectionClosed as error:
            raise WrongResult(f"the notifier closed the stream: {error}") from None
        return message


@asynccontextmanager
async def open_viewer(url: str, token: str) -> AsyncIterator[Viewer]:
    """A viewer that counts while the body runs. What it finds wrong ends the body.

    Raises:
        WrongResult: alone or in a group: what it saw is not what was to be seen.
        OSError: the notifier cannot be reached.
    """
    async with connect(url, proxy=None, max_size=_MAX_MESSAGE_BYTES, compression=None) as socket:
        viewer = Viewer(socket)
        async with asyncio.timeout(CONNECT_SECONDS):
            await viewer.subscribe(token)
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(viewer.watch())
            yield viewer
            watching.cancel()
