"""Loads on the whole system: single updates, batches, and one update at a time from POST to its event."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from functools import partial
from itertools import islice
from secrets import token_hex
from time import perf_counter

import orjson

from benchmarks.crowd import Crowd, open_crowd, recorded_times
from benchmarks.http_client import HttpClient, connect_http
from benchmarks.load import Result, Run, Site, WrongResult, closed_loops, summary_ms
from benchmarks.workload import Conveyor, Step, lifecycles
from tracking_shared.contracts.timestamps import format_time, now

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

    async def run() -> Result:
        run_id, time = token_hex(4), format_time(now())
        calls = [
            partial(_send_next, client, lifecycles(f"{run_id}-{number}", time))
            for number, client in enumerate(clients)
        ]
        return (await closed_loops(calls, seconds))[0]

    yield run


async def _send_next(client: HttpClient, steps: Iterator[Step]) -> None:
    await client.send(next(steps))


async def batches(site: Site, connections: int, operations: int, seconds: float) -> AsyncIterator[Run]:
    """The rate at which updates are committed and published: from the first request to the last event."""
    clients = [await connect_http(site.ingest, site.token()) for _ in range(connections)]
    async with open_crowd(site, 1) as crowd:

        async def run() -> Result:
            run_id, time = token_hex(4), format_time(now())
            calls = [
                partial(_send_batch, client, Conveyor(f"{run_id}-{number}", time), operations)
                for number, client in enumerate(clients)
            ]
            result, start = await closed_loops(calls, seconds, operations)
            await crowd.saw(int(result["updates"]), timeout=DRAIN_SECONDS)
            events = len(recorded_times(crowd.witnessed()))
            answered = result["seconds"]
            elapsed = max(crowd.arrived_at - start, answered)
            rate = result["updates"] / elapsed
            drain = {"drain_ms": (elapsed - answered) * 1000, "events": events}
            return result | drain | {"seconds": elapsed, "rate": rate}

        yield run


async def _send_batch(client: HttpClient, conveyor: Conveyor, operations: int) -> None:
    await client.send_batch(conveyor.next_batch(operations))


async def latency(site: Site, samples: int) -> AsyncIterator[Run]:
    """Times from POST to event on an idle system, and to the answer of the POST."""
    client = await connect_http(site.ingest, site.token())
    async with open_crowd(site, 1) as crowd:

        async def run() -> Result:
            start = perf_counter()
            steps = list(islice(lifecycles(token_hex(4), format_time(now())), WARM_UPS + samples))
            times = [await _sample(client, crowd, number, step) for number, step in enumerate(steps, 1)]
            seconds = perf_counter() - start
            _check_order(steps, crowd.witnessed())
            to_event, to_answer = map(summary_ms, zip(*times[WARM_UPS:], strict=True))
            answers = {f"answer_{name}": to_answer[name] for name in ("p50_ms", "p99_ms")}
            return {"updates": len(steps), "events": len(steps), "seconds": seconds, **to_event, **answers}

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
        raise WrongResult("the events came in another order than the updates")


async def idle(site: Site, connections: int, peer_port: int = 0, **_: int) -> AsyncIterator[Run]:
    """Connections on which nothing happens. The connecting is what is measured."""
    async with AsyncExitStack() as opened:

        async def run() -> Result:
            start = perf_counter()
            await opened.enter_async_context(open_crowd(site, connections, peer_port))
            elapsed = perf_counter() - start
            await asyncio.sleep(1)  # the last of the handshakes end
            return {"clients": connections, "seconds": elapsed}

        yield run
