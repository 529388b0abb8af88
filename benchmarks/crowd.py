"""A thousand dashboards that all see the same: they count events, and every tenth takes the time."""

import asyncio
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from time import perf_counter, time

import orjson

from benchmarks.load import Site, WrongResult
from benchmarks.socket_client import (
    EVENT_MARK,
    LIVE_HEAD,
    Door,
    SocketClient,
    notifier_door,
    peer_door,
    subscribe_request,
)

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
            message = data[start:end]
            if message.startswith(LIVE_HEAD):
                self._crowd.cursor = orjson.loads(message)["cursor"]
                self._crowd.count_ready()
            else:
                self._crowd.lose(f"a server sends {message[:300]!r}")
            return
        self.seen += events
        if self.arrivals is not None:
            self.arrivals.extend([time()] * events)
        if self.messages is not None:
            self.messages.append(data[start:end])
        self._crowd.count_events(events)

    def lost(self, reason: str) -> None:
        self._crowd.lose(reason)


class Crowd:
    """All of them. The first one is the witness: it keeps its messages."""

    def __init__(self, door: Door, *, waits_for_live: bool) -> None:
        self.door = door
        self.waits_for_live = waits_for_live
        self.arrived_at = 0.0
        """`perf_counter` when the newest event came that completes the awaited ones, or comes after them."""
        self.cursor = ""
        """Of the newest connection, at its start."""
        self._spectators: list[Spectator] = []
        self._ready = 0
        self._delivered = 0
        self._awaited = 0
        self._progress = asyncio.Event()
        self._fault: str | None = None

    async def gather(self, number: int) -> None:
        """Returns when `number` connections see all events from then on.

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

    def check(self, events: int) -> None:
        """Raises `WrongResult` unless every one saw exactly this many events."""
        if wrong := [spectator.seen for spectator in self._spectators if spectator.seen != events]:
            raise WrongResult(f"a dashboard saw {wrong[0]} events instead of {events}")

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
        """One more is connected."""
        self._ready += 1
        self._progress.set()

    def count_events(self, number: int) -> None:
        """One of them got `number` events."""
        self._delivered += number
        if self._delivered >= self._awaited:
            self.arrived_at = perf_counter()
            self._progress.set()

    def lose(self, reason: str) -> None:
        """One of them has failed, and so has the measurement."""
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
    """The time at which each event of these messages was decided; to the millisecond, downwards.

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


@asynccontextmanager
async def open_crowd(site: Site, number: int, peer_port: int = 0) -> AsyncIterator[Crowd]:
    """So many dashboards at the notifier, or at the peer, while the body runs."""
    door = (
        peer_door(peer_port) if peer_port else notifier_door(site.notifier, subscribe_request(site.token()))
    )
    crowd = Crowd(door, waits_for_live=not peer_port)
    await crowd.gather(number)
    yield crowd
    crowd.leave()
