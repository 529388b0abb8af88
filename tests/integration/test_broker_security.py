"""The broker over TLS, and each service as a user of its own that may do what it must and no more."""

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest
from websockets.asyncio.client import connect as open_socket

from callers import JWT_SECRET, Caller, token
from command_line import run
from database_roles import beyond_role, needed
from forked_services import ForkedService
from tls_broker import TlsBroker
from tracking.devstack.service_process import ServiceProcess
from tracking_shared.messaging.connection import Connection, connect
from tracking_shared.messaging.errors import BrokerUnavailable
from tracking_shared.messaging.topology import (
    COMMANDS_EXCHANGE,
    DEAD_QUEUE,
    EVENTS_EXCHANGE,
    partition_queue_name,
)
from wire_tap import WireTap, tap_database

USERS = ("ingest", "order-state", "notifier", "webhooks", "operator")


@pytest.fixture(scope="module")
def database() -> str:
    return f"test_{secrets.token_hex(6)}"


@pytest.fixture(scope="module")
def taps() -> dict[str, WireTap]:
    """What each service asked the database for."""
    return {}


@pytest.fixture(scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TlsBroker]:
    node = TlsBroker(tmp_path_factory.mktemp("tls-broker"))
    try:
        await node.start()
        await node.make_users(USERS)
        yield node
    finally:
        await node.kill()


