"""Runs a service as a process: its limits, its addresses, its server and its background work."""

import asyncio
import logging
import resource
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, urlsplit

import uvicorn
import uvloop
from fastapi import FastAPI
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from tracking_shared.errors import SettingsError, TrackingError
from tracking_shared.http.connections import bounded_protocol, sweep_connections
from tracking_shared.messaging.errors import BrokerRefused, BrokerUnavailable
from tracking_shared.messaging.opening import single_host_urls
from tracking_shared.settings import S, Settings, load_settings
from tracking_shared.storage.database import DatabaseUnavailable, PartitionCountMismatch
from tracking_shared.telemetry.logs import configure_logs

ENOUGH = 65_536
"""For the connections that one replica of any service may be set to, four times over."""


def raised_limit(soft: int, hard: int) -> int:
    """The soft limit to set: `ENOUGH`, or all that the hard one allows; never less than there is. Pure."""
    if soft == resource.RLIM_INFINITY:
        return soft
    return max(soft, ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH))


def raise_open_files_limit() -> None:
    """Raises the soft limit, which needs no privilege. Many systems start with 1,024, for old programs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = raised_limit(soft, hard)
    if wanted != soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


_AMQP_FILES = ("cafile", "certfile", "keyfile")
_DATABASE_FILES = ("tlscafile", "tlscertificatekeyfile", "tlscrlfile")
_UNVERIFIED = frozenset(
    {"no_verify_ssl", "tlsinsecure", "tlsallowinvalidcertificates", "tlsallowinvalidhostnames"}
)
"""Options under which anybody between could pretend to be the server."""

_WEAKENING = {
    "readpreference": ("primary", "every decision is read from the primary"),
    "readpreferencetags": ("", "every decision is read from the primary"),
    "maxstalenessseconds": ("-1", "every decision is read from the primary"),
    "w": ("majority", "every write is confirmed by a majority"),
    "journal": ("true", "every write is confirmed from the journal"),
    "j": ("true", "every write is confirmed from the journal"),
    "fsync": ("", "every write is confirmed by a majority"),
    "readconcernlevel": ("majority", "every read is of what a majority has"),
    "retrywrites": ("true", "a write is repeated where a primary steps down"),
}
"""Options of the database under which reads miss what was acknowledged, or acknowledged writes may be lost.
With each the one value that says what is done anyway, and why there is no other."""


class BadAddress(ValueError):
    """Not an address that can be used. The message holds nothing of it."""


def check_addresses(settings: Settings) -> None:
    """Refuses addresses of broker and database that cannot be used, or not safely.

    Raises:
        SettingsError: what is wrong with one of them, and nothing of it.
    """
    for name, url, check in (
        ("AMQP_URL", settings.amqp_url, check_broker_url),
        ("MONGODB_URL", settings.mongodb_url, check_database_url),
    ):
        try:
            check(url)
        except BadAddress as error:
            raise SettingsError(f"{name}: {error}") from None


def check_broker_url(url: str) -> None:
    """Checks an `AMQP_URL`: its form, each host, that the files which it names are there, that TLS verifies.

    Raises:
        BadAddress: what is wrong.
    """
    parts, *_ = [_broker_parts(host_url) for host_url in single_host_urls(url)]
    options = _options(parts.query)  # the same for all hosts
    _check_options(options, _AMQP_FILES)
    if parts.scheme == "amqp" and options.keys() & set(_AMQP_FILES):
        raise BadAddress("names certificates, which need amqps://")


def _broker_parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is none
    except ValueError:
        raise BadAddress("is not a URL; percent-encode what is special in user and password") from None
    if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
        raise BadAddress("must begin with amqp:// or amqps:// and a host, or hosts with commas between")
    return parts


def check_database_url(url: str) -> None:
    """Checks a `MONGODB_URL`, in the same way.

    Raises:
        BadAddress: what is wrong.
    """
    if not url.startswith(("mongodb://", "mongodb+srv://")):
        raise BadAddress("must begin with mongodb:// or mongodb+srv://")
    query = url.partition("?")[2].replace(";", "&")  # the driver takes either between options
    _check_options(_options(query), _DATABASE_FILES)
    _check_strength(query)
    if url.startswith("mongodb+srv://"):
        return  # to read it, the driver asks the name service
    try:
        parse_uri(url, warn=False)
    except (PyMongoError, ValueError) as error:
        raise BadAddress(
            f"the driver cannot read it ({type(error).__name__}); percent-encode what is special in user and"
            " password"
        ) from None


def _options(query: str) -> dict[str, str]:
    return {name.lower(): value for name, value in parse_qsl(query, keep_blank_values=True)}


def _check_options(options: dict[str, str], files: tuple[str, ...]) -> None:
    unverified = sorted(name for name in _UNVERIFIED & options.keys() if options[name] not in ("0", "false"))
    if unverified:
        raise BadAddress(
            f"{unverified[0]}: TLS that does not verify protects from nobody; name a CA file instead"
        )
    for name in files:
        if name in options and not _is_readable(Path(options[name])):
            raise BadAddress(f"{name}: there is no such file, or it may not be read")


def _check_strength(query: str) -> None:
    for name, value in parse_qsl(query, keep_blank_values=True):
        needed, reason = _WEAKENING.get(name.lower(), (value, ""))
        if value.lower() != needed.lower():
            raise BadAddress(f"{name}: leave it out; {reason}, in all services alike")


def _is_readable(path: Path) -> bool:
    try:
        with path.open("rb"):
            return True
    except OSError:
        return False


log = logging.getLogger(__name__)

GRACEFUL_SECONDS = 10
"""The time that requests in flight have to end after a stop signal."""

KEEP_ALIVE_SECONDS = 75
"""Longer than the idle time-outs of usual load balancers (60 s), so that it is never we who close a
connection on which a request is on its way."""

EXIT_CONFIGURATION = 78
"""EX_CONFIG of sysexits.h: starting again without changing something is pointless."""

EXIT_UNAVAILABLE = 69
"""EX_UNAVAILABLE: a dependency or the port is not to be had; starting again may help."""


class PortInUse(TrackingError):
    """The address to listen on cannot be had."""


def run_service(name: str, kind: type[S], serve: Callable[[S], Awaitable[None]]) -> None:
    """Reads the settings, runs `serve` until it ends, and exits the process with a code that says why."""
    reason: BaseExceptionGroup | None = None
    code = 0
    try:
        settings = load_settings(kind)
        check_addresses(settings)
        configure_logs(name, settings.log_level)
        raise_open_files_limit()
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


START_WAIT_SECONDS = 2.0
"""How long a service that starts waits for what it needs before it listens.

