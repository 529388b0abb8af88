"""The broker and the database that tests share: private nodes of this machine, or containers.

`TEST_SERVERS=containers` takes the images of `docker-compose.yml` and needs Docker. A test that stops
or kills a server starts a private node for itself in either case.
"""

import asyncio
import os
import secrets
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Protocol, TypeVar

import yaml

from callers import JWT_SECRET
from tracking.devstack.broker_node import BrokerNode
from tracking.devstack.database_node import DatabaseNode

COMPOSE_FILE = Path(__file__).parents[1] / "docker-compose.yml"
AMQP_PORT, MONGODB_PORT = 5672, 27017

INITIATE = """
try { rs.status() } catch { rs.initiate({_id: "rs0", members: [{_id: 0, host: "localhost:27017"}]}) }
quit(db.hello().isWritablePrimary ? 0 : 1)
"""

Node = TypeVar("Node", BrokerNode, DatabaseNode)

HOUSEKEEPING = " -rabbit quorum_tick_interval 3600000"
"""A quorum queue counts its messages for statistics once an hour instead of every 5 seconds."""

VHOSTS_AT_ONCE = 20
"""One call of the control program costs half a second, whatever the number."""

_unused_vhosts: dict[str, list[str]] = {}
_used_vhosts: dict[str, list[str]] = {}
"""By the URL of their broker. A virtual host with its queues takes 1.5 ms of the processor a second, though
nobody uses it."""


class Broker(Protocol):
    """A broker that tests share."""

    @property
    def url(self) -> str:
        """The AMQP URL of the default virtual host; with a name behind it, that of another one."""
        ...

    async def control(self, *arguments: str) -> str:
        """What `rabbitmqctl` prints for these arguments."""
        ...


async def create_vhosts(broker: Broker, names: list[str], deleted: Sequence[str] = ()) -> None:
    """Creates virtual hosts for the default user, and deletes others: half a second a call, whatever their
    number.
    """
    removed = [f'rabbit_vhost:delete(<<"{name}">>,<<"tracking">>)' for name in deleted]
    created = [
        f'rabbit_vhost:add(<<"{name}">>,<<"tracking">>),'
        f'rabbit_auth_backend_internal:set_permissions(<<"guest">>,<<"{name}">>,'
        '<<".*">>,<<".*">>,<<".*">>,<<"tracking">>)'
        for name in names
    ]
    await broker.control("eval", f"{','.join(removed + created)}.")


async def new_vhost(broker: Broker) -> str:
    """The name of an empty virtual host that nobody else takes. They are created several at once."""
    names = _unused_vhosts.setdefault(broker.url, [])
    if not names:
        names.extend(f"test-{secrets.token_hex(6)}" for _ in range(VHOSTS_AT_ONCE))
        await create_vhosts(broker, names, _used_vhosts.pop(broker.url, []))
    return names.pop()


def give_back_vhost(broker: Broker, name: str) -> None:
    """Has a virtual host deleted when the next ones are created."""
    _used_vhosts.setdefault(broker.url, []).append(name)


@asynccontextmanager
async def memory_alarm(broker: Broker) -> AsyncIterator[None]:
    """While the body runs, the broker has an alarm: it takes no messages, in no virtual host."""
    await broker.control("set_vm_memory_high_watermark", "absolute", "1000")
    try:
        yield
    finally:
        await broker.control("set_vm_memory_high_watermark", "0.6")


async def new_environment(broker: Broker, mongodb_url: str) -> dict[str, str]:
    """The environment of services that share an empty virtual host and a database of their own."""
    return {
        "AMQP_URL": broker.url + await new_vhost(broker),
        "MONGODB_URL": mongodb_url,
        "MONGODB_DATABASE": f"test_{secrets.token_hex(6)}",
        "JWT_SECRET": JWT_SECRET,
    }


@asynccontextmanager
async def node_starter(
    kind: Callable[[Path], Node], folder: Path
) -> AsyncIterator[Callable[[], Awaitable[Node]]]:
    """Starts private nodes, each in a folder of its own below `folder`, and kills them at the end."""
    async with AsyncExitStack() as started:
        numbers = count()

        async def start() -> Node:
            node = kind(folder / str(next(numbers)))
            started.push_async_callback(node.kill)
            await node.start()
            return node

        yield start


