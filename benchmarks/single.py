"""Single updates: callers who each send one after the other and wait for the outcome."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from secrets import token_hex
from time import perf_counter
from typing import Any

from benchmarks.http_client import IngestClient, connect_ingest
from benchmarks.load_process import Result, Run, serve_load
from benchmarks.measurement import Measurement
from benchmarks.percentiles import summary_ms
from benchmarks.stack_under_test import StackUnderTest
from benchmarks.workload import lifecycles
from shared.timestamps import format_time, now

CALLERS = 64
SECONDS = 20.0


@dataclass(frozen=True)
class Parameters:
    """What the load process is told."""

    ingest_url: str
    token: str
    callers: int
    seconds: float


async def measure(stack: StackUnderTest, seconds: float | None) -> Measurement:
    """The rate of 64 callers, and how long each call took. Every outcome is checked."""
    duration = SECONDS if seconds is None else seconds
    parameters = Parameters(stack.ingest_url, stack.token(), CALLERS, duration)
    return await stack.measure_orders("single", __name__, asdict(parameters), duration)


@asynccontextmanager
async def prepare(parameters: dict[str, Any]) -> AsyncIterator[Run]:
    """Connects the callers."""
    wanted = Parameters(**parameters)
    clients = [await connect_ingest(wanted.ingest_url, wanted.token) for _ in range(wanted.callers)]

    async def run() -> Result:
        return await _run(clients, wanted.seconds)

    yield run
    for client in clients:
        client.close()


async def _run(clients: list[IngestClient], seconds: float) -> Result:
    run_id = token_hex(4)
    times: list[float] = []
    start = perf_counter()
    async with asyncio.TaskGroup() as group:
        for number, client in enumerate(clients):
            group.create_task(_call(client, f"{run_id}-{number}", start + seconds, times))
    elapsed = perf_counter() - start
    return {"updates": len(times), "seconds": elapsed, "rate": len(times) / elapsed, **summary_ms(times)}


async def _call(client: IngestClient, prefix: str, end: float, times: list[float]) -> None:
    for step in lifecycles(prefix, format_time(now())):
        sent = perf_counter()
        if sent >= end:
            return
        await client.send(step)
        times.append(perf_counter() - sent)


if __name__ == "__main__":
    serve_load(prepare)
