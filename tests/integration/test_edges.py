"""What comes before the application: connections, heads, bodies, limits, and what browsers are told."""

import asyncio
import gzip
import json
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
from aiohttp import ClientSession

from answers import Answer
from callers import JWT_SECRET, token
from forked_services import ForkedService
from raw_http import RawConnection, exchange
from servers import Broker, new_environment
from tracking.devstack.processes import wait_until

DESK = "https://desk.example"
TRACE_ID = re.compile(r"[0-9a-f]{32}")
TRACE = "0af7651916cd43dd8448eb211c80319c"
BURST = 30
CONNECTIONS = 40
REQUESTS = 12
REQUEST_SECONDS = 3.0
"""Long enough to open all connections of a test before one is given up, on a busy machine, too."""

BODY = json.dumps({"merchant_id": "m", "customer": {"name": "Ada", "contact_ref": "c"}}).encode()


@pytest.fixture(scope="module")
async def url(
    broker_node: Broker, mongodb_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[str]:
    """An ingest with narrow bounds. Nobody decides what it takes, so a good request is accepted."""
    environment = await new_environment(broker_node, mongodb_url) | {
        "ALLOWED_ORIGINS": DESK,
        "HSTS_SECONDS": "3600",
        "RATE_LIMIT_PER_SECOND": "0.1",
        "RATE_LIMIT_BURST": str(BURST),
        "HTTP_MAX_CONNECTIONS": str(CONNECTIONS),
        "HTTP_MAX_REQUESTS": str(REQUESTS),
        "HTTP_REQUEST_SECONDS": str(REQUEST_SECONDS),
    }
    logs: Path = tmp_path_factory.mktemp("edges")
    service = ForkedService("ingest", environment=environment, logs=logs)
    try:
        await service.start()
        yield service.url
    finally:
        await service.stop()


def request(
    *headers: str,
    method: str = "POST",
    path: str = "/v1/orders",
    body: bytes = BODY,
    length: int | None = None,
    bearer: str | None = None,
    media_type: str = "application/json",
) -> bytes:
    """A good request, unless said otherwise. Each one is another caller's."""
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: ingest",
        f"Authorization: Bearer {bearer or token(sub=secrets.token_hex(8))}",
        "Prefer: respond-async",
        *([f"Content-Type: {media_type}"] if media_type else []),
        *([f"Content-Length: {len(body) if length is None else length}"] if length != -1 else []),
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def refused(url: str, data: bytes) -> tuple[int, str]:
    answer = await exchange(url, data)
    check_trace(answer)
    return answer.status, answer.slug


def check_trace(answer: Answer) -> None:
    """Every problem names its trace, and its request where that is known."""
    assert answer.headers["content-type"] == "application/problem+json"
    assert TRACE_ID.fullmatch(answer.json["trace_id"])
    assert answer.json["instance"].startswith("/") if "instance" in answer.json else True


async def test_a_good_request_is_taken(url: str) -> None:
    assert (await exchange(url, request())).status == 202


@pytest.mark.parametrize(
    "media_type",
    ["text/plain", "", "application/json; charset=latin-1", "application/json;charset=utf-16", "a" * 5000],
)
async def test_another_type_or_charset_is_refused(url: str, media_type: str) -> None:
    assert await refused(url, request(media_type=media_type)) == (415, "unsupported-media-type")


@pytest.mark.parametrize(
    "media_type", ["application/json; charset=utf-8", 'Application/JSON; x=y; charset="UTF-8"']
)
async def test_utf_8_may_be_said(url: str, media_type: str) -> None:
    assert (await exchange(url, request(media_type=media_type))).status == 202


async def test_two_content_types_are_refused(url: str) -> None:
    twice = request("Content-Type: application/json")
    assert await refused(url, twice) == (415, "unsupported-media-type")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "identity, gzip", "GZIP"])
async def test_a_compressed_body_is_refused_unread(url: str, coding: str) -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    answer = await exchange(url, request(f"Content-Encoding: {coding}", body=bomb))
    assert (answer.status, answer.slug) == (415, "unsupported-media-type")
    assert answer.headers["accept-encoding"] == "identity"


async def test_a_body_that_says_it_is_too_long_is_refused_before_it_is_sent(url: str) -> None:
    answer = await exchange(url, request(body=b"", length=10**15))
    assert (answer.status, answer.slug) == (413, "payload-too-large")
    assert answer.headers["connection"] == "close"