class SharedBrokerNode(BrokerNode):
    """A broker with dozens of virtual hosts, most of them unused: their queues do no housekeeping."""

    def _environment(self) -> dict[str, str]:
        environment = super()._environment()
        environment["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"] += HOUSEKEEPING
        return environment


@asynccontextmanager
async def _killed_at_the_end(node: Node) -> AsyncIterator[Node]:
    """A node whose data nobody needs afterwards. A broker with some 200 virtual hosts takes 15 s to stop."""
    try:
        await node.start()
        yield node
    finally:
        await node.kill()


@asynccontextmanager
async def shared_broker(folder: Path) -> AsyncIterator[Broker]:
    """The broker for tests that do not disturb it."""
    if in_containers():
        check = ["rabbitmq-diagnostics", "--quiet", "check_port_connectivity"]
        async with _container("rabbitmq", AMQP_PORT, check) as container:
            yield ContainerBroker(container)
    else:
        async with _killed_at_the_end(SharedBrokerNode(folder)) as broker:
            yield broker


@asynccontextmanager
async def shared_database(folder: Path) -> AsyncIterator[str]:
    """The connection string of the database for tests that do not disturb it: that of `TEST_MONGODB_URL`, a
    replica set, where it is set. Each test has a database of its own there, whose name begins with `test_`.
    """
    if url := os.environ.get("TEST_MONGODB_URL"):
        yield url
    elif in_containers():
        check = ["mongosh", "--quiet", "--norc", "--eval", INITIATE]
        async with _container("mongodb", MONGODB_PORT, check) as container:
            # Direct, since the only member names itself as its container knows it.
            yield f"mongodb://{address_of(container, MONGODB_PORT)}/?directConnection=true"
    else:
        async with _killed_at_the_end(DatabaseNode(folder)) as database:
            yield database.url


def in_containers() -> bool:
    """Whether `TEST_SERVERS` asks for containers."""
    wanted = os.environ.get("TEST_SERVERS", "nodes")
    if wanted not in ("nodes", "containers"):
        raise ValueError(f"TEST_SERVERS: nodes or containers, not {wanted!r}")
    return wanted == "containers"


def compose_service(name: str) -> Any:
    """What `docker-compose.yml` says of a service."""
    return yaml.safe_load(COMPOSE_FILE.read_text())["services"][name]


def address_of(container: Any, port: int) -> str:
    """Where a port of a container is reached from here."""
    return f"{container.get_container_host_ip()}:{container.get_exposed_port(port)}"


@asynccontextmanager
async def _container(service: str, port: int, check: list[str]) -> AsyncIterator[Any]:
    """A container with image and command of a Compose service, without its users and volumes."""
    # Only here: without Docker there is nothing to import them for.
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415
    from testcontainers.core.wait_strategies import ExecWaitStrategy  # noqa: PLC0415

    composed = compose_service(service)
    container = DockerContainer(composed["image"], command=composed.get("command"), ports=[port])
    if "user" in composed:
        # Whoever asks first makes the broker's cookie: as root, the server could not read it.
        container.with_kwargs(user=composed["user"])
    container.waiting_for(ExecWaitStrategy(check))
    try:
        await asyncio.to_thread(container.start)
        yield container
    finally:
        await asyncio.to_thread(container.stop)


@dataclass(frozen=True, slots=True)
class ContainerBroker:
    """A broker in a container."""

    container: Any

    @property
    def url(self) -> str:
        """As `Broker`. The image lets its default user in from anywhere."""
        return f"amqp://guest:guest@{address_of(self.container, AMQP_PORT)}/"

    async def control(self, *arguments: str) -> str:
        """As `Broker`.

        Raises:
            subprocess.CalledProcessError: it failed.
        """
        command = ["rabbitmqctl", "--quiet", *arguments]
        result = await asyncio.to_thread(self.container.exec, command)
        if result.exit_code:
            raise subprocess.CalledProcessError(result.exit_code, command, result.output)
        output: bytes = result.output
        return output.decode()