A proxy without health checks sends requests as soon as it listens, and connecting to the broker takes a tenth
of a second. It does not wait longer, so that callers get a problem document while a dependency is away.
"""


async def serve_http(
    app: FastAPI,
    settings: Settings,
    port: int,
    *,
    starts_with: asyncio.Event | None = None,
    on_stop: Callable[[], None] = lambda: None,
) -> None:
    """Serves `app` until a stop signal, calls `on_stop`, then lets requests in flight end.

    It listens when `starts_with` is set, or `START_WAIT_SECONDS` later.

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
        proxy_headers=False,  # nobody asks for the address of the caller, and its layer looks at each request
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        lifespan="off",  # the parts live around the application, and one message says what ends them
        http=bounded_protocol(app.state.limits, settings.http_max_connections),
        ws="none",
    )
    server = _Server(config)
    sweep = sweep_connections(
        server.server_state.connections, settings.http_request_seconds, KEEP_ALIVE_SECONDS
    )
    async with stop_signal() as stop, background(server.end_on(stop, on_stop), sweep):
        if starts_with is not None:
            await _first_of(starts_with, stop, seconds=START_WAIT_SECONDS)
        if server.should_exit:
            return  # stopped before it listened
        try:
            await server.serve()
        except SystemExit as error:  # uvicorn leaves the process this way when it cannot bind
            raise PortInUse(f"cannot listen on {settings.host}:{port}") from error


async def _first_of(*events: asyncio.Event, seconds: float) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


class _Server(uvicorn.Server):
    """Uvicorn, without its habit of raising the stop signal again after its own end: that would
    end the process before the other parts of the service have finished their work in progress.
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


CANCEL_AGAIN_SECONDS = 6.0
"""The time that work has to end after it was cancelled: longer than order-state may take to commit a batch.
Then it is cancelled again. Events that were not published by then are in the log.

Up to Python 3.11, `asyncio.wait_for` loses a cancellation that comes as its work is done, and the driver of
the database calls it for every command. `driver_errors` raises it again, unless another error than the
driver's leaves it.
"""


@asynccontextmanager
async def background(*works: Awaitable[None]) -> AsyncIterator[None]:
    """Runs `works` beside the body and ends them with it. If one of them fails, the body is cancelled
    and the failure raised: a service never lives on with a dead part.
    """
    async with asyncio.TaskGroup() as group:
        tasks = {group.create_task(_run(work)) for work in works}
        try:
            yield
        finally:
            await _end(tasks)


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    running = {task for task in tasks if not task.done()}
    if not any(map(_has_failed, tasks)):  # else the group has cancelled the others
        _cancel(running)
    while running:
        _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN_SECONDS)
        _cancel(running)


def _has_failed(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is not None


def _cancel(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()


async def _run(work: Awaitable[None]) -> None:
    await work
