"""Batches: a few connections that send 500 operations a request, and a dashboard that sees every event."""

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
from benchmarks.viewer import Viewer, open_viewer
from benchmarks.workload import Conveyor, operation_of
from shared.timestamps import format_time, now

CONNECTIONS = 8
OPERATIONS = 500
SECONDS = 30.0

DRAIN_SECONDS = 60
"""How long events may take to arrive after the last answer. They should be there already."""


@dataclass(frozen=True)
class Parameters:
    """What the load process is told."""

    ingest_url: str
    notifier_url: str
    token: str
    connections: int
    operations: int
    seconds: float


async def measure(stack: StackUnderTest, seconds: float | None) -> Measurement:
    """The rate at which updates are committed and announced: from the first request to the last event."""
    duration = SECONDS if seconds is None else seconds
    parameters = Parameters(
        stack.ingest_url, stack.notifier_url, stack.token(), CONNECTIONS, OPERATIONS, duration
    )
    return await stack.measure_orders("batches", __name__, asdict(parameters), duration)


@asynccontextmanager
async def prepare(parameters: dict[str, Any]) -> AsyncIterator[Run]:
    """Connects the senders and the dashboard."""
    wanted = Parameters(**parameters)
    clients = [await connect_ingest(wanted.ingest_url, wanted.token) for _ in range(wanted.connections)]
    async with open_viewer(wanted.notifier_url, wanted.token) as viewer:

        async def run() -> Result:
            return await _run(clients, viewer, wanted)

        yield run
    for client in clients:
        client.close()


async def _run(clients: list[IngestClient], viewer: Viewer, wanted: Parameters) -> Result:
    run_id = token_hex(4)
    times: list[float] = []
    start = perf_counter()
    async with asyncio.TaskGroup() as group:
        for number, client in enumerate(clients):
            conveyor = Conveyor(f"{run_id}-{number}", format_time(now()))
            group.create_task(_send(client, conveyor, wanted.operations, start + wanted.seconds, times))
    answered = perf_counter() - start
    updates = len(times) * wanted.operations
    await viewer.saw(updates, timeout=DRAIN_SECONDS)
    elapsed = viewer.arrived_at - start
    return {
        "updates": updates,
        "events": viewer.seen,
        "seconds": max(elapsed, answered),
        "rate": updates / max(elapsed, answered),
        "drain_ms": max(elapsed - answered, 0.0) * 1000,
        **summary_ms(times),
    }


async def _send(
    client: IngestClient, conveyor: Conveyor, operations: int, end: float, times: list[float]
) -> None:
    while (sent := perf_counter()) < end:
        steps = conveyor.next_batch(operations)
        await client.send_batch(steps, [operation_of(step) for step in steps])
        times.append(perf_counter() - sent)


if __name__ == "__main__":
    serve_load(prepare)