async def test_a_body_without_end_is_refused_at_the_bound(url: str) -> None:
    connection = await RawConnection.open(url)
    await connection.send(request("Transfer-Encoding: chunked", body=b"", length=-1))
    for _ in range(4):
        await connection.send(b"4000\r\n" + b" " * 0x4000 + b"\r\n")  # 64 KiB in all: the bound
    await connection.send(
        b"1\r\n \r\n"
    )  # the last one: written to a closed connection, more would cost the answer
    answer = await connection.answer()
    assert (answer.status, answer.slug) == (413, "payload-too-large")
    assert await connection.closed_after() < 10


async def test_a_body_that_drips_is_given_up(url: str) -> None:
    connection = await RawConnection.open(url)
    await connection.send(request(body=BODY[:10], length=len(BODY)))
    answer = await connection.answer()
    assert (answer.status, answer.slug) == (408, "request-timeout")
    assert await connection.closed_after() < 10


@pytest.mark.parametrize(
    ("begun", "instance"),
    [
        ("POST /v1/orders/o%201?a=b HTTP/1.1\r\nHost: ingest\r\nX: ", "/v1/orders/o 1"),
        ("POST /v1/or", None),
    ],
    ids=["in a header", "in the path"],
)
async def test_a_head_that_drips_is_given_up(url: str, begun: str, instance: str | None) -> None:
    connection = await RawConnection.open(url)
    await connection.send(begun.encode())
    answer = await connection.answer()
    assert (answer.status, answer.slug) == (408, "request-timeout")
    check_trace(answer)
    assert answer.json.get("instance") == instance
    assert await connection.closed_after() < 10


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n" + b"X: " + b"a" * 40_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: " + b"a" * 600_000,  # and no end in sight
        b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 20_000,
        b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n",
    ],
)
async def test_a_head_that_is_too_large_is_refused(url: str, head: bytes) -> None:
    assert await refused(url, head) == (431, "headers-too-large")


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused(url: str, data: bytes) -> None:
    assert await refused(url, data) == (400, "malformed-request")


async def test_what_is_refused_before_it_is_a_request_names_trace_and_path_of_its_head(url: str) -> None:
    lines = ["POST /v1/orders HTTP/1.1", f"Traceparent: 00-{TRACE}-b7ad6b7169203331-01", "Content-Length: -5"]
    answer = await exchange(url, "\r\n".join([*lines, "", ""]).encode())
    assert answer.slug == "malformed-request"
    assert (answer.json["trace_id"], answer.json["instance"]) == (TRACE, "/v1/orders")
    assert answer.headers["trace-id"] == TRACE


@pytest.mark.parametrize(
    "head",
    [
        b"GET /v1/nothing%ff%00%ed%a0%80 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /v1/nothing HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET /v1/nothing HTTP/1.1\r\nHost: a\r\nTraceparent: \xff\r\nOrigin: \xff\r\n\r\n",
        b"GET //v1/nothing HTTP/1.0\r\n\r\n",
    ],
)
async def test_odd_heads_get_an_ordinary_answer(url: str, head: bytes) -> None:
    assert await refused(url, head) == (404, "not-found")


@pytest.mark.parametrize("host", [b"[", b"\xff"])
async def test_what_is_no_host_is_refused_as_a_problem(url: str, host: bytes) -> None:
    head = b"GET /v1/nothing HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
    assert await refused(url, head) == (400, "malformed-request")


async def test_a_caller_is_limited_and_told_so(url: str) -> None:
    bearer = token(sub=secrets.token_hex(8))
    answers = [await exchange(url, request(bearer=bearer)) for _ in range(BURST + 1)]
    assert [answer.status for answer in answers] == [202] * BURST + [429]
    assert answers[0].headers["ratelimit-policy"] == f'"principal";q={BURST};w={BURST * 10}'
    assert answers[0].headers["ratelimit"].startswith(f'"principal";r={BURST - 1};t=')
    assert answers[-1].slug == "too-many-requests"
    assert 0 < int(answers[-1].headers["retry-after"]) <= 10
    assert (await exchange(url, request())).status == 202  # another caller


async def test_each_operation_of_a_batch_counts(url: str) -> None:
    bearer = token(sub=secrets.token_hex(8))
    operation = BODY[:-1] + b',"op":"create"}'
    batch = b"[" + b",".join([operation] * (BURST - 10)) + b"]"
    first = await exchange(url, request(path="/v1/batch", body=batch, bearer=bearer))
    assert (first.status, first.headers["ratelimit"][:15]) == (200, '"principal";r=1')
    second = await exchange(url, request(path="/v1/batch", body=batch, bearer=bearer))
    assert (second.status, second.slug) == (429, "too-many-requests")


