"""Each query of the dashboard and of the alerts on a real Prometheus that scrapes a stack at work."""

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from aiohttp import ClientSession, web
from prometheus_server import FOLDER, Prometheus, prometheus
from websockets.asyncio.client import ClientConnection, connect

from callers import JWT_SECRET, Caller, eventually, many_lives, token
from fixtures import PARTITIONS, StartService
from tracking.devstack.broker_node import BrokerNode
from tracking.devstack.processes import free_port

pytestmark = [pytest.mark.monitoring, pytest.mark.timeout(240)]

RATE_INTERVAL = "30s"
TO_LOOPBACK = {"WEBHOOK_ALLOW_NETWORKS": "127.0.0.0/8"}
"""Where the receiver of the webhook listens: private networks are refused by default."""


class ObservedBroker(BrokerNode):
    """One with its plug-in for Prometheus."""

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self.metrics_port = free_port()

    def _write_configuration(self) -> None:
        super()._write_configuration()
        (self._data / "enabled_plugins").write_text("[rabbitmq_prometheus].\n")
        with (self._data / "rabbitmq.conf").open("a") as configuration:
            configuration.write(f"prometheus.tcp.ip = 127.0.0.1\nprometheus.tcp.port = {self.metrics_port}\n")


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[ObservedBroker]:
    node = ObservedBroker(tmp_path / "broker")
    try:
        await node.start()
        yield node
    finally:
        await node.stop()


@pytest.fixture
def service_environment(broker: ObservedBroker, mongodb_url: str, database_name: str) -> dict[str, str]:
    return {
        "AMQP_URL": broker.url,
        "MONGODB_URL": mongodb_url,
        "MONGODB_DATABASE": database_name,
        "JWT_SECRET": JWT_SECRET,
        "PARTITIONS": str(PARTITIONS),
    }


@asynccontextmanager
async def webhook(query_url: str) -> AsyncIterator[None]:
    """One for every event, and its receiver."""

    async def accept(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/in", accept)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        body = {"url": f"http://127.0.0.1:{runner.addresses[0][1]}/in"}
        headers = {"Authorization": f"Bearer {token(scope='webhooks:manage orders:read')}"}
        async with (
            ClientSession(headers=headers) as session,
            session.post(f"{query_url}/v1/webhooks", json=body) as answer,
        ):
            assert answer.status == 201, await answer.text()
        yield
    finally:
        await runner.cleanup()


@asynccontextmanager
async def scraped_stack(
    start_service: StartService, broker: ObservedBroker, data: Path
) -> AsyncIterator[tuple[Prometheus, Caller, str]]:
    """A Prometheus, a caller of its ingest, and the address of its stream. A webhook gets every event."""
    names = ("order-state", "ingest", "query", "notifier", "webhooks")
    started = {name: await start_service(name.replace("-", "_"), **TO_LOOPBACK) for name in names}
    targets = {f"tracking-{name}": [service.url.split("//")[1]] for name, service in started.items()}
    targets["tracking-rabbitmq"] = [f"127.0.0.1:{broker.metrics_port}"]
    async with (
        webhook(started["query"].url),
        prometheus(data, targets) as server,
        Caller([started["ingest"].url]) as caller,
    ):
        yield server, caller, started["notifier"].stream_url


def dashboard_queries() -> dict[str, str]:
    """All of them, by panel and number."""
    dashboard = json.loads((FOLDER / "dashboards/tracking.json").read_text())
    return {
        f"{panel['title']} {target['refId']}": target["expr"].replace("$__rate_interval", RATE_INTERVAL)
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    }


async def until(socket: ClientConnection, kind: str) -> None:
    """Reads up to a message of this type."""
    async with asyncio.timeout(10):
        while json.loads(await socket.recv())["type"] != kind:
            pass


async def watch_and_lose(stream_url: str) -> None:
    """A dashboard whose token comes to say less, so that it begins anew, and that is closed for nonsense."""
    async with connect(stream_url, max_size=None) as socket:
        await socket.send(json.dumps({"type": "subscribe", "token": token()}))
        await until(socket, "live")
        await socket.send(json.dumps({"type": "refresh", "token": token(merchants=["m-1"])}))
        await until(socket, "resync")
        await socket.send("nonsense")
        await asyncio.wait_for(socket.wait_closed(), 10)


async def without_data(server: Prometheus) -> list[str]:
    """The queries that have no sample, or one that is no number."""
    missing = []
    for name, expression in dashboard_queries().items():
        samples = await server.query(expression)
        if not samples or any(math.isnan(value) for _, value in samples):
            missing.append(name)
    return missing


async def test_every_query_of_the_dashboard_has_data_and_no_alert_fires_on_a_healthy_stack(
    start_service: StartService, broker: ObservedBroker, tmp_path: Path
) -> None:
    async with scraped_stack(start_service, broker, tmp_path / "prometheus") as (server, caller, stream_url):

        async def has_data() -> bool:
            # Counters with labels are there from their first count on, and have a rate from the second on.
            await many_lives(caller, 2)
            await watch_and_lose(stream_url)
            return not await without_data(server)

        try:
            await eventually(has_data, seconds=90)
        except AssertionError:
            pytest.fail(f"without data: {await without_data(server)}")
        firing = await server.query('ALERTS{alertstate="firing"}')
        assert firing == []
        rules = (await server.get("rules"))["groups"][0]["rules"]
        assert {rule["name"]: rule["health"] for rule in rules if rule["health"] != "ok"} == {}


async def test_figures_are_those_of_what_happened(
    start_service: StartService, broker: ObservedBroker, tmp_path: Path
) -> None:
    async with scraped_stack(start_service, broker, tmp_path / "prometheus") as (server, caller, _):
        await caller.live(uuid4().hex, steps=("picked_up", "delivered"))  # the second is refused

        async def is_counted() -> bool:
            answers = await server.query("sum by (outcome) (tracking_ingest_answers_total)")
            figures = {labels["outcome"]: value for labels, value in answers}
            return figures == {"applied": 2, "rejected": 1}

        await eventually(is_counted, seconds=60)
        lag = await server.query("max(tracking_feed_lag_events)")
        assert lag == [({}, 0)]
        partitions = await server.query("count(max by (partition) (tracking_oldest_command_seconds))")
        assert partitions == [({}, PARTITIONS)]
