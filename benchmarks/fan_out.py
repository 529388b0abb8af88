"""A crowd of dashboards: what one event costs the server on its way to each of them, and how long it takes.

Real updates go through the whole system, whether the crowd is at the notifier or at the peer, which then
broadcasts the same events as the notifier shows them to one client. So both work on an equally busy machine.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from secrets import token_hex
from time import perf_counter
from typing import Any

from benchmarks.crowd import Crowd, recorded_times
from benchmarks.feeds import IngestFeed, open_bridge, open_ingest_feed
from benchmarks.load_process import Result, Run, serve_load
from benchmarks.measurement import Measurement
from benchmarks.percentiles import summary_ms
from benchmarks.socket_client import Door, notifier_door, subscribe_request
from benchmarks.stack_under_test import StackUnderTest
from benchmarks.ws_peer import start_peer

DASHBOARDS = 1000
SAMPLES = 250
SECONDS = 10.0

WARM_UPS = 50
"""Not counted: first calls pay for connections and caches, and the peer is compiled while it runs."""

SINGLE_SECONDS = 0.04
"""From one single event to the next: the server is idle in between."""

EVENT_SECONDS = 30
DRAIN_SECONDS = 60


@dataclass(frozen=True)
class Arrival:
    """How events come."""

    burst: int
    per_second: float | None
    """None: one at a time, when the one before has come to everybody."""


ARRIVALS = {
    "single": Arrival(burst=1, per_second=None),
    "stream": Arrival(burst=1, per_second=200),
    "bursts": Arrival(burst=20, per_second=200),
}


@dataclass(frozen=True)
class Parameters:
    """What the load process is told. Without a peer, the notifier is meant."""

    ingest_url: str
    notifier_url: str
    token: str
    arrival: str
    dashboards: int
    samples: int
    seconds: float
    peer_port: int = 0
    peer_feed_port: int = 0


async def measure(
    stack: StackUnderTest, arrival: str, samples: int | None, seconds: float | None
) -> Measurement:
    """The notifier's processor time a delivery."""
    wanted = _parameters(stack, arrival, samples, seconds)
    name = f"fan-out-{arrival}"
    measured = await stack.measure_orders(name, __name__, asdict(wanted), _planned_seconds(wanted))
    return measured.with_cost_of("notifier", "deliveries")


async def measure_peer(
    stack: StackUnderTest, arrival: str, samples: int | None, seconds: float | None
) -> Measurement:
    """The peer's."""
    async with start_peer() as peer:
        ports = {"peer_port": peer.port, "peer_feed_port": peer.feed_port}
        wanted = asdict(_parameters(stack, arrival, samples, seconds)) | ports
        planned = _planned_seconds(Parameters(**wanted))
        measured = await stack.measure(f"ws-{arrival}", __name__, wanted, planned, others={"ws": peer.pid})
    return measured.with_cost_of("ws", "deliveries")


def _parameters(
    stack: StackUnderTest, arrival: str, samples: int | None, seconds: float | None
) -> Parameters:
    return Parameters(
        stack.ingest_url,
        stack.notifier_url,
        stack.token(),
        arrival,
        DASHBOARDS,
        SAMPLES if samples is None else samples,
        SECONDS if seconds is None else seconds,
    )


def _planned_seconds(wanted: Parameters) -> float:
    return wanted.samples * SINGLE_SECONDS if ARRIVALS[wanted.arrival].per_second is None else wanted.seconds


@asynccontextmanager
async def prepare(parameters: dict[str, Any]) -> AsyncIterator[Run]:
    """Gathers the crowd and warms up."""
    wanted = Parameters(**parameters)
    stream = notifier_door(wanted.notifier_url, subscribe_request(wanted.token))
    async with asyncio.TaskGroup() as group, AsyncExitStack() as opened:
        if wanted.peer_port:
            await opened.enter_async_context(open_bridge(stream, wanted.peer_feed_port))
            crowd = Crowd(Door("127.0.0.1", wanted.peer_port, "/", b""), waits_for_live=False)
        else:
            crowd = Crowd(stream, waits_for_live=True)
        feed = await open_ingest_feed(wanted.ingest_url, wanted.token, token_hex(4), group)
        await crowd.gather(wanted.dashboards)
        await _one_by_one(crowd, feed, WARM_UPS)
        crowd.forget()

        async def run() -> Result:
            return await _run(crowd, feed, wanted)

        yield run
        crowd.leave()
        await feed.close()


async def _run(crowd: Crowd, feed: IngestFeed, wanted: Parameters) -> Result:
    start = perf_counter()
    if ARRIVALS[wanted.arrival].per_second is None:
        events = wanted.samples
        await _one_by_one(crowd, feed, events)
    else:
        events = await _steadily(feed, ARRIVALS[wanted.arrival], wanted.seconds)
        await crowd.saw(events, timeout=DRAIN_SECONDS)
    elapsed = crowd.arrived_at - start
    crowd.check(events)
    deliveries = events * wanted.dashboards
    return {
        "clients": wanted.dashboards,
        "updates": events + WARM_UPS,
        "deliveries": deliveries,
        "seconds": elapsed,
        "rate": deliveries / elapsed,
        **summary_ms(crowd.delays(recorded_times(crowd.witnessed()))),
    }


async def _one_by_one(crowd: Crowd, feed: IngestFeed, events: int) -> None:
    for number in range(1, events + 1):
        rest = asyncio.create_task(asyncio.sleep(SINGLE_SECONDS))
        await feed.send(1)
        await crowd.saw(number, timeout=EVENT_SECONDS)
        await rest


async def _steadily(feed: IngestFeed, arrival: Arrival, seconds: float) -> int:
    """Sends at a steady pace, and later where it falls behind. Returns how many events."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    interval = arrival.burst / (arrival.per_second or 1)
    turns = max(round(seconds / interval), 1)
    for turn in range(turns):
        await asyncio.sleep(max(start + turn * interval - loop.time(), 0))
        await feed.send(arrival.burst)
    return turns * arrival.burst


if __name__ == "__main__":
    serve_load(prepare)
