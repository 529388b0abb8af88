"""The one-machine stack: broker, database and services as supervised child processes of this one."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from shared.broker import BrokerUnavailable, connect
from shared.database import DatabaseUnavailable, open_database
from shared.serving import EXIT_CONFIGURATION, EXIT_UNAVAILABLE, stop_signal
from tracking.broker_node import BrokerMissing, BrokerNode
from tracking.console_settings import console_settings
from tracking.data_folder import DEFAULT_FOLDER, MAX_LOG_BYTES, DataFolder, FolderUnusable, open_data_folder
from tracking.database_node import DatabaseNode
from tracking.part import Part
from tracking.processes import DeadlineExceeded, ProcessEnded, free_port, is_port_free
from tracking.service_process import ServiceProcess
from tracking.supervisor import ConfigurationFault, Say, check_configuration, first_of, supervise
from tracking.tokens import PLACES, named_places

MAX_REPLICAS = 16

LOG_CHECK_SECONDS = 10

EXTERNAL_CHECK_SECONDS = 10
"""How long a broker or database that the environment names may take to answer."""

SERVICES = ("order-state", "ingest", "query", "notifier")
"""By the names that people use; the module of each has underscores."""


class StackFailed(Exception):
    """The stack cannot start or go on. One clear line, and the exit code that goes with it."""

    def __init__(self, line: str, exit_code: int = EXIT_UNAVAILABLE) -> None:
        super().__init__(line)
        self.exit_code = exit_code


@dataclass(frozen=True)
class StackOptions:
    """What `tracking up` can be asked. A port of 0 means any free one."""

    data: Path = DEFAULT_FOLDER
    ports: dict[str, int] = field(default_factory=dict)
    replicas: dict[str, int] = field(default_factory=dict)
    ready_file: Path | None = None
    fresh: bool = False
    signed_in: bool = False
    """Whether the console hands its readers an operator's token: for a demonstration."""
    allowed_origins: Sequence[str] = ()
    """Whose pages may call, beside those of the console and of `ALLOWED_ORIGINS`."""


class Stack:
    """All parts of one stack, in one data folder that is locked for it."""

    def __init__(self, options: StackOptions, folder: DataFolder, say: Say) -> None:
        self._options = options
        self._folder = folder
        self._say = say
        self._nodes: list[Part] = []
        self._services: list[ServiceProcess] = []
        self._document: dict[str, Any] = {}

    async def start(self) -> None:
        """Starts everything and returns when all of it is ready.

        Raises:
            StackFailed: something is missing, wrong or does not come up.
        """
        self._folder.retract(self._options.ready_file)
        ports = _checked_ports(self._options.ports)
        environment = {
            "JWT_SECRET": self._folder.jwt_secret(),
            "AMQP_URL": await self._given_or_own("AMQP_URL", _check_broker, BrokerNode, self._folder.broker),
            "MONGODB_URL": await self._given_or_own(
                "MONGODB_URL", _check_database, DatabaseNode, self._folder.database
            ),
        }
        await self._start_all(self._nodes)
        console = console_settings(
            ports,
            environment["JWT_SECRET"],
            signed_in=self._options.signed_in,
            allowed_origins=self._options.allowed_origins,
        )
        self._services = [
            self._replica(service, ordinal, ports[service], environment | console)
            for service in SERVICES
            for ordinal in range(self._options.replicas.get(service, 1))
        ]
        await self._start_all(self._services)
        self._document = _document(environment, self._services)
        self.announce()

    async def supervise(self) -> None:
        """Restarts what ends, for ever.

        Raises:
            ConfigurationFault: a part ended because of its configuration.
        """
        await first_of(
            self._bound_logs(), *(supervise(part, self._say, self.announce) for part in self._parts)
        )

    async def stop(self) -> None:
        """Stops everything: first who takes orders in or shows them, then who decides, then the nodes."""
        deciding = [service for service in self._services if service.name.startswith("order-state")]
        outer = [service for service in self._services if service not in deciding]
        for tier in (outer, deciding, self._nodes):
            await asyncio.gather(*(part.stop() for part in tier))
        self._folder.retract(self._options.ready_file)

    @property
    def document(self) -> dict[str, Any]:
        """What the ready file says: addresses, secret and process ids."""
        return self._document | {"pids": self.pids}

    @property
    def pids(self) -> dict[str, int]:
        """The processes that were started, by name."""
        return {process.name: process.pid for part in self._parts for process in part.processes}

    def announce(self) -> None:
        """Writes the ready file; again after a restart, which changes a process id."""
        self._folder.announce(self.document, self._options.ready_file)

    @property
    def _parts(self) -> list[Part]:
        return [*self._nodes, *self._services]

    async def _given_or_own(
        self,
        variable: str,
        check: Callable[[str], Awaitable[None]],
        own: type[BrokerNode] | type[DatabaseNode],
        data: Path,
    ) -> str:
        given = os.environ.get(variable)
        if given:
            await check(given)
            return given
        node = own(data, logs=self._folder.logs)
        self._nodes.append(node)
        return node.url

    async def _start_all(self, parts: Sequence[Part]) -> None:
        async def start(part: Part) -> None:
            since = monotonic()
            try:
                await part.start()
            except ProcessEnded as error:
                check_configuration(error.process)
                raise
            self._say(f"{part.name} is ready ({monotonic() - since:.1f} s)")

        await asyncio.gather(*map(start, parts))

    def _replica(self, service: str, ordinal: int, port: int, environment: dict[str, str]) -> ServiceProcess:
        position = {
            "REPLICA_ORDINAL": str(ordinal),
            "REPLICA_COUNT": str(self._options.replicas.get(service, 1)),
        }
        return ServiceProcess(
            service.replace("-", "_"),
            name=service if ordinal == 0 else f"{service}-{ordinal}",
            port=port if ordinal == 0 else free_port(),
            environment=environment | position,
            logs=self._folder.logs,
        )

    async def _bound_logs(self) -> None:
        while True:
            await asyncio.sleep(LOG_CHECK_SECONDS)
            await asyncio.to_thread(self._folder.set_logs_aside, MAX_LOG_BYTES)


