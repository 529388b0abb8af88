"""The real parts that tests run on: a broker, a database, and services as processes.

`AMQP_URL` and `MONGODB_URL` in the environment are used where they are set. Otherwise private nodes
are started once, when the first test asks, in a temporary folder, and stopped at the end.
Queue names are the same in every installation, so a test with services of its own takes a virtual
host (`fresh_vhost_url`, `start_service`) instead of sharing the default one.
"""

import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from callers import Caller
from fixtures import PARTITIONS, Spine, StartService
from tracking.broker_node import BrokerNode
from tracking.database_node import DatabaseNode
from tracking.service_process import ServiceProcess

JWT_SECRET = "a-secret-of-the-tests-0123456789abcdef"

VHOSTS_AT_ONCE = 10
"""One call of the control program costs half a second, whatever the number."""


@pytest.fixture(scope="session")
def node_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the session's nodes."""
    return tmp_path_factory.mktemp("nodes")


@pytest.fixture(scope="session")
async def broker_node(node_data: Path) -> AsyncIterator[BrokerNode]:
    """The session's private broker. Shared: a test that stops a broker starts one with `start_broker`."""
    node = BrokerNode(node_data / "broker")
    try:
        await node.start()
        yield node
    finally:
        await node.stop()


@pytest.fixture(scope="session")
async def database_node(node_data: Path) -> AsyncIterator[DatabaseNode]:
    """The session's private database. Shared: a test that stops one starts it with `start_database`."""
    node = DatabaseNode(node_data / "database")
    try:
        await node.start()
        yield node
    finally:
        await node.stop()


@pytest.fixture(scope="session")
def amqp_url(request: pytest.FixtureRequest) -> str:
    """A broker that all tests share."""
    return os.environ.get("AMQP_URL") or request.getfixturevalue("broker_node").url


@pytest.fixture(scope="session")
def mongodb_url(request: pytest.FixtureRequest) -> str:
    """A database server that all tests share."""
    return os.environ.get("MONGODB_URL") or request.getfixturevalue("database_node").url


@pytest.fixture
def database_name() -> str:
    """A database of this test's own."""
    return f"test_{secrets.token_hex(6)}"


@pytest.fixture(scope="session")
def vhost_names() -> list[str]:
    """Virtual hosts of the session's broker that are made and not yet taken."""
    return []


@pytest.fixture
async def fresh_vhost_url(broker_node: BrokerNode, vhost_names: list[str]) -> str:
    """An empty virtual host of this test's own, on the session's private broker."""
    if not vhost_names:
        vhost_names.extend(f"test-{secrets.token_hex(6)}" for _ in range(VHOSTS_AT_ONCE))
        await broker_node.create_vhosts(vhost_names)
    return broker_node.vhost_url(vhost_names.pop())


@pytest.fixture
def service_environment(fresh_vhost_url: str, mongodb_url: str, database_name: str) -> dict[str, str]:
    """What every service of this test has in its environment."""
    return {
        "AMQP_URL": fresh_vhost_url,
        "MONGODB_URL": mongodb_url,
        "MONGODB_DATABASE": database_name,
        "JWT_SECRET": JWT_SECRET,
    }


@pytest.fixture
async def start_service(service_environment: dict[str, str], tmp_path: Path) -> AsyncIterator[StartService]:
    """Starts replicas that share a virtual host and a database, and ends them after the test.

    Returns when the replica is ready; with `wait=False` as soon as its process runs.
    """
    started: list[ServiceProcess] = []

    async def start(
        module: str, *, wait: bool = True, name: str | None = None, **environment: str
    ) -> ServiceProcess:
        service = ServiceProcess(
            module,
            environment=service_environment | environment,
            logs=tmp_path / "logs",
            name=name or f"{module}-{len(started)}",
        )
        started.append(service)
        service.launch()
        if wait:
            await service.start()
        return service

    yield start
    for service in reversed(started):
        await service.stop()


@pytest.fixture
async def start_broker(tmp_path: Path) -> AsyncIterator[Callable[[], Awaitable[BrokerNode]]]:
    """Starts a broker that the test may stop, kill and freeze."""
    started: list[BrokerNode] = []

    async def start() -> BrokerNode:
        node = BrokerNode(tmp_path / f"broker-{len(started)}")
        started.append(node)
        await node.start()
        return node

    yield start
    for node in started:
        await node.stop()


@pytest.fixture
async def start_database(tmp_path: Path) -> AsyncIterator[Callable[[], Awaitable[DatabaseNode]]]:
    """Starts a database that the test may stop, kill and freeze."""
    started: list[DatabaseNode] = []

    async def start() -> DatabaseNode:
        node = DatabaseNode(tmp_path / f"database-{len(started)}")
        started.append(node)
        await node.start()
        return node

    yield start
    for node in started:
        await node.stop()


@pytest.fixture
async def spine(service_environment: dict[str, str], start_service: StartService) -> AsyncIterator[Spine]:
    """One ingest and one order-state on an empty virtual host and a database of their own."""
    service_environment["PARTITIONS"] = str(PARTITIONS)
    order_state = await start_service("order_state")
    ingest = await start_service("ingest")
    async with Caller([ingest.url]) as caller:
        yield Spine(service_environment, ingest, order_state, caller)
