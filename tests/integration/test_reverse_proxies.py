"""Two replicas of each service behind the proxies of `deploy/proxies`, with clients and a browser."""

import asyncio
import json
import re
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import uuid4

import httpx
import pytest
import requests
from aiohttp import ClientError, ClientSession
from benchmarks.chromium import open_browser
from playwright.async_api import expect
from websockets.asyncio.client import connect

from callers import eventually, token
from forked_services import ForkedService
from proxy_recipes import PROXIES, RunningProxy
from servers import Broker, new_environment
from tracking.devstack.processes import free_port
from tracking.devstack.service_process import CONSOLE_FOLDER
from tracking_client import LiveOrders

SERVICES = ("ingest", "query", "notifier")
CALLERS = 6
COUNTED = r"^tracking_http_requests_total\{.*\} (\S+)$"
HEALTH_CHECKS = 60
"""More than a replica is asked for in the time that a proxy leaves it out."""


@dataclass(frozen=True)
class Site:
    """The replicas, and both proxies in front of them."""

    replicas: Mapping[str, list[ForkedService]]
    proxies: Mapping[str, RunningProxy]


@pytest.fixture(scope="module")
async def site(
    broker_node: Broker, mongodb_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    ports = {name: free_port() for name in PROXIES}
    # The console is used behind one of them only.
    public = f"localhost:{ports['haproxy']}"
    environment = await new_environment(broker_node, mongodb_url) | {
        "PARTITIONS": "4",
        "CONSOLE_DIR": str(CONSOLE_FOLDER),
        "PUBLIC_QUERY_URL": f"https://{public}",
        "PUBLIC_INGEST_URL": f"https://{public}",
        "PUBLIC_STREAM_URL": f"wss://{public}/v1/stream",
        "ALLOWED_ORIGINS": f"https://{public}",
    }
    names = ["order_state", *SERVICES, *SERVICES]
    services = [
        ForkedService(name, environment=environment, logs=folder, name=f"{name}-{number}")
        for number, name in enumerate(names)
    ]
    async with AsyncExitStack() as stack:
        for service in services:
            stack.push_async_callback(service.stop)
            service.launch()
        for service in services:
            await service.start()
        replicas: dict[str, list[ForkedService]] = defaultdict(list)
        for name, service in zip(names, services, strict=True):
            replicas[name].append(service)
        addresses = {
            name: [replica.url.removeprefix("http://") for replica in replicas[name]] for name in SERVICES
        }
        proxies = {
            name: await stack.enter_async_context(run(folder / name, ports[name], addresses))
            for name, run in PROXIES.items()
        }
        yield Site(replicas, proxies)


@pytest.fixture(params=PROXIES)
def proxy(request: pytest.FixtureRequest, site: Site) -> RunningProxy:
    return site.proxies[request.param]


def creation(order_id: str, merchant_id: str, **more: Any) -> dict[str, Any]:
    customer = {"name": "Ada Example", "contact_ref": "crm:17"}
    return {"order_id": order_id, "merchant_id": merchant_id, "customer": customer} | more


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed here")
async def test_curl_speaks_http_2_to_it(proxy: RunningProxy) -> None:
    order_id, merchant_id = uuid4().hex, f"m-{uuid4().hex}"
    command = [
        "curl",
        "-s",
        "--http2",
        "--cacert",
        str(proxy.authority_file),
        "-w",
        "\n%{http_version} %{http_code}",
    ]
    command += ["-H", f"Authorization: Bearer {token()}", "-H", "Content-Type: application/json"]
    command += ["-d", json.dumps(creation(order_id, merchant_id)), f"{proxy.url}/v1/orders"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    body, _, line = output.decode().rpartition("\n")
    assert line == "2 201"
    assert json.loads(body)["order_id"] == order_id


def test_httpx_and_requests_write_and_read_at_one_origin(proxy: RunningProxy) -> None:
    merchant_id, reference = f"m-{uuid4().hex}", "WH%2FOUT%2F00012"
    headers = {"Authorization": f"Bearer {token()}"}
    order = creation(uuid4().hex, merchant_id, reference="WH/OUT/00012")
    del order["order_id"]
    path = f"{proxy.url}/v1/merchants/{merchant_id}/orders/{reference}"
    with httpx.Client(verify=proxy.tls(), headers=headers) as client:
        assert client.post(f"{proxy.url}/v1/orders", json=order).status_code == 201
        updated = client.post(f"{path}/updates", json={"status": "picked_up"})
        assert updated.status_code == 200
    with requests.Session() as session:
        session.headers.update(headers)
        session.trust_env = False  # else a bundle of authorities that the environment names goes first
        session.verify = str(proxy.authority_file)
        read = session.get(path)
        assert (read.status_code, read.json()["status"]) == (200, "picked_up")
        table = session.get(
            f"{proxy.url}/v1/orders", params={"merchant_id": merchant_id}, headers={"Accept": "text/csv"}
        )
        assert (table.status_code, len(table.text.splitlines())) == (200, 2)
        _send_too_large(session, proxy)


def _send_too_large(session: requests.Session, proxy: RunningProxy) -> None:
    # HAProxy closes the connection when it has sent the answer: whoever still sends may not get to read it.
    lost: tuple[type[Exception], ...] = (requests.ConnectionError,) if proxy.name == "haproxy" else ()
    with suppress(*lost):
        answer = session.post(
            f"{proxy.url}/v1/batch", data=bytes(2_000_000), headers={"Content-Type": "application/json"}
        )
        assert (answer.status_code, answer.json()["type"]) == (413, "/problems/payload-too-large")


async def test_both_transports_of_the_stream_send_each_event_at_once(proxy: RunningProxy) -> None:
    order_id, merchant_id = uuid4().hex, f"m-{uuid4().hex}"
    bearer = {"Authorization": f"Bearer {token()}"}
    async with (
        ClientSession(headers=bearer) as session,
        connect(proxy.stream_url, ssl=proxy.tls()) as socket,
        session.get(
            f"{proxy.url}/v1/stream",
            params={"merchant_id": merchant_id},
            headers={"Accept": "text/event-stream"},
            ssl=proxy.tls(),
        ) as stream,
        asyncio.timeout(30),
    ):
        wanted = {"merchant_id": [merchant_id]}
        await socket.send(json.dumps({"type": "subscribe", "token": token(), "filter": wanted}))
        while json.loads(await socket.recv())["type"] != "live":
            pass
        await stream.content.readuntil(b"event: live")
        started = time.monotonic()
        async with session.post(
            f"{proxy.url}/v1/orders", json=creation(order_id, merchant_id), ssl=proxy.tls()
        ) as answer:
            assert answer.status == 201
        assert json.loads(await socket.recv())["events"][0]["id"] == f"{order_id}:1"
        assert (
            f"{order_id}:1".encode()
            in await stream.content.readuntil(b'"events"') + await stream.content.readline()
        )
        assert time.monotonic() - started < 5


@dataclass
class Traffic:
    """Callers that each take one order through many updates and read it after each, until stopped."""

    proxy: RunningProxy
    merchant_id: str
    failures: Counter[str] = field(default_factory=Counter)
    versions: dict[str, int] = field(default_factory=dict)
    stopping: bool = False

    def __post_init__(self) -> None:
        self.tls = self.proxy.tls()

    async def report(self, session: ClientSession, path: str, body: Any, key: str) -> None:
        while True:
            try:
                answer = await self.once(session, "POST", path, json=body, headers={"Idempotency-Key": key})
            except (ClientError, TimeoutError) as error:
                self.failures[f"POST {type(error).__name__}"] += 1
            else:
                if answer[0] in (200, 201):
                    order = answer[1]["order"]
                    self.versions[order["order_id"]] = max(
                        answer[1]["version"], self.versions.get(order["order_id"], 0)
                    )
                    return
                self.failures[f"POST {answer[0]} {answer[1].get('type')}"] += 1
            await asyncio.sleep(0.05)  # back-off, not a wait for a condition

    async def once(self, session: ClientSession, method: str, path: str, **options: Any) -> tuple[int, Any]:
        url = f"{self.proxy.url}{path}"
        async with session.request(method, url, ssl=self.tls, **options) as response:
            return response.status, await response.json(content_type=None)

    async def caller(self) -> None:
        order_id = uuid4().hex
        async with ClientSession(headers={"Authorization": f"Bearer {token()}"}) as session:
            await self.report(session, "/v1/orders", creation(order_id, self.merchant_id), f"{order_id}.0")
            for status in ("picked_up", *["in_transit"] * 100_000):
                if self.stopping:
                    return
                number = self.versions[order_id]
                await self.report(
                    session, f"/v1/orders/{order_id}/updates", {"status": status}, f"{order_id}.{number}"
                )
                found, order = await self.once(session, "GET", f"/v1/orders/{order_id}")
                if found != 200 or order["version"] < self.versions[order_id]:
                    self.failures[f"GET {found} {order.get('type')}"] += 1


@asynccontextmanager
async def traffic(proxy: RunningProxy) -> AsyncIterator[tuple[Traffic, LiveOrders, dict[str, list[int]]]]:
    """Traffic, and a follower of it: the versions that it received of each order."""
    made = Traffic(proxy, f"m-{uuid4().hex}")
    live = LiveOrders(proxy.stream_url, token(), {"merchant_id": [made.merchant_id]})
    seen: dict[str, list[int]] = defaultdict(list)

    async def follow() -> None:
        async with aclosing(live.events()) as events:
            async for event in events:
                seen[event["subject"]].append(event["data"]["version"])

    following = asyncio.create_task(follow())
    await live.live.wait()
    callers = [asyncio.create_task(made.caller()) for _ in range(CALLERS)]
    try:
        yield made, live, seen
        made.stopping = True
        await asyncio.gather(*callers)

        async def complete() -> bool:
            return {order_id: len(versions) for order_id, versions in seen.items()} == made.versions

        await eventually(complete)
    finally:
        for task in (following, *callers):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    assert all(versions == list(range(1, len(versions) + 1)) for versions in seen.values())


async def more(made: Traffic, number: int = 30) -> None:
    """Waits until the callers have made so many more updates."""
    before = sum(made.versions.values())

    async def enough() -> bool:
        return sum(made.versions.values()) >= before + number

    await eventually(enough)


@pytest.mark.slow
async def test_replicas_restart_one_after_the_other_without_a_lost_update_or_event(
    proxy: RunningProxy, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(proxy.authority_file))
    async with traffic(proxy) as (made, live, _):
        await more(made)
        for name in SERVICES:
            for replica in site.replicas[name]:
                await replica.stop()
                await more(made)
                await replica.start()
                if name != "notifier":  # the stream has moved to the other one
                    await until_used(replica)
        assert live.connections >= 2
    if proxy.name == "haproxy":
        assert not made.failures
    else:
        # A POST that reaches a replica as it closes its port is not sent again; its caller has repeated it.
        assert set(made.failures) <= {"POST 503 /problems/overloaded"}
        assert made.failures.total() <= CALLERS


async def until_used(replica: ForkedService) -> None:
    """Waits until the proxy sends requests to a replica that has just started."""
    asked = count(1)

    async def is_used() -> bool:
        async with ClientSession() as session, session.get(f"{replica.url}/metrics") as response:
            counted = re.findall(COUNTED, await response.text(), re.MULTILINE)
        return sum(map(float, counted)) > next(asked) + HEALTH_CHECKS

    await eventually(is_used)


async def test_a_replica_that_is_killed_costs_no_update_and_no_event(
    proxy: RunningProxy, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(proxy.authority_file))
    async with traffic(proxy) as (made, _, _):
        await more(made)
        for name in SERVICES:
            await site.replicas[name][0].kill()
        await more(made)
        for name in SERVICES:
            await site.replicas[name][0].start()
    # Requests that were in hand; callers have repeated them.
    assert set(made.failures) <= {"POST 503 /problems/overloaded", "GET 503 /problems/overloaded"}
    if proxy.name == "haproxy":
        assert not made.failures


async def test_the_console_is_live_in_a_browser(site: Site) -> None:
    proxy = site.proxies["haproxy"]
    order_id, merchant_id = uuid4().hex, f"m-{uuid4().hex}"
    async with (
        open_browser() as browser,
        ClientSession(headers={"Authorization": f"Bearer {token()}"}) as session,
    ):
        context = await browser.new_context(ignore_https_errors=True)
        page = await context.new_page()
        sockets: list[str] = []
        page.on("websocket", lambda socket: sockets.append(socket.url))
        await page.goto(f"{proxy.url}/console/")
        await page.get_by_test_id("token-input").fill(token(merchants=[merchant_id]))
        await page.get_by_test_id("sign-in-send").click()
        await expect(page.get_by_test_id("connection")).to_contain_text("Live", ignore_case=True)
        async with session.post(
            f"{proxy.url}/v1/orders", json=creation(order_id, merchant_id), ssl=proxy.tls()
        ) as answer:
            assert answer.status == 201
        await expect(page.locator("body")).to_contain_text(order_id)
        assert sockets == [proxy.stream_url]
