"""What precedes and surrounds a good request costs neither its body nor its place on the connection."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import ASGIApp, Receive, Scope, Send

from answers import Answer
from raw_http import RawConnection, exchange
from tracking.devstack.processes import wait_until
from tracking_shared.http.connections import BoundedProtocol, bounded_protocol
from tracking_shared.http.http_limits import http_limits_of
from tracking_shared.http.request_parser import UpgradeIgnoringParser
from tracking_shared.settings import Settings

H2C = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
OFFERS = {
    "h2c, as Java and curl offer it": H2C,
    "websocket": "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    "TLS": "Connection: upgrade\r\nUpgrade: TLS/1.0\r\n",
    "several": "Upgrade: h2c, websocket, TLS/1.3\r\nConnection: keep-alive, Upgrade\r\n",
    "in two fields": "UPGRADE: h2c\r\nConnection: upgrade\r\nupgrade: IRC/6.9\r\n",
    "for another hop": "Upgrade: h2c\r\n",
    "of nothing": "Connection: upgrade\r\n",
}
SETTINGS = Settings(amqp_url="amqp://unused", mongodb_url="mongodb://unused", jwt_secret="s" * 32)
LATER = b"GET /later HTTP/1.1\r\nHost: a\r\n\r\n"
"""A whole request: as a body, it must never become one."""


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what has arrived."""
    assert scope["type"] == "http"
    body, more = b"", True
    while more:
        message: Any = await receive()
        if message["type"] != "http.request":
            return
        body, more = body + message["body"], message["more_body"]
    names = [name.decode() for name, _ in scope["headers"]]
    told = {"method": scope["method"], "path": scope["path"], "body": body.decode("latin-1"), "names": names}
    content = json.dumps(told).encode()
    head: Any = {"type": "http.response.start", "status": 200}
    await send(head | {"headers": [(b"content-length", b"%d" % len(content))]})
    await send({"type": "http.response.body", "body": content, "more_body": False})


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[uvicorn.Server]:
    """A server with the protocol of our services."""
    protocol = bounded_protocol(http_limits_of(SETTINGS), 100)
    config = uvicorn.Config(app, port=0, log_config=None, lifespan="off", ws="none", http=protocol)
    server = uvicorn.Server(config)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve())
        await wait_until(lambda: answered(server.started), seconds=30, what="it serves")
        yield server
        server.should_exit = True


async def answered(value: bool) -> bool:
    return value


def url_of(server: uvicorn.Server) -> str:
    return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


@pytest.fixture(scope="module")
async def url() -> AsyncIterator[str]:
    """Of a server whose application tells what it was given."""
    async with serving(echo) as server:
        yield url_of(server)


def post(fields: str = "", body: bytes = b"{}", path: str = "/a", version: str = "1.1") -> bytes:
    head = f"POST {path} HTTP/{version}\r\nHost: a\r\nContent-Length: {len(body)}\r\n{fields}\r\n"
    return head.encode() + body


def chunked(fields: str = "", body: bytes = b"{}", trailer: str = "") -> bytes:
    head = f"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n{fields}\r\n"
    return head.encode() + b"%x;a=b\r\n%s\r\n0\r\n%s\r\n" % (len(body), body, trailer.encode())


async def answers(url: str, data: bytes, number: int) -> list[Answer]:
    """The first answers on one connection on which all of it is sent at once."""
    connection = await RawConnection.open(url)
    try:
        await connection.send(data)
        return [await connection.answer() for _ in range(number)]
    finally:
        connection.close()


def bodies(found: list[Answer]) -> list[str]:
    return [answer.json["body"] for answer in found]


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS.keys())
@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_an_offer_of_another_protocol_costs_no_body(url: str, offer: str, version: str) -> None:
    answer = await exchange(url, post(offer, b'{"a": 1}', version=version))
    assert (answer.status, answer.json["body"]) == (200, '{"a": 1}')


