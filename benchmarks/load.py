"""A load runs in a process of its own, so that its cost can be separated from that of the system.

It is an async generator that prepares, then yields the function to measure. Over its pipes, one JSON document
a line: options in, `ready` out, `go` in, result out. It stays until its input ends, so that its cost
can be read.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from math import ceil
from time import perf_counter
from typing import Any

import orjson
import uvloop

from tracking.devstack.tokens import mint_token

Result = dict[str, float]
Run = Callable[[], Awaitable[Result]]


class BenchmarkFailed(Exception):
    """Something is missing, a load ended without a result, or the system gave a wrong answer."""


@dataclass(frozen=True)
class Site:
    """The addresses of the stack under test, and the secret of its tokens."""

    ingest: str
    query: str
    notifier: str
    console: str
    amqp_url: str
    mongodb_url: str
    jwt_secret: str
    pids: dict[str, int]
    peer_port: int = 0
    """Of the WebSockets of the peer; 0 where the notifier is measured."""
    peer_feed_port: int = 0
    """Of the TCP socket that takes the messages which the peer broadcasts, one a line."""

    def token(
        self, subject: str = "benchmark", scope: str = "orders:write orders:read", merchant: str = "*"
    ) -> str:
        """A token, by default one that may read and write everything, for an hour."""
        return mint_token(self.jwt_secret, subject=subject, scope=scope, merchants=[merchant])


def serve() -> None:
    """Runs the load `MODULE:FUNCTION` of the command line, as the other end of the pipes asks."""
    module, _, function = sys.argv[1].partition(":")
    options = orjson.loads(sys.stdin.readline())
    site = Site(**options.pop("site"))
    prepare = asynccontextmanager(getattr(import_module(f"benchmarks.{module}"), function))
    try:
        uvloop.run(_serve(prepare(site, **options)))
    except* (BenchmarkFailed, OSError, TimeoutError) as group:
        error = group.exceptions[0]
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        _write({"error": str(error) or type(error).__name__})


async def _serve(prepared: Any) -> None:
    async with prepared as run:
        _write({"ready": True})
        if await asyncio.to_thread(sys.stdin.readline):
            _write({"result": await run()})
            await asyncio.to_thread(sys.stdin.readline)


def _write(document: dict[str, Any]) -> None:
    print(orjson.dumps(document).decode(), flush=True)


def percentile(sorted_values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of all values do not exceed (nearest rank)."""
    return sorted_values[max(ceil(share * len(sorted_values)), 1) - 1]


def summary_ms(seconds: Iterable[float]) -> Result:
    """Median, 99th percentile and maximum of times, in milliseconds."""
    ordered = sorted(seconds)
    shares = {"p50_ms": 0.5, "p99_ms": 0.99, "max_ms": 1.0}
    return {name: percentile(ordered, share) * 1000 for name, share in shares.items()}


async def closed_loops(
    calls: Sequence[Callable[[], Awaitable[None]]], seconds: float, updates_each: int = 1
) -> tuple[Result, float]:
    """Repeats each call, one after the other, side by side with the rest. Gives the result and the start."""
    times: list[float] = []
    start = perf_counter()

    async def loop(call: Callable[[], Awaitable[None]]) -> None:
        while (sent := perf_counter()) < start + seconds:
            await call()
            times.append(perf_counter() - sent)

    async with asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(loop(call))
    elapsed, updates = perf_counter() - start, len(times) * updates_each
    return {"updates": updates, "seconds": elapsed, "rate": updates / elapsed, **summary_ms(times)}, start
