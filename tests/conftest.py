"""The real parts that tests run on: a broker, a database, and services as processes.

Broker and database are started once, when the first test asks (`servers` says as what), and stopped at
the end. Queue names are the same in every installation, so a test with services of its own takes a
virtual host (`fresh_vhost_url`, `start_service`) instead of sharing the default one.
"""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from hashlib import blake2b
from pathlib import Path

import pytest
from hypothesis import settings

from callers import JWT_SECRET
from fixtures import PARTITIONS, Spine, StartService
from forked_services import begin_fork_servers, end_fork_servers
from property_examples import FACTOR
from servers import (
    Broker,
    give_back_vhost,
    in_containers,
    new_environment,
    new_vhost,
    node_starter,
    shared_broker,
    shared_database,
)
from service_starts import running_spine, service_starter
from statements.recording import begin_recording, recorded_shapes
from statements.reviewed import not_reviewed, read_list
from tracking.devstack.broker_node import BrokerMissing, BrokerNode, broker_release
from tracking.devstack.database_node import DatabaseNode

# How long an example takes depends on the machine.
settings.register_profile("tracking", deadline=None, max_examples=100 * FACTOR)
settings.load_profile("tracking")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of `make fuzz` and `make test-statements`."""
    parser.addoption("--fuzz-seconds", type=int, default=120, help="how long to make up requests")
    parser.addoption("--fuzz-seed", help="make up the same requests as the run with this seed")
    parser.addoption("--statements", action="store_true", help="fail over those that nobody has reviewed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mixes the files of all folders, whose tests stay together, and takes the short unit tests last.

    In the order of the folders, all processes would start browsers at once, and wait for each other.
    """
    items.sort(key=lambda item: ("unit" in item.path.parts, blake2b(item.path.name.encode()).digest()))


def pytest_report_header() -> str:
    """Says which broker the tests run on: they pass on RabbitMQ 3.10 and on 4."""
    try:
        return "broker: an image" if in_containers() else f"broker: RabbitMQ {broker_release()}"
    except BrokerMissing as error:
        return f"broker: {error}"


@pytest.fixture(scope="session", autouse=True)
def reviewed_statements(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """With `--statements`, records those that the services send to the database and fails, once all tests
    ran, over those that nobody has reviewed. Recording costs time in every process, so else there is none.
    """
    if not request.config.getoption("--statements"):
        yield
        return
    path = begin_recording(tmp_path_factory.mktemp("statements") / "recorded")
    yield
    strange = not_reviewed(recorded_shapes(path), read_list())
    assert not strange, "\n".join(("not in tests/data/database_statements.toml:", *strange))


@pytest.fixture(scope="session", autouse=True)
def fork_servers() -> Iterator[None]:
    """Ends those that the tests started."""
    yield
    end_fork_servers()


@pytest.fixture(scope="session")
def node_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the session's nodes."""
    return tmp_path_factory.mktemp("nodes")


@pytest.fixture(scope="session")
async def broker_node(node_data: Path) -> AsyncIterator[Broker]:
    """The session's broker. Shared: a test that stops a broker starts one with `start_broker`."""
    begin_fork_servers()
    async with shared_broker(node_data / "broker") as broker:
        yield broker


@pytest.fixture(scope="session")
async def mongodb_url(node_data: Path) -> AsyncIterator[str]:
    """The session's database. Shared: a test that stops a database starts one with `start_database`."""
    async with shared_database(node_data / "database") as url:
        yield url


@pytest.fixture
def database_name() -> str:
    """A database of this test's own."""
    return f"test_{secrets.token_hex(6)}"


@pytest.fixture
async def fresh_vhost_url(broker_node: Broker) -> AsyncIterator[str]:
    """An empty virtual host of this test's own, on the session's broker."""
    name = await new_vhost(broker_node)
    yield broker_node.url + name
    give_back_vhost(broker_node, name)


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

    Returns when the replica is ready; with `wait=False` as soon as its process runs. With the environment of
    another stack as keywords, it joins that.
    """
    async with service_starter(service_environment, tmp_path / "logs") as start:
        yield start


@pytest.fixture
async def start_broker(tmp_path: Path) -> AsyncIterator[Callable[[], Awaitable[BrokerNode]]]:
    """Starts a broker that the test may stop, kill and freeze."""
    async with node_starter(BrokerNode, tmp_path / "brokers") as start:
        yield start


@pytest.fixture
async def start_database(tmp_path: Path) -> AsyncIterator[Callable[[], Awaitable[DatabaseNode]]]:
    """Starts a database that the test may stop, kill and freeze."""
    async with node_starter(DatabaseNode, tmp_path / "databases") as start:
        yield start


@pytest.fixture
async def own_spine(service_environment: dict[str, str], start_service: StartService) -> AsyncIterator[Spine]:
    """One ingest and one order-state on an empty virtual host and a database of their own."""
    service_environment["PARTITIONS"] = str(PARTITIONS)
    async with running_spine(service_environment, start_service) as spine:
        yield spine


@pytest.fixture
async def spine(own_spine: Spine) -> Spine:
    """As `own_spine`. A module whose tests can share one takes `module_spine` for it."""
    return own_spine


@pytest.fixture(scope="module")
async def module_environment(broker_node: Broker, mongodb_url: str) -> dict[str, str]:
    """As `service_environment`, for services that all tests of a module share."""
    return await new_environment(broker_node, mongodb_url) | {"PARTITIONS": str(PARTITIONS)}


@pytest.fixture(scope="module")
async def start_shared(
    module_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[StartService]:
    """Starts replicas that all tests of a module share, and ends them after the last one."""
    async with service_starter(module_environment, tmp_path_factory.mktemp("shared")) as start:
        yield start


@pytest.fixture(scope="module")
async def module_spine(
    module_environment: dict[str, str], start_shared: StartService
) -> AsyncIterator[Spine]:
    """As `own_spine`, for all tests of a module, which take order ids of their own and stop nothing."""
    async with running_spine(module_environment, start_shared) as spine:
        yield spine