async def test_a_chunked_body_behind_an_offer_arrives(url: str) -> None:
    found = await answers(url, chunked(H2C, LATER) + post(), 2)
    assert bodies(found) == [LATER.decode(), "{}"]


async def test_a_body_of_many_reads_behind_an_offer_arrives(url: str) -> None:
    body = b"x" * 3_000_000
    found = await answers(url, post(H2C, body) + post(), 2)
    assert bodies(found) == [body.decode(), "{}"]


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS.keys())
async def test_the_body_of_a_request_with_an_offer_is_never_read_as_a_request(url: str, offer: str) -> None:
    connection = await RawConnection.open(url)
    await connection.send(post(f"{offer}Expect: 100-continue\r\n", LATER)[: -len(LATER)])
    assert (await connection.answer()).status == 100  # so the body comes by another read
    await connection.send(LATER + post(path="/b"))
    found = [await connection.answer() for _ in range(2)]
    connection.close()
    assert [answer.json["path"] for answer in found] == ["/a", "/b"]
    assert bodies(found) == [LATER.decode(), "{}"]


async def test_requests_behind_each_other_are_answered_in_their_order_whatever_they_offer(url: str) -> None:
    offers = [*OFFERS.values(), "", *OFFERS.values()]
    data = b"".join(post(offer, b"%d" % number) for number, offer in enumerate(offers))
    found = await answers(url, b"\r\n\r\n" + data, len(offers))  # an empty line before is no request
    assert bodies(found) == [str(number) for number in range(len(offers))]


async def test_a_connection_that_is_to_end_ends_after_an_offer_too(url: str) -> None:
    connection = await RawConnection.open(url)
    await connection.send(post("Connection: close, Upgrade\r\nUpgrade: h2c\r\n") + post())
    answer = await connection.answer()
    assert (answer.json["body"], answer.headers["connection"]) == ("{}", "close")
    assert await connection.closed_after() < 5


async def test_what_stands_behind_a_body_is_no_part_of_the_head(url: str) -> None:
    trailer = "Authorization: Bearer x\r\nIdempotency-Key: y\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n"
    found = await answers(url, chunked("", b"{}", trailer) + post(), 2)
    assert found[0].json["names"] == ["host", "transfer-encoding"]
    assert bodies(found) == ["{}", "{}"]


@pytest.mark.parametrize(
    "data",
    [
        chunked("", b"{}", "X: y\r\n" * 20_000),
        chunked("", b"{}", "X: " + "y" * 700_000)[:600_000],
        chunked().replace(b";a=b", b";a=" + b"b" * 700_000)[:600_000],
    ],
    ids=["many fields", "one long field", "what is said of a chunk"],
)
async def test_what_surrounds_a_body_is_bounded(url: str, data: bytes) -> None:
    answer = await exchange(url, data)
    assert (answer.status, answer.slug) == (431, "headers-too-large")


async def test_http_1_0_is_never_asked_to_go_on(url: str) -> None:
    answer = await exchange(url, post("Expect: 100-continue\r\n", version="1.0"))
    assert (answer.status, answer.json["body"]) == (200, "{}")


@pytest.mark.parametrize(
    ("bad", "slug"),
    [
        (b"nonsense\r\n\r\n", "malformed-request"),
        (b"\x01\x02\r\n\r\n", "malformed-request"),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000, "headers-too-large"),
        (chunked().replace(b"2;", b"z;"), "malformed-request"),
    ],
    ids=["no HTTP", "no text", "a large head", "a broken body"],
)
async def test_what_cannot_be_read_is_refused_behind_the_answers_to_what_came_before(
    url: str, bad: bytes, slug: str
) -> None:
    connection = await RawConnection.open(url)
    await connection.send(post(body=b"1") + post(H2C, b"2") + bad)
    assert bodies([await connection.answer() for _ in range(2)]) == ["1", "2"]
    assert (await connection.answer()).slug == slug
    assert await connection.closed_after() < 5


