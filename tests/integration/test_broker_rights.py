"""What a user of the broker may not do: services need no right that they do not use, say at the start what is
refused, and go on when somebody changes rights while they run.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession
from notifier_stack import order_state_stub

from broker_tap import BrokerTap, tap_broker
from callers import Caller, eventually
from fixtures import PARTITIONS, StartService
from servers import Broker
from tracking.devstack.service_process import ServiceProcess
from tracking_shared.messaging.connection import connect
from tracking_shared.messaging.topology import partition_queue_name
from tracking_shared.storage.database import open_database

PASSWORD = secrets.token_hex(8)
OWN = r"^amq\.gen-.*$"


@pytest.fixture
async def tap(fresh_vhost_url: str) -> AsyncIterator[BrokerTap]:
    """A broker that asks for the right to configure before it says whether something is there."""
    async with tap_broker(fresh_vhost_url) as tap:
        tap.refuses_passive_declarations = True
        yield tap


async def test_no_service_asks_the_broker_what_is_there(
    tap: BrokerTap, service_environment: dict[str, str], start_service: StartService
) -> None:
    service_environment |= {"AMQP_URL": tap.url, "PARTITIONS": str(PARTITIONS)}
    order_state = await start_service("order_state")
    ingest, notifier = await start_service("ingest"), await start_service("notifier")
    async with Caller([ingest.url]) as caller:
        await caller.live(secrets.token_hex(8), ("picked_up",))
    assert all([await service.is_ready() for service in (order_state, ingest, notifier)])


async def test_who_may_not_declare_waits_for_order_state(
    broker_node: Broker,
    service_environment: dict[str, str],
    mongodb_url: str,
    database_name: str,
    start_service: StartService,
) -> None:
    user = await new_user(
        broker_node, service_environment, OWN, f"orders.commands|{OWN}", f"orders.events|{OWN}"
    )
    narrow = service_environment["AMQP_URL"].replace("guest:guest", f"{user}:{PASSWORD}")
    service_environment["PARTITIONS"] = str(PARTITIONS)
    waiting = [await start_service(module, wait=False, AMQP_URL=narrow) for module in ("ingest", "notifier")]
    async with open_database(mongodb_url, database_name) as database:
        await database.prepare(PARTITIONS)  # as order-state does before it declares
        for service in waiting:
            await eventually(lambda service=service: says(service, "NOT_FOUND"))
        await start_service("order_state")
        for service in waiting:
            await eventually(service.is_ready)


async def test_a_refusal_at_the_start_is_one_line_and_exit_code_78(
    broker_node: Broker, service_environment: dict[str, str], start_service: StartService
) -> None:
    url = service_environment["AMQP_URL"]
    service_environment["PARTITIONS"] = str(PARTITIONS)
    nothing = await new_user(broker_node, service_environment, "", "", "")
    no_vhost = url.rpartition("/")[0] + "/not-there"
    async with order_state_stub(service_environment):
        refused = [
            ("ingest", url.replace("guest:guest", f"guest:{PASSWORD}"), "ACCESS_REFUSED - Login was refused"),
            ("notifier", no_vhost, "NOT_ALLOWED - vhost not-there not found"),
            ("ingest", url.replace("guest:guest", f"{nothing}:{PASSWORD}"), "ACCESS_REFUSED"),
            ("notifier", url.replace("guest:guest", f"{nothing}:{PASSWORD}"), "ACCESS_REFUSED"),
        ]
        services = [
            (await start_service(module, wait=False, AMQP_URL=wrong), reason)
            for module, wrong, reason in refused
        ]
        for service, reason in services:
            async with asyncio.timeout(30):
                assert await service.process.wait() == 78
            line = service.process.last_line()
            assert "AMQP_URL: the broker refuses: " in line
            assert reason in line
            assert PASSWORD not in service.log_path.read_text()


async def test_a_queue_that_is_another_one_is_said_at_the_start(
    service_environment: dict[str, str], start_service: StartService
) -> None:
    async with connect(service_environment["AMQP_URL"], "somebody else") as connection:
        channel = await connection._connection.channel()
        await channel.declare_queue(partition_queue_name(0), durable=True)
        order_state = await start_service("order_state", wait=False)
        async with asyncio.timeout(30):
            assert await order_state.process.wait() == 78
        assert "PRECONDITION_FAILED" in order_state.process.last_line()


async def test_rights_that_are_taken_away_while_it_runs_end_no_service(
    broker_node: Broker, service_environment: dict[str, str], start_service: StartService
) -> None:
    everything = (".*", ".*", ".*")
    user = await new_user(broker_node, service_environment, *everything)
    vhost = service_environment["AMQP_URL"].rpartition("/")[2]
    url = service_environment["AMQP_URL"].replace("guest:guest", f"{user}:{PASSWORD}")
    service_environment |= {"AMQP_URL": url, "PARTITIONS": str(PARTITIONS)}
    await start_service("order_state")
    services = [await start_service("ingest"), await start_service("notifier")]

    await broker_node.control("set_permissions", "--vhost", vhost, user, "", "", "")
    await broker_node.control("close_all_connections", "--vhost", vhost, "test")
    for service in services:
        await eventually(lambda service=service: is_failing(service, {"broker": "AccessRefused"}))

    await broker_node.control("set_permissions", "--vhost", vhost, user, *everything)
    for service in services:
        await eventually(service.is_ready)
        assert "broker refuses" in service.log_path.read_text()


async def new_user(broker: Broker, environment: dict[str, str], configure: str, write: str, read: str) -> str:
    """The name of a user with these rights in the virtual host of the test."""
    name = f"user-{secrets.token_hex(4)}"
    vhost = environment["AMQP_URL"].rpartition("/")[2]
    await broker.control("add_user", name, PASSWORD)
    await broker.control("set_permissions", "--vhost", vhost, name, configure, write, read)
    return name


async def is_failing(service: ServiceProcess, failing: dict[str, str]) -> bool:
    """Whether `/readyz` says exactly this."""
    async with ClientSession() as session, session.get(f"{service.url}/readyz") as response:
        found: dict[str, str] = (await response.json())["failing"]
        return found == failing


async def says(service: ServiceProcess, text: str) -> bool:
    return service.log_path.exists() and text in service.log_path.read_text()