@pytest.fixture(scope="module")
async def services(
    broker: TlsBroker,
    mongodb_url: str,
    taps: dict[str, WireTap],
    database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[dict[str, ServiceProcess]]:
    """Ingest first: it must wait until order-state has declared what it may not declare itself."""
    logs: Path = tmp_path_factory.mktemp("narrow")
    common = {
        "MONGODB_DATABASE": database,
        "JWT_SECRET": JWT_SECRET,
    }
    async with AsyncExitStack() as started:
        running: dict[str, ServiceProcess] = {}
        for user in ("ingest", "notifier", "webhooks", "order-state"):
            tap = await started.enter_async_context(tap_database(mongodb_url))
            taps[user] = tap
            environment = common | {
                "AMQP_URL": broker.url_of(user),
                "MONGODB_URL": tap.url,
            }
            service = ForkedService(user.replace("-", "_"), environment=environment, logs=logs)
            started.push_async_callback(service.stop)
            service.launch()
            running[user] = service
        for service in running.values():
            await service.start()
        yield running


async def test_the_services_work_with_their_narrow_users_over_tls(
    services: dict[str, ServiceProcess],
) -> None:
    order_id = secrets.token_hex(8)
    async with open_socket(services["notifier"].stream_url, compression=None) as socket:
        wish = {"type": "subscribe", "token": token(), "filter": {"order_id": [order_id]}}
        await socket.send(orjson.dumps(wish).decode())
        while orjson.loads(await socket.recv())["type"] != "live":
            pass
        async with Caller([services["ingest"].url]) as caller:
            answers = await caller.live(order_id, ("picked_up",))
        assert [answer.status for answer in answers] == [201, 200]
        seen: list[Any] = []
        while len(seen) < 2:
            seen += [event["id"] for event in orjson.loads(await socket.recv()).get("events", [])]
    assert seen == [f"{order_id}:1", f"{order_id}:2"]


async def test_every_service_keeps_to_its_role_in_the_database(
    services: dict[str, ServiceProcess], taps: dict[str, WireTap]
) -> None:
    assert taps.keys() == services.keys()
    for user, tap in taps.items():
        assert beyond_role(user, tap.commands) == set(), user


@pytest.mark.parametrize("command", ["check", "revoke --sub driver-7"])
async def test_the_commands_of_operators_work_with_their_narrow_user(
    command: str, broker: TlsBroker, mongodb_url: str, database: str
) -> None:
    async with tap_database(mongodb_url) as tap:
        environment = {
            "AMQP_URL": broker.url_of("operator"),
            "MONGODB_URL": tap.url,
            "MONGODB_DATABASE": database,
        }
        finished = await run(*command.split(), environment=environment)
        assert finished.exit_code == 0, finished
        assert beyond_role("operator", tap.commands) == set()
        assert needed(tap.commands)


Act = Callable[[Connection], Any]


def publish(exchange: str) -> Act:
    async def act(connection: Connection) -> None:
        # Where nobody listens: whoever may publish hears that, and nothing is done.
        publisher = await connection.publisher(exchange)
        await publisher.publish("nowhere", b"", content_type="text/plain")

    return act


def consume(queue: str) -> Act:
    async def act(connection: Connection) -> None:
        await connection.consumer(queue, prefetch=1)

    return act


def listen(exchange: str) -> Act:
    async def act(connection: Connection) -> None:
        await connection.private_consumer(exchange, limit=1)

    return act


async def declare(connection: Connection) -> None:
    await connection.declare(9)


async def look(connection: Connection) -> None:
    await connection.depth(DEAD_QUEUE)


ACTS: dict[str, tuple[Act, set[str]]] = {
    "send commands": (publish(COMMANDS_EXCHANGE), {"ingest", "operator"}),
    "announce events": (publish(EVENTS_EXCHANGE), {"order-state"}),
    "answer callers": (publish(""), {"order-state"}),
    "take commands": (consume(partition_queue_name(0)), {"order-state"}),
    "read dead letters": (consume(DEAD_QUEUE), {"order-state", "operator"}),
    "hear events": (listen(EVENTS_EXCHANGE), {"notifier", "webhooks"}),
    "hear commands": (listen(COMMANDS_EXCHANGE), set()),
    "declare": (declare, {"order-state"}),
    "ask for lengths": (look, set(USERS)),
}


@pytest.mark.parametrize("act", ACTS)
async def test_a_user_may_do_what_it_must_and_no_more(
    act: str, broker: TlsBroker, services: dict[str, ServiceProcess]
) -> None:
    do, may = ACTS[act]
    outcomes = {user: await outcome(broker.url_of(user), do) for user in USERS}
    assert {user for user in USERS if outcomes[user] == ""} == may
    assert all("ACCESS_REFUSED" in outcomes[user] for user in USERS if user not in may), outcomes


async def outcome(url: str, do: Act) -> str:
    """Why it was refused; "" if it was not. That nobody listens is no refusal: the right was there."""
    try:
        async with connect(url, "test") as connection:
            await do(connection)
    except BrokerUnavailable as error:
        return "" if "NO_ROUTE" in str(error) else str(error)
    return ""


@pytest.mark.parametrize("certificates", ["", "cafile", "certfile keyfile"])
async def test_both_sides_must_show_a_certificate_of_the_authority(
    broker: TlsBroker, certificates: str
) -> None:
    url = broker.url_of("ingest", certificates=certificates)
    with pytest.raises(BrokerUnavailable) as refused:
        async with connect(url, "test"):
            pass
    assert broker.passwords["ingest"] not in str(refused.value)


async def test_each_host_is_verified_under_its_own_name(broker: TlsBroker) -> None:
    url = broker.url_of("ingest")  # its certificate is for 127.0.0.1
    wrong = url.replace("@127.0.0.1", "@localhost")
    with pytest.raises(BrokerUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        async with connect(wrong, "test"):
            pass
    port = url.partition("@127.0.0.1:")[2].partition("/")[0]
    async with connect(wrong.replace("/?", f",127.0.0.1:{port}/?"), "test") as connection:
        assert connection.address.url == url


async def test_a_wrong_password_is_refused_and_not_told(broker: TlsBroker) -> None:
    wrong = secrets.token_hex(8)
    with pytest.raises(BrokerUnavailable) as refused:
        async with connect(broker.url_of("ingest", password=wrong), "test"):
            pass
    assert wrong not in str(refused.value)