@pytest.mark.parametrize(
    "data",
    [
        b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
        b"CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        post(f"{H2C}Transfer-Encoding: chunked\r\n"),
        post(f"{H2C}Content-Length: 3\r\n"),
        post(f"{H2C}Transfer-Encoding: gzip\r\n", b"")[:-2].replace(b"Content-Length: 0\r\n", b"") + b"\r\n",
    ],
    ids=["a tunnel", "a tunnel by path", "HTTP/2", "two framings", "two lengths", "another coding"],
)
async def test_what_could_be_read_in_two_ways_is_refused_and_nothing_after_it_is_read(
    url: str, data: bytes
) -> None:
    connection = await RawConnection.open(url)
    await connection.send(data + LATER)
    assert (await connection.answer()).status == 400
    assert await connection.closed_after() < 5


class Recorder:
    """What a parser has told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, bytes]] = []

    def on_message_begin(self) -> None:
        self.told.append(("begin", b""))

    def on_url(self, url: bytes) -> None:
        self._more("url", url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() != b"upgrade":
            self.told.append(("header", name + b": " + value))

    def on_headers_complete(self) -> None:
        self.told.append(("head", b""))

    def on_body(self, body: bytes) -> None:
        self._more("body", body)

    def on_message_complete(self) -> None:
        self.told.append(("end", b""))

    def _more(self, kind: str, data: bytes) -> None:
        if self.told[-1][0] == kind:
            data = self.told.pop()[1] + data
        self.told.append((kind, data))


fields = st.sampled_from(
    ["X:", "X: a b ", "Content-Type: text/plain", "Connection: keep-alive", "Y: \xe9", ""]
)
offers = st.sampled_from(["Upgrade: h2c", "upgrade:websocket, h2c", "UPGRADE: \t TLS/1.0 "])
contents = st.sampled_from([b"", b"{}", LATER, b"\r\n", b"0\r\n\r\n"])


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A request, and the same one with an offer."""
    body, is_chunked = draw(contents), draw(st.booleans())
    framing = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {len(body)}"
    line = draw(st.sampled_from(["POST /a?b=c HTTP/1.1", "GET http://a/b HTTP/1.1", "PUT /a HTTP/1.0"]))
    lines = [draw(fields), "Connection: Upgrade", framing, draw(fields)]
    place = draw(st.integers(0, len(lines)))
    chunk = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
    content = chunk + b"0\r\nT: u\r\n\r\n" if is_chunked else body
    offering = [*lines[:place], draw(offers), *lines[place:]]
    return tuple(
        "\r\n".join([line, *filter(None, found), "", ""]).encode("latin-1") + content
        for found in (lines, offering)
    )  # type: ignore[return-value]  # two of them


@given(st.lists(requests(), min_size=1, max_size=4), st.lists(st.integers(0, 2000), max_size=4))
def test_a_request_reads_the_same_with_and_without_an_offer_however_it_is_cut(
    pairs: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    told = []
    for data in (b"".join(pair[0] for pair in pairs), b"".join(pair[1] for pair in pairs)):
        recorder = Recorder()
        parser = UpgradeIgnoringParser(recorder)
        places = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
        for start, end in pairwise(places):
            parser.feed_data(data[start:end])
        told.append(recorder.told)
    assert told[0] == told[1]


async def test_an_answer_that_takes_long_is_not_cut_off_as_quiet() -> None:
    """Of two requests behind each other, the first is answered, and the second in hand."""
    answers_given, go_on = 0, asyncio.Event()

    async def slow_second(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal answers_given
        if answers_given:
            await go_on.wait()
        answers_given += 1
        await echo(scope, receive, send)

    async with serving(slow_second) as server:
        connection = await RawConnection.open(url_of(server))
        await connection.send(post(body=b"1") + post(body=b"2"))
        assert (await connection.answer()).json["body"] == "1"
        (protocol,) = server.server_state.connections
        assert isinstance(protocol, BoundedProtocol)
        protocol.sweep(asyncio.get_running_loop().time() + 1000, request_seconds=10, quiet_seconds=75)
        go_on.set()
        assert (await connection.answer()).json["body"] == "2"
        connection.close()
