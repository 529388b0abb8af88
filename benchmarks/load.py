"""A load runs in a process of its own, so that its cost can be separated from that of the system.

Over the pipes of the process, one JSON document a line: options in, `ready` out, `go` in, result out.
The process stays until its input ends, so that its processor time can be read.
"""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
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


class WrongResult(Exception):
    """The system gave a wrong answer. A figure made of such answers means nothing."""


class LoadFailed(Exception):
    """A load ended without a result. The message says why."""


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

    def token(self) -> str:
        """A token that may read and write everything, for an hour."""
        return self.mint("benchmark", "orders:write orders:read", "*")

    def mint(self, subject: str, scope: str, merchant: str) -> str:
        """A token of one merchant."""
        return mint_token(self.jwt_secret, subject=subject, scope=scope, merchants=[merchant])


def serve() -> None:
    """Runs the load `MODULE:FUNCTION` of the command line, as the other end of the pipes asks."""
    module, _, function = sys.argv[1].partition(":")
    options = orjson.loads(sys.stdin.readline())
    site = Site(**options.pop("site"))
    prepare = getattr(import_module(f"benchmarks.{module}"), function)
    try:
        uvloop.run(_serve(asynccontextmanager(prepare)(site, **options)))
    except* (WrongResult, OSError, TimeoutError) as group:
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


async def ask(process: Process, document: dict[str, Any], member: str, seconds: float) -> Any:
    """Sends a document to a load process and returns a member of its answer.

    Raises:
        LoadFailed: there is none in time.
    """
    if process.stdin is None or process.stdout is None:
        raise LoadFailed("a load has no pipes")
    try:
        process.stdin.write(orjson.dumps(document) + b"\n")
        async with asyncio.timeout(seconds):
            answer = orjson.loads(await process.stdout.readline() or b"{}")
    except (TimeoutError, ConnectionError) as error:
        raise LoadFailed(f"a load: {error!r}") from error
    if member not in answer:
        raise LoadFailed(answer.get("error", "a load ended without a result"))
    return answer[member]


def start_load(load: str) -> Any:
    """The process of the load `MODULE:FUNCTION`, as a context."""
    return start_process(sys.executable, "-c", "from benchmarks.load import serve; serve()", load)


@asynccontextmanager
async def start_process(*command: str) -> AsyncIterator[Process]:
    """A process with pipes that ends with the body, and with this process."""
    process = await asyncio.create_subprocess_exec(
        *("setpriv", "--pdeathsig", "KILL", "--", *command),
        stdin=PIPE,
        stdout=PIPE,
        start_new_session=True,
        env=os.environ,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


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