async def test_too_much_in_hand_is_refused_at_once_and_health_is_not(url: str) -> None:
    async with AsyncExitStack() as open_ones:
        for _ in range(REQUESTS):
            connection = await RawConnection.open(url)
            open_ones.callback(connection.close)
            await connection.send(request(body=b"", length=len(BODY)))
        answer = await _until_overloaded(url)
        assert (answer.status, answer.slug) == (503, "overloaded")
        assert int(answer.headers["retry-after"]) > 0
        health = await exchange(url, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert health.status == 200


async def test_who_has_too_much_in_hand_is_refused_and_others_are_served(url: str) -> None:
    greedy, colleague, modest = (
        token(sub=secrets.token_hex(8), merchants=[merchant])
        for merchant in ("greedy-m", "greedy-m", "modest-m")
    )
    body = BODY.replace(b'"m"', b'"modest-m"')
    async with AsyncExitStack() as open_ones:
        for bearer, number in ((greedy, REQUESTS // 2), (colleague, REQUESTS // 4)):
            slow = request(body=b"", length=len(BODY), bearer=bearer)
            for _ in range(number):
                connection = await RawConnection.open(url)
                open_ones.callback(connection.close)
                await connection.send(slow)
            async with asyncio.timeout(REQUEST_SECONDS / 2):  # those in hand are given up after that
                while (answer := await exchange(url, request(bearer=bearer))).status == 403:
                    pass
            assert (answer.status, answer.slug) == (429, "too-many-requests")
            assert int(answer.headers["retry-after"]) > 0
            check_trace(answer)
            assert (await exchange(url, request(bearer=modest, body=body))).status == 202
    async with asyncio.timeout(30):
        while (await exchange(url, request(bearer=greedy))).status == 429:
            pass


async def _until_overloaded(url: str) -> Answer:
    async with asyncio.timeout(REQUEST_SECONDS / 2):  # those in hand are given up after that
        while (answer := await exchange(url, request())).status == 202:
            pass
    return answer


async def test_too_many_connections_are_refused_and_free_again_afterwards(url: str) -> None:
    async with AsyncExitStack() as open_ones:
        for _ in range(CONNECTIONS):
            connection = await RawConnection.open(url)
            open_ones.callback(connection.close)
        one_more = await RawConnection.open(url)
        open_ones.callback(one_more.close)
        answer = await one_more.answer()
        assert (answer.status, answer.slug) == (503, "overloaded")
        check_trace(answer)
    async with asyncio.timeout(30):
        while (await exchange(url, request())).status != 202:
            pass


@pytest.fixture(scope="module")
async def stream_url(mongodb_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A notifier that will never be ready: handshakes come before."""
    environment = {
        "AMQP_URL": "amqp://127.0.0.1:1/",
        "MONGODB_URL": mongodb_url,
        "MONGODB_DATABASE": f"test_{secrets.token_hex(6)}",
        "JWT_SECRET": JWT_SECRET,
        "ALLOWED_ORIGINS": DESK,
    }
    service = ForkedService("notifier", environment=environment, logs=tmp_path_factory.mktemp("origins"))
    service.launch()
    try:
        await wait_until(lambda: _is_alive(service.url), seconds=30, what="the notifier lives")
        yield service.url
    finally:
        await service.stop()


async def _is_alive(url: str) -> bool:
    with suppress(OSError, asyncio.IncompleteReadError):
        return (await exchange(url, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")).status == 200
    return False


HANDSHAKE = [
    "GET /v1/stream HTTP/1.1",
    "Host: notifier",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
]


@pytest.mark.parametrize(
    ("origins", "status"),
    [
        ([], 101),
        ([DESK], 101),
        (["https://evil.example"], 403),
        (["null"], 403),
        ([f"{DESK}.evil.example"], 403),
        ([DESK, "https://evil.example"], 403),
    ],
)
async def test_the_stream_opens_only_for_programs_and_pages_of_allowed_origins(
    stream_url: str, origins: list[str], status: int
) -> None:
    lines = [*HANDSHAKE, *(f"Origin: {origin}" for origin in origins)]
    answer = await exchange(stream_url, "\r\n".join([*lines, "", ""]).encode())
    assert answer.status == status
    if status == 403:
        assert answer.slug == "forbidden"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def handshake(*others: str, line: str = "GET /v1/stream HTTP/1.1", without: str = "-") -> bytes:
    """A good handshake, but for one line that is left out, and others that come instead."""
    kept = [header for header in HANDSHAKE[1:] if not header.startswith(without)]
    return "\r\n".join([line, *kept, *others, "", ""]).encode()


@pytest.mark.parametrize(
    ("data", "status", "slug"),
    [
        (handshake(without="Upgrade"), 426, "upgrade-required"),
        (handshake(without="Connection"), 426, "upgrade-required"),
        (handshake("Sec-WebSocket-Version: 8", without="Sec-WebSocket-Version"), 426, "upgrade-required"),
        (handshake(without="Sec-WebSocket-Version"), 426, "upgrade-required"),
        (handshake(line="GET /v1/stream HTTP/1.0"), 426, "upgrade-required"),
        (handshake("Sec-WebSocket-Key: short", without="Sec-WebSocket-Key"), 400, "malformed-request"),
        (handshake(line="POST /v1/stream HTTP/1.1"), 405, "method-not-allowed"),
        (handshake(line="PUT /v1/stream HTTP/1.1"), 405, "method-not-allowed"),
        (handshake("X: " + "a" * 9000), 431, "headers-too-large"),
        (handshake(*["X: a"] * 200), 431, "headers-too-large"),
        (handshake(line=f"GET /{'a' * 9000} HTTP/1.1"), 431, "headers-too-large"),
        (handshake("Content-Length: 2") + b"{}", 400, "malformed-request"),
        (handshake("Transfer-Encoding: chunked") + b"0\r\n\r\n", 400, "malformed-request"),
        (handshake("Content-Length: 2", line="POST /v1/stream HTTP/1.1") + b"{}", 400, "malformed-request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, "malformed-request"),
        (b"GET /v1/stream HTTP/2.0\r\n\r\n", 400, "malformed-request"),
    ],
    ids=[
        "no upgrade",
        "no connection",
        "another version",
        "no version",
        "HTTP/1.0",
        "a short key",
        "POST",
        "PUT",
        "a long header",
        "many headers",
        "a long path",
        "a body",
        "a chunked body",
        "POST with a body",
        "TLS",
        "HTTP/2.0",
    ],
)
async def test_what_is_no_handshake_gets_a_problem(
    stream_url: str, data: bytes, status: int, slug: str
) -> None:
    connection = await RawConnection.open(stream_url)
    await connection.send(data)
    answer = await connection.rest()
    connection.close()
    assert (answer.status, answer.slug) == (status, slug)
    check_trace(answer)
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    if slug == "upgrade-required":
        assert (answer.headers["upgrade"], answer.headers["sec-websocket-version"]) == ("websocket", "13")
    if slug == "method-not-allowed":
        assert answer.headers["allow"] == "GET, HEAD"
    if data.startswith((b"GET /v1/stream HTTP/1.1", b"POST")) and status in (405, 426):
        assert answer.json["instance"] == "/v1/stream"


async def test_every_answer_tells_browsers_to_do_nothing_with_it(url: str) -> None:
    async with ClientSession() as session:
        for path in ("/v1/nothing", "/healthz", "/v1/orders"):
            async with session.get(url + path) as answer:
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Referrer-Policy"] == "no-referrer"
                assert answer.headers["Cache-Control"] == "no-store"
                assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
                assert answer.headers["Strict-Transport-Security"] == "max-age=3600; includeSubDomains"
    malformed = await exchange(url, b"nonsense\r\n\r\n")
    assert malformed.headers["x-content-type-options"] == "nosniff"


async def test_a_page_of_an_allowed_origin_may_call(url: str) -> None:
    asked = {"Origin": DESK, "Access-Control-Request-Method": "POST"}
    async with ClientSession() as session:
        async with session.options(f"{url}/v1/orders", headers=asked) as answer:
            assert answer.status == 204
            assert answer.headers["Access-Control-Allow-Origin"] == DESK
            assert "Idempotency-Key" in answer.headers["Access-Control-Allow-Headers"]
        async with session.post(f"{url}/v1/orders", headers={"Origin": DESK}) as answer:
            assert answer.status == 401
            assert answer.headers["Access-Control-Allow-Origin"] == DESK
            assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"]


async def test_a_page_of_another_origin_is_told_nothing(url: str) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    async with ClientSession() as session:
        async with session.options(f"{url}/v1/orders", headers=asked) as answer:
            assert answer.status == 405
            assert "Access-Control-Allow-Origin" not in answer.headers
        async with session.post(f"{url}/v1/orders", headers=asked) as answer:
            assert "Access-Control-Allow-Origin" not in answer.headers
            assert answer.headers["Vary"] == "Origin"
