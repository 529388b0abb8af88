"""The development stack: starts, supervises and stops broker, database and services as child processes."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import Any

from tracking.devstack.broker_node import BrokerMissing, BrokerNode
from tracking.devstack.component import (
    Component,
    ConfigurationFault,
    Echo,
    StackFailed,
    check_configuration,
    supervise,
)
from tracking.devstack.data_folder import (
    DEFAULT_FOLDER,
    MAX_LOG_BYTES,
    DataFolder,
    FolderUnusable,
    open_data_folder,
)
from tracking.devstack.database_node import DatabaseNode
from tracking.devstack.processes import DeadlineExceeded, ProcessEnded, free_port, is_port_free
from tracking.devstack.service_process import ServiceProcess, console_settings
from tracking.devstack.tokens import ISSUER_SETTINGS, issuer_claims_in
from tracking.tasks import first_of
from tracking_shared.messaging.connection import connect
from tracking_shared.messaging.errors import BrokerUnavailable
from tracking_shared.serving import stop_signal
from tracking_shared.storage.database import DatabaseUnavailable, open_database

MAX_REPLICAS = 16

LOG_CHECK_SECONDS = 10

EXTERNAL_CHECK_SECONDS = 10
"""The time limit for an external database to answer."""

SERVICES = ("order-state", "ingest", "query", "notifier", "webhooks")
"""The services by their names in options; their modules have underscores."""


@dataclass(frozen=True)
class StackOptions:
    """The options of `tracking up`. A port of 0 means any free one."""

    data: Path = DEFAULT_FOLDER
    ports: dict[str, int] = field(default_factory=dict)
    replicas: dict[str, int] = field(default_factory=dict)
    ready_file: Path | None = None
    fresh: bool = False
    signed_in: bool = False
    """The console gives its readers an operator's token: for a demonstration."""
    allowed_origins: Sequence[str] = ()
    """Added to those of the console and of `ALLOWED_ORIGINS`."""


class Stack:
    """All components of one stack, in one data folder that is locked for it."""

    def __init__(self, options: StackOptions, folder: DataFolder, echo: Echo) -> None:
        self._options = options
        self._folder = folder
        self._echo = echo
        self._nodes: list[Component] = []
        self._services: list[ServiceProcess] = []
        self._document: dict[str, Any] = {}

    async def start(self) -> None:
        """Starts all components and returns when all are ready.

        Raises:
            StackFailed: a component is missing, misconfigured or does not start.
        """
        self._folder.retract(self._options.ready_file)
        ports = _checked_ports(self._options.ports)
        environment = {
            "JWT_SECRET": self._folder.jwt_secret(),
            "AMQP_URL": await self._external_or_own(
                "AMQP_URL", _check_broker, BrokerNode, self._folder.broker
            ),
            "MONGODB_URL": await self._external_or_own(
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
        """Restarts each component that ends, for ever.

        Raises:
            ConfigurationFault: a component ended because its configuration is wrong.
        """
        await first_of(
            self._rotate_logs(), *(supervise(each, self._echo, self.announce) for each in self._components)
        )

    async def stop(self) -> None:
        """Stops all components: first the HTTP and WebSocket services, then order-state, then the nodes."""
        order_state = [service for service in self._services if service.name.startswith("order-state")]
        front = [service for service in self._services if service not in order_state]
        for tier in (front, order_state, self._nodes):
            await asyncio.gather(*(component.stop() for component in tier))
        self._folder.retract(self._options.ready_file)

    @property
    def document(self) -> dict[str, Any]:
        """The ready file: addresses, secret and process ids."""
        return self._document | {"pids": self.pids}

    @property
    def pids(self) -> dict[str, int]:
        """The process ids by process name."""
        return {
            process.name: process.pid for component in self._components for process in component.processes
        }

    def announce(self) -> None:
        """Writes the ready file. Repeated after each restart, which changes a process id."""
        self._folder.announce(self.document, self._options.ready_file)

    @property
    def _components(self) -> list[Component]:
        return [*self._nodes, *self._services]

    async def _external_or_own(
        self,
        variable: str,
        check: Callable[[str], Awaitable[None]],
        own: type[BrokerNode] | type[DatabaseNode],
        data: Path,
    ) -> str:
        external = os.environ.get(variable)
        if external:
            await check(external)
            return external
        node = own(data, logs=self._folder.logs)
        self._nodes.append(node)
        return node.url

    async def _start_all(self, components: Sequence[Component]) -> None:
        async def start(component: Component) -> None:
            since = monotonic()
            try:
                await component.start()
            except ProcessEnded as error:
                check_configuration(error.process)
                raise
            self._echo(f"{component.name} is ready ({monotonic() - since:.1f} s)")

        await asyncio.gather(*map(start, components))

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

    async def _rotate_logs(self) -> None:
        while True:
            await asyncio.sleep(LOG_CHECK_SECONDS)
            await asyncio.to_thread(self._folder.rotate_logs, MAX_LOG_BYTES)


async def run_stack(
    options: StackOptions, echo: Echo, work: Callable[[dict[str, Any]], Awaitable[None]]
) -> None:
    """Runs a stack and, once it is ready, `work` with its ready file. Stops the stack when `work` ends or a
    stop signal arrives.

    Raises:
        StackFailed: the stack cannot start or continue.
    """
    try:
        _check_installation()
        _check_fresh(options)
        with open_data_folder(options.data, fresh=options.fresh) as folder:
            await _run(Stack(options, folder, echo), echo, work)
    except (FolderUnusable, BrokerMissing, ProcessEnded, DeadlineExceeded) as error:
        raise StackFailed(str(error)) from None


async def _run(stack: Stack, echo: Echo, work: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    async def live() -> None:
        await stack.start()
        await first_of(stack.supervise(), work(stack.document))

    async with stop_signal() as stop:
        try:
            await first_of(live(), _returns_when_set(stop))
        finally:
            if stack.pids:
                echo("stopping")
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
        **{ISSUER_SETTINGS[claim].lower(): value for claim, value in issuer_claims_in(os.environ).items()},
        "urls": {name: service.url for name, service in by_name.items()},
    }


def _check_installation() -> None:
    if find_spec("psutil") is None:
        raise ConfigurationFault("psutil is not installed; the container image does not run the stack")


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
        raise ConfigurationFault("two services cannot listen on one port")
    busy = [service for service, port in ports.items() if not is_port_free(port)]
    if busy:
        raise StackFailed(_in_use(busy, ports))
    return ports


def _in_use(services: list[str], ports: dict[str, int]) -> str:
    """One line with each port that is taken, and the option that changes it."""
    named = ", ".join(f"{ports[service]} ({service}, --{service}-port)" for service in services)
    several = len(services) > 1
    return (
        f"port{'s' if several else ''} in use: {named}; choose {'others' if several else 'another'} with"
        f" {'these options' if several else 'this option'}, 0 for any free one"
    )


async def _check_broker(url: str) -> None:
    try:
        async with connect(url, "tracking"):  # has a time limit for each address
            pass
    except BrokerUnavailable:
        raise StackFailed("AMQP_URL: no broker answers there, or it refuses the credentials") from None


async def _check_database(url: str) -> None:
    try:
        async with asyncio.timeout(EXTERNAL_CHECK_SECONDS), open_database(url, "tracking") as database:
            await database.ping()
    except (DatabaseUnavailable, TimeoutError):
        raise StackFailed("MONGODB_URL: no database answers there") from None
