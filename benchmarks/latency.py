"""Idle latency: one update at a time, from sending its POST to its event in a dashboard."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from secrets import token_hex
from time import perf_counter
from typing import Any

from benchmarks.http_client import IngestClient, connect_ingest
from benchmarks.load_process import Result, Run, WrongResult, serve_load
from benchmarks.measurement import Measurement
from benchmarks.percentiles import summary_ms
from benchmarks.stack_under_test import StackUnderTest
from benchmarks.viewer import Viewer, open_viewer
from benchmarks.workload import Step, lifecycles
from shared.timestamps import format_time, now

SAMPLES = 300
WARM_UPS = 10
"""First calls pay for connections and caches; they are checked but not counted."""

PAUSE_SECONDS = 0.01
"""Between samples, so that the acknowledgements of one are through before the next is sent."""

EVENT_SECONDS = 10


@dataclass(frozen=True)
class Parameters:
    """What the load process is told."""

    ingest_url: str
    notifier_url: str
    token: str
    samples: int


async def measure(stack: StackUnderTest, samples: int | None) -> Measurement:
    """Times from POST to event on an idle system, and to the answer of the POST."""
    number = SAMPLES if samples is None else samples
    parameters = Parameters(stack.ingest_url, stack.notifier_url, stack.token(), number)
    return await stack.measure_orders("latency", __name__, asdict(parameters), seconds=number * 0.1)


@asynccontextmanager
async def prepare(parameters: dict[str, Any]) -> AsyncIterator[Run]:
    """Connects the sender and the dashboard."""
    wanted = Parameters(**parameters)
    client = await connect_ingest(wanted.ingest_url, wanted.token)
    async with open_viewer(wanted.notifier_url, wanted.token) as viewer:

        async def run() -> Result:
            return await _run(client, viewer, wanted.samples)

        yield run
    client.close()


async def _run(client: IngestClient, viewer: Viewer, samples: int) -> Result:
    to_event: list[float] = []
    to_answer: list[float] = []
    start = perf_counter()
    for step in islice(lifecycles(token_hex(4), format_time(now())), WARM_UPS + samples):
        event_time, answer_time = await _sample(client, viewer, step)
        to_event.append(event_time)
        to_answer.append(answer_time)
        await asyncio.sleep(PAUSE_SECONDS)
    answers = summary_ms(to_answer[WARM_UPS:])
    return {
        "updates": len(to_event),
        "events": viewer.seen,
        "seconds": perf_counter() - start,
        **summary_ms(to_event[WARM_UPS:]),
        "answer_p50_ms": answers["p50_ms"],
        "answer_p99_ms": answers["p99_ms"],
    }


async def _sample(client: IngestClient, viewer: Viewer, step: Step) -> tuple[float, float]:
    expected = viewer.seen + 1
    sent = perf_counter()
    await client.send(step)
    answered = perf_counter()
    await viewer.saw(expected, timeout=EVENT_SECONDS)
    if viewer.update_id != step.update_id:
        raise WrongResult(f"the event of {viewer.update_id} came instead of that of {step.update_id}")
    return viewer.arrived_at - sent, answered - sent


if __name__ == "__main__":
    serve_load(prepare)
