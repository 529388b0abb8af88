"""Running a service: from the command line to a clean end, with one clear line where it cannot start."""

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext

import uvicorn
import uvloop
from fastapi import FastAPI

from shared.addresses import check_addresses
from shared.broker import BrokerRefused, BrokerUnavailable
from shared.connections import bounded_protocol, sweep_connections
from shared.database import DatabaseUnavailable, PartitionCountMismatch
from shared.logs import configure_logs
from shared.settings import S, Settings, SettingsError, load_settings

log = logging.getLogger(__name__)

GRACEFUL_SECONDS = 10
"""How long requests in flight may take to end after a stop signal."""

KEEP_ALIVE_SECONDS = 75
"""Longer than the idle time-outs of usual load balancers (60 s), so that it is never we who close a
connection on which a request is on its way."""

EXIT_CONFIGURATION = 78
"""EX_CONFIG of sysexits.h: starting again without changing something is pointless."""

EXIT_UNAVAILABLE = 69
"""EX_UNAVAILABLE: a dependency or the port is not to be had; starting again may help."""


class PortInUse(Exception):
    """The address to listen on cannot be had."""


def run_service(name: str, kind: type[S], serve: Callable[[S], Awaitable[None]]) -> None:
    """Reads the settings, runs `serve` until it ends, and exits the process with a code that says why."""
    reason: BaseExceptionGroup | None = None
    code = 0
    try:
        settings = load_settings(kind)
        check_addresses(settings)
        configure_logs(name, settings.log_level)
        uvloop.run(_as_coroutine(serve, settings))
    except* (SettingsError, PartitionCountMismatch) as group:
        reason, code = group, EXIT_CONFIGURATION
    except* BrokerRefused as group:
        reason, code = _refusal(group), EXIT_CONFIGURATION
    except* (BrokerUnavailable, DatabaseUnavailable, PortInUse) as group:
        reason, code = group, EXIT_UNAVAILABLE
    if reason is not None:
        _leave(name, str(_first(reason)), code)


def _refusal(group: BaseExceptionGroup) -> BaseExceptionGroup:
    return BaseExceptionGroup("", [SettingsError(f"AMQP_URL: {BrokerRefused.summary}: {_first(group)}")])


def _first(group: BaseExceptionGroup) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


async def _as_coroutine(serve: Callable[[S], Awaitable[None]], settings: S) -> None:
    await serve(settings)


def _leave(name: str, reason: str, code: int) -> None:
    sys.stderr.write(f"{name}: {reason}\n")
    sys.exit(code)


async def serve_http(
    app: FastAPI, settings: Settings, port: int, *, on_stop: Callable[[], None] = lambda: None
) -> None:
    """Serves `app` until a stop signal, calls `on_stop`, then lets requests in flight end.

    Raises:
        PortInUse: the port is taken.
    """
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        lifespan="off",  # the parts live around the application, and what ends them is told once
        http=bounded_protocol(app.state.edges, settings.http_max_connections),
        ws="none",
    )
    server = _Server(config)
    sweep = sweep_connections(
        server.server_state.connections, settings.http_request_seconds, KEEP_ALIVE_SECONDS
    )
    async with stop_signal() as stop, background(server.end_on(stop, on_stop), sweep):
        try:
            await server.serve()
        except SystemExit as error:  # uvicorn leaves the process this way when it cannot bind
            raise PortInUse(f"cannot listen on {settings.host}:{port}") from error


class _Server(uvicorn.Server):
    """Uvicorn, without its habit of raising the stop signal again after its own end: that would
    end the process before the other parts of the service have finished what they have in hand.
    """

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]  # same use
        return nullcontext()

    async def end_on(self, stop: asyncio.Event, on_stop: Callable[[], None]) -> None:
        await stop.wait()
        on_stop()
        self.should_exit = True


@asynccontextmanager
async def stop_signal() -> AsyncIterator[asyncio.Event]:
    """An event that SIGTERM, SIGINT or SIGHUP sets; SIGHUP not if it is ignored, as `nohup` asks for."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@asynccontextmanager
async def background(*works: Awaitable[None]) -> AsyncIterator[None]:
    """Runs `works` beside the body and ends them with it. If one of them fails, the body is cancelled
    and the failure raised: a service never lives on with a dead part.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_run(work)) for work in works]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def _run(work: Awaitable[None]) -> None:
    await work
