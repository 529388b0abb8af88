"""The proxies of `deploy/proxies`, in front of servers that say what reached them."""

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, TCPConnector, web
from pages import ROOT, blocks, read
from test_kubernetes import routed
from yarl import URL

from openapi_checks import document_of
from proxy_recipes import PORTS, PROXIES, RECIPES, RunningProxy
from tracking.devstack.processes import free_port
from tracking_shared.contracts.problems import CATALOGUE
from tracking_shared.http.service_app import NEVER_REFUSED

FORGED = {
    "X-Forwarded-For": "203.0.113.7",
    "X-Real-IP": "203.0.113.7",
    "Forwarded": "for=203.0.113.7",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Host": "evil.example",
}
OPERATIONS = sorted(
    {
        (method.upper(), path)
        for name in ("ingest", "query")
        for path, methods in document_of(name)["paths"].items()
        for method in methods
    }
    | {("GET", path) for path in ("/v1/stream", "/asyncapi.json", "/console/app.js", "/problems/forbidden")}
)


@dataclass
class Echo:
    """A replica that answers with what it got. `breaks`: it closes so many connections without an answer."""

    service: str
    breaks: int = 0
    requests: list[str] = field(default_factory=list)
    address: str = ""

    async def start(self, stack: AsyncExitStack) -> None:
        runner = web.ServerRunner(web.Server(self._answer))
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.address = f"127.0.0.1:{runner.addresses[0][1]}"

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/readyz":
            return web.Response()
        size = 0
        async for chunk in request.content.iter_any():
            size += len(chunk)
        self.requests.append(request.raw_path)
        if self.breaks:
            self.breaks -= 1
            assert request.transport is not None
            request.transport.abort()
        document = {"service": self.service, "path": request.raw_path, "bytes": size}
        return web.json_response(
            document | {"headers": {key.lower(): v for key, v in request.headers.items()}}
        )


