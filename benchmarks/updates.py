"""Loads on the whole system: single updates, batches, and one update at a time from POST to its event."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from itertools import islice
from time import perf_counter

import orjson

from benchmarks.crowd import Crowd, open_crowd, recorded_times
from benchmarks.http_client import HttpClient, connect_http
from benchmarks.load import BenchmarkFailed, Result, Run, Site, closed_loops, summary_ms
from benchmarks.workload import Conveyor, Step, lifecycles

WARM_UPS = 10
"""First calls pay for connections and caches; they are checked but not counted."""

PAUSE_SECONDS = 0.01
"""Between samples, so that the acknowledgements of one are through before the next is sent."""

EVENT_SECONDS = 10
DRAIN_SECONDS = 60
"""Time for events to arrive after the last answer. They should be there already."""


async def single(site: Site, callers: int, seconds: float) -> AsyncIterator[Run]:
    """Callers who each send one update after the other and wait for the outcome. Every outcome is checked."""
    clients = [await connect_http(site.ingest, site.token()) for _ in range(callers)]

    async def send_next(client: HttpClient, steps: Iterator[Step]) -> None:
        await client.send(next(steps))

    async def run() -> Result:
        return (await closed_loops([partial(send_next, c, lifecycles()) for c in clients], seconds))[0]

    yield run


async def batches(site: Site, connections: int, operations: int, seconds: float) -> AsyncIterator[Run]:
    """The rate at which updates are committed and published: from the first request to the last event."""
    clients = [await connect_http(site.ingest, site.token()) for _ in range(connections)]

    async def send_batch(client: HttpClient, conveyor: Conveyor) -> None:
        await client.send_batch(conveyor.next_batch(operations))

    async with open_crowd(site, 1) as crowd:

        async def run() -> Result:
            calls = [partial(send_batch, client, Conveyor()) for client in clients]
            result, start = await closed_loops(calls, seconds, operations)
            await crowd.saw(int(result["updates"]), timeout=DRAIN_SECONDS)
            elapsed = max(crowd.arrived_at - start, result["seconds"])
            drain = {"drain_ms": (elapsed - result["seconds"]) * 1000}
            total = {"events": len(recorded_times(crowd.witnessed())), "seconds": elapsed}
            return result | drain | total | {"rate": result["updates"] / elapsed}

        yield run


async def latency(site: Site, samples: int) -> AsyncIterator[Run]:
    """Times from POST to event on an idle system, and to the answer of the POST."""
    client = await connect_http(site.ingest, site.token())
    async with open_crowd(site, 1) as crowd:

        async def run() -> Result:
            start = perf_counter()
            steps = list(islice(lifecycles(), WARM_UPS + samples))
            times = [await _sample(client, crowd, number, step) for number, step in enumerate(steps, 1)]
            seconds, number = perf_counter() - start, len(steps)
            _check_order(steps, crowd.witnessed())
            to_event, to_answer = map(summary_ms, zip(*times[WARM_UPS:], strict=True))
            answers = {f"answer_{name}": to_answer[name] for name in ("p50_ms", "p99_ms")}
            counts = {"updates": number, "events": number, "seconds": seconds, "rate": number / seconds}
            return {**counts, **to_event, **answers}

        yield run


async def _sample(client: HttpClient, crowd: Crowd, number: int, step: Step) -> tuple[float, float]:
    sent = perf_counter()
    await client.send(step)
    answered = perf_counter()
    await crowd.saw(number, timeout=EVENT_SECONDS)
    await asyncio.sleep(PAUSE_SECONDS)
    return crowd.arrived_at - sent, answered - sent


def _check_order(steps: list[Step], messages: list[bytes]) -> None:
    recorded_times(messages)
    seen = [event["data"]["update_id"] for message in messages for event in orjson.loads(message)["events"]]
    if seen != [step.update_id for step in steps]:
        raise BenchmarkFailed("the events came in another order than the updates")
