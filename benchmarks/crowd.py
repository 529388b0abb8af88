"""A thousand dashboards that all see the same: they count what arrives, and every tenth takes the time."""

import asyncio
from array import array
from collections.abc import Callable
from datetime import datetime
from time import perf_counter, time

import orjson

from benchmarks.load_process import WrongResult
from benchmarks.socket_client import EVENT_MARK, LIVE_HEAD, Door, SocketClient

TIMED_SHARE = 10
"""Enough for a 99th percentile, and it leaves the machine to the server."""

CONNECTING_AT_ONCE = 100
CONNECT_SECONDS = 30


class Spectator(SocketClient):
    """One of a crowd."""

    def __init__(self, crowd: "Crowd", *, timed: bool, witness: bool) -> None:
        super().__init__(crowd.door)
        self.seen = 0
        """Events."""
        self.arrivals: array[float] | None = array("d") if timed else None
        """`time` of each event."""
        self.messages: list[bytes] | None = [] if witness else None
        self._crowd = crowd

    def forget(self) -> None:
        """Begins to count anew."""
        self.seen = 0
        for kept in (self.arrivals, self.messages):
            if kept is not None:
                del kept[:]

    def opened(self) -> None:
        if not self._crowd.waits_for_live:
            self._crowd.count_ready()

    def received(self, data: bytes, start: int, end: int) -> None:
        events = data.count(EVENT_MARK, start, end)
        if not events:
            self._without_events(data[start:end])
            return
        self.seen += events
        if self.arrivals is not None:
            self.arrivals.extend([time()] * events)
        if self.messages is not None:
            self.messages.append(data[start:end])
        self._crowd.count_events(events)

    def lost(self, reason: str) -> None:
        self._crowd.lose(reason)

    def _without_events(self, message: bytes) -> None:
        if message.startswith(LIVE_HEAD):
            self._crowd.cursor = orjson.loads(message)["cursor"]
            self._crowd.count_ready()
        else:
            self._crowd.lose(f"a server sends {message[:300]!r}")


class Crowd:
    """All of them. The first one is the witness: it keeps what it gets."""

    def __init__(self, door: Door, *, waits_for_live: bool) -> None:
        self.door = door
        self.waits_for_live = waits_for_live
        self.arrived_at = 0.0
        """`perf_counter` at the newest arrival that was waited for."""
        self.cursor = ""
        """Where the newest of them began."""
        self._spectators: list[Spectator] = []
        self._ready = 0
        self._delivered = 0
        self._awaited = 0
        self._progress = asyncio.Event()
        self._fault: str | None = None

    async def gather(self, number: int) -> None:
        """Returns when `number` connections see whatever happens from then on.

        Raises:
            WrongResult: the server does not take them.
            OSError: it cannot be reached.
        """
        for first in range(0, number, CONNECTING_AT_ONCE):
            group = [
                Spectator(self, timed=index % TIMED_SHARE == 0, witness=index == 0)
                for index in range(first, min(first + CONNECTING_AT_ONCE, number))
            ]
            self._spectators += group
            await asyncio.gather(*(spectator.connect() for spectator in group))
            await self._until(lambda: self._ready == len(self._spectators), CONNECT_SECONDS, "connected")

    async def saw(self, events: int, *, timeout: float) -> None:
        """Returns when `events` have come to every one.

        Raises:
            WrongResult: they have not in time, or a connection was lost.
        """
        self._awaited = events * len(self._spectators)
        await self._until(lambda: self._delivered >= self._awaited, timeout, "delivered")
        self.arrived_at = perf_counter()

    def check(self, events: int) -> None:
        """Raises `WrongResult` unless every one saw exactly this many events."""
        for spectator in self._spectators:
            if spectator.seen != events:
                raise WrongResult(f"a dashboard saw {spectator.seen} events instead of {events}")

    def witnessed(self) -> list[bytes]:
        """The messages with events, in their order, as each of them got them."""
        return self._spectators[0].messages or []

    def delays(self, since: list[float]) -> list[float]:
        """Seconds from the times `since` (`time` of each event, in the order of arrival) to the arrivals."""
        timed = [spectator.arrivals for spectator in self._spectators if spectator.arrivals is not None]
        return [arrival - began for times in timed for arrival, began in zip(times, since, strict=True)]

    def forget(self) -> None:
        """Begins to count anew."""
        self._delivered = 0
        for spectator in self._spectators:
            spectator.forget()

    def leave(self) -> None:
        """Cuts all connections."""
        self._fault = "left"
        for spectator in self._spectators:
            spectator.leave()

    def count_ready(self) -> None:
        """One more sees what happens."""
        self._ready += 1
        self._progress.set()

    def count_events(self, number: int) -> None:
        """One of them got `number` events."""
        self._delivered += number
        if self._delivered >= self._awaited:
            self._progress.set()

    def lose(self, reason: str) -> None:
        """One of them cannot go on, so the measurement cannot."""
        self._fault = self._fault or reason
        self._progress.set()

    async def _until(self, holds: Callable[[], bool], seconds: float, what: str) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not holds():
                    if self._fault is not None:
                        raise WrongResult(f"a dashboard was lost: {self._fault}")
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            raise WrongResult(
                f"{what} in time: {self._ready} of {len(self._spectators)} connections, "
                f"{self._delivered} of {self._awaited} events"
            ) from None


def recorded_times(messages: list[bytes]) -> list[float]:
    """When each event of these messages was decided, as `time` counts; to the millisecond, downwards.

    Raises:
        WrongResult: an event is missing or repeated.
    """
    times: list[float] = []
    newest: dict[int, int] = {}
    for message in messages:
        for event in orjson.loads(message)["events"]:
            partition, seq = event["partition"], int(event["sequence"])
            if seq != newest.get(partition, seq - 1) + 1:
                raise WrongResult(f"partition {partition}: event {seq} after {newest[partition]}")
            newest[partition] = seq
            times.append(datetime.fromisoformat(event["time"]).timestamp())
    return times
