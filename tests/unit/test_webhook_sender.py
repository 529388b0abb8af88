"""Requests to receivers that misbehave: each ends in time, costs little memory, and asks no other address."""

import asyncio
import socket
import ssl
import threading
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from time import monotonic

import pytest

from tls_broker import Authority
from tracking_shared.policy.receivers import parse_networks
from tracking_webhooks.adapters import http_sender, resolver
from tracking_webhooks.adapters.http_sender import (
    BODY_BYTES,
    Answer,
    HttpSender,
    open_sender,
    retry_after_seconds,
)

LOOPBACK = parse_networks("127.0.0.0/8")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Behave = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def receiver(
    behave: Behave, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[int]:
    """A server on the loopback interface that does `behave` with each connection. Gives its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await behave(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, host, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def answering(answer: bytes) -> Behave:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            await reader.readexactly(2)
            writer.write(answer)
            await writer.drain()

    return behave


async def post(sender: HttpSender, port: int, *, host: str = "127.0.0.1", seconds: float = 0.5) -> Answer:
    return await sender.post(f"http://{host}:{port}/in", {"webhook-id": "o-1:1"}, b"{}", seconds=seconds)


async def test_an_answer_in_time_is_told_with_its_status() -> None:
    async with receiver(answering(OK)) as port, open_sender(LOOPBACK) as sender:
        answer = await post(sender, port)

    assert (answer.status, answer.error) == (200, None)


async def test_the_connection_is_used_again() -> None:
    connections = 0

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await answering(OK)(reader, writer)

    async with receiver(behave) as port, open_sender(LOOPBACK) as sender:
        for _ in range(5):
            await post(sender, port)

    assert connections == 1


async def test_a_receiver_that_never_answers_ends_in_time() -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with receiver(behave) as port, open_sender(LOOPBACK) as sender:
        answer = await post(sender, port)

    assert (answer.status, answer.error) == (None, "timeout")
    assert answer.duration_seconds < 5


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: "])
async def test_a_head_that_comes_a_byte_at_a_time_ends_in_time(beginning: bytes) -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(beginning)
        while True:
            writer.write(beginning if b"100" in beginning else b"H")
            await writer.drain()
            await asyncio.sleep(0.05)  # the receiver's own slowness, not a wait of the test

    async with receiver(behave) as port, open_sender(LOOPBACK) as sender:
        answer = await post(sender, port)

    assert answer.status is None
    assert answer.duration_seconds < 5


async def test_a_body_that_comes_a_byte_at_a_time_costs_the_receiver_its_connection() -> None:
    ended = asyncio.Event()

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
        try:
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)
        finally:
            ended.set()

    async with receiver(behave) as port, open_sender(LOOPBACK) as sender:
        answer = await post(sender, port)
        async with asyncio.timeout(5):
            await ended.wait()

    assert answer.status == 200
    assert answer.duration_seconds < 5


@pytest.mark.parametrize("length", [b"Content-Length: 10000000000", b"Transfer-Encoding: chunked", b"X: y"])
async def test_a_body_without_end_is_not_read(length: bytes) -> None:
    sent = 0
    ended = asyncio.Event()
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n" if b"chunked" in length else b"x" * 0x10000

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n\r\n")
        try:
            while True:
                writer.write(chunk)
                await writer.drain()
                sent += len(chunk)
        finally:
            ended.set()

    async with receiver(behave) as port, open_sender(LOOPBACK) as sender:
        tracemalloc.start()
        answer = await post(sender, port)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        async with asyncio.timeout(5):
            await ended.wait()

    assert answer.status == 200
    assert sent < 64 * 1024 * 1024  # what the sockets between them buffer
    assert peak < 16 * 1024 * 1024


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00\xff" * 500 + b"\r\n\r\n",
        b"HTTP/1.1 999999 OK\r\n\r\n",
    ],
)
async def test_what_is_no_answer_is_none(head: bytes) -> None:
    async with receiver(answering(head)) as port, open_sender(LOOPBACK) as sender:
        answer = await post(sender, port)

    assert answer.status is None
    assert answer.error is not None


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    asked = asyncio.Event()

    async def secret(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()

    async with receiver(secret) as inner:
        location = f"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:{inner}/\r\nContent-Length: 0\r\n\r\n"
        async with receiver(answering(location.encode())) as port, open_sender(LOOPBACK) as sender:
            answer = await post(sender, port)

    assert answer.status == 307
    assert not asked.is_set()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"]
)
async def test_an_address_that_is_not_named_is_not_connected_to(host: str) -> None:
    asked = asyncio.Event()

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()

    async with receiver(behave) as port, open_sender(()) as sender:
        for scheme in ("http", "https"):
            answer = await sender.post(f"{scheme}://{host}:{port}/", {}, b"{}", seconds=5)
            assert (answer.status, answer.error) == (None, "address")

    assert not asked.is_set()


async def test_a_public_address_is_not_asked_by_http() -> None:
    async with open_sender(LOOPBACK, resolve=lambda _: ["8.8.8.8"]) as sender:
        assert (await post(sender, 80, host="receiver.example")).error == "address"
        assert (await post(sender, 80, host="8.8.8.8")).error == "address"


async def test_a_name_that_resolves_to_loopback_the_second_time_is_not_followed_there() -> None:
    """The name is resolved once for a connection, and that very address is used."""
    named = parse_networks("127.0.0.2/32")
    answers = iter([["127.0.0.2"], ["127.0.0.1"], ["127.0.0.1"]])
    asked: list[str] = []

    def resolve(host: str) -> Sequence[str]:
        asked.append(host)
        return next(answers)

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()

    async with receiver(behave, host="127.0.0.2") as port, open_sender(named, resolve=resolve) as sender:
        first = await post(sender, port, host="rebinding.example")
        second = await post(sender, port, host="rebinding.example")

    assert first.status == 200
    assert second.error == "address"
    assert asked == ["rebinding.example"] * 2


async def test_of_several_addresses_only_the_permitted_ones_are_used() -> None:
    addresses = ["10.0.0.1", "127.0.0.1", "169.254.169.254"]
    async with receiver(answering(OK)) as port, open_sender(LOOPBACK, resolve=lambda _: addresses) as sender:
        answer = await post(sender, port, host="receiver.example")

    assert answer.status == 200


async def test_a_name_without_an_address_is_an_error_of_the_name() -> None:
    def resolve(host: str) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    async with open_sender(LOOPBACK, resolve=resolve) as sender:
        answer = await post(sender, 80, host="nowhere.invalid")

    assert (answer.status, answer.error) == (None, "name")


async def test_a_name_server_that_does_not_answer_is_an_error_of_the_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, release = [], threading.Event()

    def silent(host: str) -> Sequence[str]:
        asked.append(host)
        release.wait(10)
        return []

    monkeypatch.setattr(resolver, "RESOLVE_SECONDS", 0.1)
    async with open_sender(LOOPBACK, resolve=silent) as sender:
        answers = await asyncio.gather(*(post(sender, 9, host="dead.example", seconds=5) for _ in range(3)))
        release.set()

    assert {(answer.status, answer.error) for answer in answers} == {(None, "name")}
    assert asked == ["dead.example"]


async def test_a_connection_that_does_not_come_about_is_an_error_of_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_sender, "CONNECT_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as filling:
        port = server.getsockname()[1]
        for _ in range(3):  # nobody accepts: the queue of the listener is full then
            waiting = filling.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        async with open_sender(LOOPBACK) as sender:
            answer = await post(sender, port, seconds=5)

    assert (answer.status, answer.error) == (None, "connection")


async def test_nobody_listening_is_an_error_of_the_connection() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with open_sender(LOOPBACK) as sender:
        answer = await post(sender, port)

    assert (answer.status, answer.error) == (None, "connection")


def server_context(folder: Path) -> ssl.SSLContext:
    """A server for receiver.example, with a certificate of an authority in `ca.pem`."""
    Authority(folder).issue("server", "receiver.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    return context


async def test_tls_names_the_host_that_was_registered_and_verifies_it(tmp_path: Path) -> None:
    server_side = server_context(tmp_path)
    names: list[str | None] = []
    server_side.sni_callback = lambda _socket, name, _context: names.append(name)
    client_side = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))

    async with (
        receiver(answering(OK), server_side) as port,
        open_sender(LOOPBACK, resolve=lambda _: ["127.0.0.1"], tls=client_side) as sender,
    ):
        good = await sender.post(f"https://receiver.example:{port}/", {}, b"{}", seconds=5)
        other = await sender.post(f"https://other.example:{port}/", {}, b"{}", seconds=5)

    assert good.status == 200
    assert (other.status, other.error) == (None, "certificate")
    assert names == ["receiver.example", "other.example"]


async def test_a_certificate_of_an_unknown_authority_is_refused(tmp_path: Path) -> None:
    server_side = server_context(tmp_path)

    async with (
        receiver(answering(OK), server_side) as port,
        open_sender(LOOPBACK, resolve=lambda _: ["127.0.0.1"]) as sender,
    ):
        answer = await sender.post(f"https://receiver.example:{port}/", {}, b"{}", seconds=5)

    assert (answer.status, answer.error) == (None, "certificate")


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with receiver(answering(OK)) as port, open_sender(LOOPBACK) as sender:
        assert (await post(sender, port)).status == 200


async def test_a_hostile_receiver_does_not_delay_others() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with (
        receiver(silent) as slow,
        receiver(answering(OK)) as prompt,
        open_sender(LOOPBACK) as sender,
        asyncio.TaskGroup() as group,
    ):
        waiting = [group.create_task(post(sender, slow, seconds=3)) for _ in range(100)]
        began = monotonic()
        answers = [await post(sender, prompt, seconds=3) for _ in range(20)]
        seconds = monotonic() - began
        for task in waiting:
            task.cancel()

    assert {answer.status for answer in answers} == {200}
    assert seconds < 3


@pytest.mark.parametrize(
    ("field", "seconds"),
    [
        (None, None),
        ("120", 120.0),
        (" 0 ", 0.0),
        ("soon", None),
        ("-5", None),
        ("9" * 65, None),
        ("1e9", None),
    ],
)
def test_retry_after_in_seconds(field: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(field, 0) == seconds


def test_retry_after_as_a_date() -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    field = format_datetime(now + timedelta(seconds=90), usegmt=True)

    assert retry_after_seconds(field, now.timestamp()) == 90
    assert retry_after_seconds(format_datetime(now - timedelta(days=1)), now.timestamp()) == 0


async def test_a_short_answer_is_read_to_its_end() -> None:
    body = b"x" * (BODY_BYTES - 1)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with receiver(answering(head + body)) as port, open_sender(LOOPBACK) as sender:
        assert [(await post(sender, port)).status for _ in range(3)] == [200] * 3
