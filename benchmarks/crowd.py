"""A thousand dashboards that all see the same: they count events, and every tenth takes the time."""

import asyncio
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from time import perf_counter, time
from urllib.parse import urlsplit

import orjson

from benchmarks.load import BenchmarkFailed, Site
from benchmarks.socket_client import TEXT, Door, SocketClient, client_frame
from benchmarks.workload import EVERY_STATUS

TIMED_SHARE = 10
"""Enough for a 99th percentile, and it leaves the machine to the server."""

CONNECTING_AT_ONCE = 100
CONNECT_SECONDS = 30

EVENT_MARK = b'"specversion"'
"""Once in every event: what is counted instead of parsing a hundred thousand messages a second."""

LIVE_HEAD = b'{"type":"live"'


def door_of(site: Site, request: bytes) -> Door:
    """The stream of the notifier, or of the peer if there is one; `request` is the first message, if any."""
    address = urlsplit(f"ws://127.0.0.1:{site.peer_port}/" if site.peer_port else site.notifier)
    first = client_frame(TEXT, request) if request else b""
    return Door(address.hostname or "", address.port or 80, address.path, first)


def event_stream_door(site: Site) -> Door:
    """The stream of the notifier as server-sent events, with the request for it."""
    address = urlsplit(site.notifier)
    query = "&".join(["snapshot=false", *(f"status={status}" for status in EVERY_STATUS)])
    lines = (
        f"GET {address.path}?{query} HTTP/1.1",
        f"Host: {address.netloc}",
        "Accept: text/event-stream",
        f"Authorization: Bearer {site.token()}",
    )
    request = "\r\n".join([*lines, "", ""]).encode()
    return Door(address.hostname or "", address.port or 80, address.path, request, is_event_stream=True)


def subscribe_request(token: str, **more: str) -> bytes:
    """Asks for all orders that the token allows: from now on, or what was missed since `after`."""
    wanted = {"status": EVERY_STATUS}
    request = {"type": "subscribe", "token": token, "filter": wanted, "snapshot": False}
    return orjson.dumps(request | more)


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

    def opened(self) -> None:
        if not self._door.first:  # the peer's say nothing, and get no `live`
            self._crowd.count_ready()

    def received(self, data: bytes, start: int, end: int) -> None:
        events = data.count(EVENT_MARK, start, end)
        if not events:
            message = data[start:end]
            if message.startswith(LIVE_HEAD):
                self._crowd.count_ready(orjson.loads(message)["cursor"])
            else:
                self.lost(f"a server sends {message[:300]!r}")
            return
        self.seen += events
        if self.arrivals is not None:
            self.arrivals.extend([time()] * events)
        if self.messages is not None:
            self.messages.append(data[start:end])
        self._crowd.count_events(events)

    def lost(self, reason: str) -> None:
        self._crowd.fail(reason)


class Crowd:
    """All of them. The first one is the witness: it keeps its messages."""

    def __init__(self, door: Door) -> None:
        self.door = door
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
        """Returns when `number` connections see all events from then on."""
        for first in range(0, number, CONNECTING_AT_ONCE):
            group = [
                Spectator(self, timed=index % TIMED_SHARE == 0, witness=index == 0)
                for index in range(first, min(first + CONNECTING_AT_ONCE, number))
            ]
            self._spectators += group
            await asyncio.gather(*(spectator.connect() for spectator in group))
            await self._until(lambda: self._ready == len(self._spectators), CONNECT_SECONDS)

    async def saw(self, events: int, *, timeout: float) -> None:
        """Returns when `events` have come to every one."""
        self._awaited = events * len(self._spectators)
        await self._until(lambda: self._delivered >= self._awaited, timeout)

    def check(self, events: int) -> None:
        """Fails unless every one saw exactly this many events."""
        if wrong := [spectator.seen for spectator in self._spectators if spectator.seen != events]:
            raise BenchmarkFailed(f"a dashboard saw {wrong[0]} events instead of {events}")

    def witnessed(self) -> list[bytes]:
        """The messages with events, in their order, as each of them got them."""
        return self._spectators[0].messages or []

    def delays(self, skip: int) -> list[float]:
        """Seconds from the decision of each event but the first ones to its arrivals."""
        since = recorded_times(self.witnessed())[skip:]
        timed = [
            spectator.arrivals[skip:] for spectator in self._spectators if spectator.arrivals is not None
        ]
        return [arrival - began for times in timed for arrival, began in zip(times, since, strict=True)]

    def leave(self) -> None:
        """Cuts all connections."""
        self._fault = "left"
        for spectator in self._spectators:
            spectator.leave()

    def count_ready(self, cursor: str = "") -> None:
        """One more is connected, at this position."""
        self._ready += 1
        self.cursor = cursor
        self._progress.set()

    def count_events(self, number: int) -> None:
        """One of them got `number` events."""
        self._delivered += number
        if self._delivered >= self._awaited:
            self.arrived_at = perf_counter()
            self._progress.set()

    def fail(self, reason: str) -> None:
        """One of them has failed, and so has the measurement."""
        self._fault = self._fault or reason
        self._progress.set()

    async def _until(self, holds: Callable[[], bool], seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not holds():
                    if self._fault is not None:
                        raise BenchmarkFailed(f"a dashboard was lost: {self._fault}")
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            raise BenchmarkFailed(
                f"after {seconds} s: {self._ready} of {len(self._spectators)} connections, "
                f"{self._delivered} of {self._awaited} events"
            ) from None


def recorded_times(messages: list[bytes]) -> list[float]:
    """The time at which each event was decided, to the millisecond, downwards. No event may be missing."""
    times: list[float] = []
    newest: dict[int, int] = {}
    for event in (event for message in messages for event in orjson.loads(message)["events"]):
        partition, seq = event["partition"], int(event["sequence"])
        if seq != newest.get(partition, seq - 1) + 1:
            raise BenchmarkFailed(f"partition {partition}: event {seq} after {newest[partition]}")
        newest[partition] = seq
        times.append(datetime.fromisoformat(event["time"]).timestamp())
    return times


@asynccontextmanager
async def open_crowd(site: Site, number: int, *, event_stream: bool = False) -> AsyncIterator[Crowd]:
    """So many dashboards at the notifier, or at the peer, while the body runs."""
    first = b"" if site.peer_port else subscribe_request(site.token())
    crowd = Crowd(event_stream_door(site) if event_stream else door_of(site, first))
    await crowd.gather(number)
    yield crowd
    crowd.leave()