async def run_stack(
    options: StackOptions, say: Say, work: Callable[[dict[str, Any]], Awaitable[None]]
) -> None:
    """Runs a stack and, once it is ready, `work` with what its ready file says; until `work` ends or a signal
    comes. Then stops everything.

    Raises:
        StackFailed: the stack could not start, or could not go on.
    """
    try:
        _check_fresh(options)
        with open_data_folder(options.data, fresh=options.fresh) as folder:
            await _run(Stack(options, folder, say), say, work)
    except ConfigurationFault as error:
        raise StackFailed(str(error), EXIT_CONFIGURATION) from None
    except (FolderUnusable, BrokerMissing, ProcessEnded, DeadlineExceeded) as error:
        raise StackFailed(str(error)) from None


async def _run(stack: Stack, say: Say, work: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    async def live() -> None:
        await stack.start()
        await first_of(stack.supervise(), work(stack.document))

    async with stop_signal() as stop:
        try:
            await first_of(live(), _returns_when_set(stop))
        finally:
            if stack.pids:
                say("stopping")
            await stack.stop()


async def _returns_when_set(event: asyncio.Event) -> None:
    await event.wait()


def _document(environment: dict[str, str], services: list[ServiceProcess]) -> dict[str, Any]:
    by_name = {service.name: service for service in services}
    return {
        "ingest": by_name["ingest"].url,
        "query": by_name["query"].url,
        "console": f"{by_name['query'].url}/console/",
        "notifier": by_name["notifier"].stream_url,
        "jwt_secret": environment["JWT_SECRET"],
        "amqp_url": environment["AMQP_URL"],
        "mongodb_url": environment["MONGODB_URL"],
        **{PLACES[claim].lower(): place for claim, place in named_places(os.environ).items()},
        "urls": {name: service.url for name, service in by_name.items()},
    }


def _check_fresh(options: StackOptions) -> None:
    given = [variable for variable in ("AMQP_URL", "MONGODB_URL") if os.environ.get(variable)]
    if options.fresh and given:
        raise ConfigurationFault(
            f"--fresh empties what the stack starts itself, and {' and '.join(given)} name what it does not:"
            " leave out the one or the other"
        )


def _checked_ports(wanted: dict[str, int]) -> dict[str, int]:
    ports = {service: wanted.get(service, 0) or free_port() for service in SERVICES}
    if len(set(ports.values())) < len(ports):
        raise StackFailed("two services cannot listen on one port", EXIT_CONFIGURATION)
    busy = [service for service, port in ports.items() if not is_port_free(port)]
    if busy:
        raise StackFailed(_in_use(busy, ports))
    return ports


def _in_use(services: list[str], ports: dict[str, int]) -> str:
    """One line: each port that is taken, and the option that changes it."""
    named = ", ".join(f"{ports[service]} ({service}, --{service}-port)" for service in services)
    several = len(services) > 1
    return (
        f"port{'s' if several else ''} in use: {named}; choose {'others' if several else 'another'} with"
        f" {'these options' if several else 'this option'}, 0 for any free one"
    )


async def _check_broker(url: str) -> None:
    try:
        async with connect(url, "tracking"):  # which has a bound for each address
            pass
    except BrokerUnavailable:
        raise StackFailed("AMQP_URL: no broker answers there, or it refuses the credentials") from None


async def _check_database(url: str) -> None:
    try:
        async with asyncio.timeout(EXTERNAL_CHECK_SECONDS), open_database(url, "tracking") as database:
            await database.ping()
    except (DatabaseUnavailable, TimeoutError):
        raise StackFailed("MONGODB_URL: no database answers there") from None
