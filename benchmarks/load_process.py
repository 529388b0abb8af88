"""A load runs in a process of its own, so that its cost can be told from that of what it measures.

Over the pipes of the process, one JSON document a line: parameters in, `ready` out, `go` in, result out.
The process stays until its input ends, so that its processor time can be read.
"""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

import orjson
import uvloop

PREPARE_SECONDS = 60
OVERTIME_SECONDS = 90
"""How much longer than planned a load may run: requests in flight, and events not yet received."""

Result = dict[str, float]
Run = Callable[[], Awaitable[Result]]
Prepare = Callable[[dict[str, Any]], AbstractAsyncContextManager[Run]]


class WrongResult(Exception):
    """The system answered, but not what it had to. A figure made of such answers means nothing."""


class LoadFailed(Exception):
    """A load ended without a result. The message says why."""


def serve_load(prepare: Prepare) -> None:
    """The body of a load process: prepares, runs when told to, and tells the result."""
    parameters = orjson.loads(sys.stdin.readline())
    error = uvloop.run(_serve(prepare, parameters))
    if error is not None:
        _tell({"error": error})
        sys.exit(1)


async def _serve(prepare: Prepare, parameters: dict[str, Any]) -> str | None:
    fault: str | None = None
    try:
        async with prepare(parameters) as run:
            _tell({"ready": True})
            if await asyncio.to_thread(sys.stdin.readline):
                _tell({"result": await run()})
                await asyncio.to_thread(sys.stdin.readline)
    except* (WrongResult, OSError, TimeoutError) as group:
        fault = _first(group)
    return fault


def _first(group: BaseExceptionGroup[BaseException]) -> str:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else str(error) or type(error).__name__


def _tell(document: dict[str, Any]) -> None:
    sys.stdout.write(orjson.dumps(document).decode() + "\n")
    sys.stdout.flush()


class LoadProcess:
    """The other side: a load process as its starter sees it."""

    def __init__(self, module: str, process: Process) -> None:
        self._module = module
        self._process = process

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def prepare(self, parameters: dict[str, Any]) -> None:
        """Returns when the load is connected and waits for `run`.

        Raises:
            LoadFailed: it could not be prepared.
        """
        await self._ask(orjson.dumps(parameters), "ready", PREPARE_SECONDS)

    async def run(self, seconds: float) -> Result:
        """Runs the load, planned to take `seconds`.

        Raises:
            LoadFailed: it met a wrong answer, or took far too long.
        """
        result: Result = await self._ask(b"{}", "result", seconds + OVERTIME_SECONDS)
        return result

    async def _ask(self, line: bytes, member: str, seconds: float) -> Any:
        if self._process.stdin is None or self._process.stdout is None:
            raise LoadFailed(f"{self._module}: has no pipes")
        try:
            self._process.stdin.write(line + b"\n")
            async with asyncio.timeout(seconds):
                answer = await self._process.stdout.readline()
        except (TimeoutError, ConnectionError) as error:
            raise LoadFailed(f"{self._module}: {error!r}") from error
        document = orjson.loads(answer or b"{}")
        if member not in document:
            raise LoadFailed(f"{self._module}: {document.get('error', 'ended without a result')}")
        return document[member]


@asynccontextmanager
async def start_load(module: str) -> AsyncIterator[LoadProcess]:
    """A process that runs `module` (one that calls `serve_load`), ended with the body for certain."""
    process = await asyncio.create_subprocess_exec(
        *("setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", module),
        stdin=PIPE,
        stdout=PIPE,
        start_new_session=True,
    )
    try:
        yield LoadProcess(module, process)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