@dataclass
class World:
    proxy: RunningProxy
    replicas: dict[str, list[Echo]]
    session: ClientSession

    async def request(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        url = URL(self.proxy.url + path, encoded=True)
        async with self.session.request(method, url, ssl=self.proxy.tls(), **options) as response:
            assert response.content_type in ("application/json", "application/problem+json")
            return response.status, None if method == "HEAD" else await response.json(content_type=None)


@pytest.fixture(params=PROXIES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def opened(
    stack: AsyncExitStack, name: str, folder: Path, changes: dict[str, str] | None = None
) -> World:
    replicas = {service: [Echo(service), Echo(service)] for service in PORTS}
    for echo in (each for echoes in replicas.values() for each in echoes):
        await echo.start(stack)
    addresses = {service: [echo.address for echo in echoes] for service, echoes in replicas.items()}
    proxy = await stack.enter_async_context(PROXIES[name](folder / name, free_port(), addresses, changes))
    session = await stack.enter_async_context(ClientSession(connector=TCPConnector(force_close=True)))
    return World(proxy, replicas, session)


@pytest.fixture
async def world(name: str, tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield await opened(stack, name, tmp_path)


async def test_a_request_reaches_the_same_service_as_in_kubernetes(world: World) -> None:
    for method, path in OPERATIONS:
        if routed(method, path) is None:
            continue
        options = {"data": b"x"} if method == "POST" else {}
        status, document = await world.request(method, path.replace("{", "").replace("}", ""), **options)
        assert status == 200
        assert document["service"] == routed(method, path), (method, path)
    for path in (*NEVER_REFUSED, "/", "/v2/orders"):
        status, document = await world.request("GET", path)
        assert (status, document["title"]) == (404, CATALOGUE["not-found"].title)


@pytest.mark.parametrize("reference", ["WH%2FOUT%2F00012", "%231001", "a%252Fb", "%E6%9D%B1", "a%20b"])
async def test_a_percent_encoded_path_goes_on_as_it_came(reference: str, world: World) -> None:
    path = f"/v1/merchants/acme/orders/{reference}"
    assert (await world.request("GET", path))[1]["path"] == path
    _, document = await world.request("POST", f"{path}/updates?x=%2F", data=b"{}")
    assert (document["service"], document["path"]) == ("ingest", f"{path}/updates?x=%2F")


async def test_the_largest_bodies_come_through_with_a_length_and_in_chunks(world: World) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(16):
            yield bytes(65_536)

    for data in (BytesIO(bytes(1_048_576)), chunks()):
        _, document = await world.request("POST", "/v1/batch", data=data)
        assert document["bytes"] == 1_048_576
    _, document = await world.request("POST", "/v1/orders", data=bytes(65_536))
    assert document["bytes"] == 65_536


async def test_a_caller_cannot_choose_its_address(world: World) -> None:
    _, document = await world.request("GET", "/v1/orders", headers=FORGED)
    headers = document["headers"]
    assert headers["x-forwarded-for"] == headers["x-real-ip"] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == "https"
    assert headers["x-forwarded-host"] == headers["host"] == f"localhost:{world.proxy.port}"
    assert "forwarded" not in headers


LIMITS = {
    "nginx": {
        "limit_conn connections_per_address 1000": "limit_conn connections_per_address 1",
        "burst=2000": "burst=3",
    },
    "haproxy": {"TRACKING_REQUESTS_PER_ADDRESS_IN_10_SECONDS": "3"},
}


async def test_another_address_in_a_header_evades_no_limit(name: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        world = await opened(stack, name, tmp_path, LIMITS[name])
        answers = await asyncio.gather(
            *(
                world.request("GET", "/v1/orders", headers={"X-Forwarded-For": f"203.0.113.{number}"})
                for number in range(40)
            )
        )
        refused = [document for status, document in answers if status == 429]
        assert len(refused) > 10
        assert refused[0]["type"] == "/problems/too-many-requests"


BEHIND_ANOTHER = {
    "nginx": {
        "ssl http2;\n": "ssl http2 proxy_protocol;\n",
        "#set_real_ip_from 10.0.0.0/24": "set_real_ip_from 127.0.0.1",
        "#real_ip_header proxy_protocol": "real_ip_header proxy_protocol",
    },
    "haproxy": {"alpn h2,http/1.1\n": "alpn h2,http/1.1 accept-proxy\n"},
}


async def test_the_address_of_the_proxy_protocol_is_believed_and_that_of_a_header_is_not(
    name: str, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        world = await opened(stack, name, tmp_path, BEHIND_ANOTHER[name])
        plain = socket.create_connection(("127.0.0.1", world.proxy.port))
        plain.sendall(b"PROXY TCP4 198.51.100.9 127.0.0.1 40000 443\r\n")
        plain.setblocking(False)
        reader, writer = await asyncio.open_connection(
            sock=plain, ssl=world.proxy.tls(), server_hostname="localhost"
        )
        writer.write(b"GET /v1/orders HTTP/1.0\r\nHost: a\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n")
        answer = await reader.read()
        writer.close()
        assert b'"x-forwarded-for": "198.51.100.9"' in answer


async def test_a_trusted_proxy_names_the_address_and_only_the_last_one_that_it_saw(tmp_path: Path) -> None:
    changes = {
        "#set_real_ip_from 10.0.0.0/24": "set_real_ip_from 127.0.0.1",
        "#real_ip_header X-Forwarded-For": "real_ip_header X-Forwarded-For",
        "#real_ip_recursive": "real_ip_recursive",
    }
    async with AsyncExitStack() as stack:
        world = await opened(stack, "nginx", tmp_path, changes)
        headers = {"X-Forwarded-For": "203.0.113.7, 198.51.100.9"}
        _, document = await world.request("GET", "/v1/orders", headers=headers)
        assert document["headers"]["x-forwarded-for"] == "198.51.100.9"


KEY = {"Idempotency-Key": "scan-1"}


@pytest.mark.parametrize(
    ("proxy", "method", "path", "headers", "status", "times"),
    [
        ("nginx", "GET", "/v1/orders", {}, 200, 2),
        ("nginx", "POST", "/v1/orders", {}, 503, 1),
        ("nginx", "POST", "/v1/orders", KEY, 503, 1),
        ("nginx", "POST", "/v1/batch", KEY, 503, 1),
        ("nginx", "PATCH", "/v1/webhooks/a", {}, 503, 1),
        ("haproxy", "GET", "/v1/orders", {}, 200, 2),
        ("haproxy", "POST", "/v1/orders", {}, 503, 1),
        ("haproxy", "POST", "/v1/orders", KEY, 200, 2),
        ("haproxy", "POST", "/v1/batch", KEY, 503, 1),
        ("haproxy", "POST", "/v1/webhooks", {}, 503, 1),
        ("haproxy", "DELETE", "/v1/webhooks/a", {}, 503, 1),
    ],
)
async def test_only_what_takes_effect_once_is_sent_again(  # noqa: PLR0917 - one row of the table
    proxy: str, method: str, path: str, headers: dict[str, str], status: int, times: int, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        world = await opened(stack, proxy, tmp_path)
        for echo in (echo for echoes in world.replicas.values() for echo in echoes):
            echo.breaks = 1 if echo is world.replicas[routed(method, path) or ""][0] else 0
        echoes = world.replicas[routed(method, path) or ""]
        options = {"data": b"{}"} if method in ("POST", "PATCH") else {}
        while echoes[0].breaks:  # until the turn of the one that breaks
            for echo in echoes:
                echo.requests.clear()
            found, document = await world.request(method, path, headers=headers, **options)
        assert (found, sum(len(echo.requests) for echo in echoes)) == (status, times)
        if status == 503:
            assert document["type"] == "/problems/overloaded"


async def test_a_service_without_a_replica_is_a_problem_document(name: str, tmp_path: Path) -> None:
    nobody = {service: [f"127.0.0.1:{free_port()}" for _ in range(2)] for service in PORTS}
    async with (
        PROXIES[name](tmp_path / name, free_port(), nobody) as proxy,
        ClientSession() as session,
        session.get(f"{proxy.url}/v1/orders", ssl=proxy.tls()) as response,
    ):
        assert (response.status, response.headers["Retry-After"]) == (503, "2")
        assert response.content_type == "application/problem+json"
        document = await response.json(content_type=None)
    assert (document["type"], document["status"]) == ("/problems/overloaded", 503)
    assert document["title"] == CATALOGUE["overloaded"].title


async def test_headers_as_large_as_those_of_the_services_come_through(world: World) -> None:
    large = {f"X-Large-{number}": "x" * 7000 for number in range(4)}
    _, document = await world.request("GET", "/v1/orders", headers=large)
    assert document["headers"].items() >= {name.lower(): value for name, value in large.items()}.items()


async def test_what_is_not_http_is_refused(world: World) -> None:
    reader, writer = await asyncio.open_connection("localhost", world.proxy.port, ssl=world.proxy.tls())
    writer.write(b"GET /v1/orders HTTP/1.1\r\nHost a\r\n\r\n")
    answer = await reader.read()
    writer.close()
    assert b" 400 " in answer
    # HAProxy has a page of its own for it.
    assert (b"/problems/malformed-request" in answer) == (world.proxy.name == "nginx")


async def test_a_replica_that_is_drained_gets_no_more_requests(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        world = await opened(stack, "haproxy", tmp_path)
        await world.proxy.command("set server query/query-1 state drain")
        for _ in range(6):
            assert (await world.request("GET", "/v1/orders"))[0] == 200
        first, second = world.replicas["query"]
        assert (len(first.requests), len(second.requests)) == (0, 6)


def test_the_commands_of_the_page_copy_every_file_to_where_the_proxy_looks_for_it(tmp_path: Path) -> None:
    for name in PROXIES:
        (tmp_path / "etc" / name).mkdir(parents=True)
    commands = "\n".join(blocks(read("docs/reverse-proxy.md"), "sh")).splitlines()
    for command in commands:
        if command.startswith("cp "):
            subprocess.run(command.replace("/etc", f"{tmp_path}/etc").split(), cwd=ROOT, check=True)
    wanted = {path.relative_to(RECIPES) for path in RECIPES.rglob("*") if path.is_file()}
    copied = {path.relative_to(tmp_path / "etc") for path in tmp_path.rglob("*") if path.is_file()}
    assert copied == wanted
