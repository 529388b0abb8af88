"""The floor of batches: transactions of 100 orders, events and outcomes, and nothing else around them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from secrets import token_hex
from time import perf_counter
from typing import Any

from benchmarks.floor_documents import write, writes_of
from benchmarks.load_process import Result, Run, serve_load
from benchmarks.percentiles import summary_ms
from shared.database import Database, open_database


@dataclass(frozen=True)
class Parameters:
    """What the load process is told."""

    mongodb_url: str
    at_once: int
    updates_each: int
    seconds: float


@asynccontextmanager
async def prepare(parameters: dict[str, Any]) -> AsyncIterator[Run]:
    """Sets up a database with the collections and indexes of the system."""
    wanted = Parameters(**parameters)
    async with open_database(wanted.mongodb_url, f"floor_{token_hex(4)}") as database:
        await database.prepare(wanted.at_once)

        async def run() -> Result:
            return await _run(database, wanted)

        yield run


async def _run(database: Database, wanted: Parameters) -> Result:
    times: list[float] = []
    start = perf_counter()
    async with asyncio.TaskGroup() as group:
        for lane in range(wanted.at_once):
            group.create_task(_loop(database, lane, wanted.updates_each, start + wanted.seconds, times))
    elapsed = perf_counter() - start
    updates = len(times) * wanted.updates_each
    return {"updates": updates, "seconds": elapsed, "rate": updates / elapsed, **summary_ms(times)}


async def _loop(database: Database, lane: int, size: int, end: float, times: list[float]) -> None:
    for number in count():
        started = perf_counter()
        if started >= end:
            return
        await write(database, writes_of(lane, number, size))
        times.append(perf_counter() - started)


if __name__ == "__main__":
    serve_load(prepare)
