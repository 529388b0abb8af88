"""Connections that their clients end: nothing more is written to them, and nobody else notices."""

import asyncio
import base64
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import orjson
import pytest
from notifier_stack import (
    RawClient,
    Stage,
    StartService,
    eventually,
    ids,
    new_order,
    notifier_stage,
    subscribed,
)
from websockets.frames import Close, CloseCode, Frame, Opcode

CLOSE = Frame(Opcode.CLOSE, Close(CloseCode.NORMAL_CLOSURE, "").serialize()).serialize(mask=True)
SECONDS = 30

MORE_THAN_THE_KERNEL_HOLDS = 6
"""Times 800 KB: a send buffer grows to 4 MB. The notifier may queue it all."""


@pytest.fixture
async def stage(start_service: StartService, service_environment: dict[str, str]) -> AsyncIterator[Stage]:
    async with notifier_stage(
        start_service, service_environment, NOTIFIER_QUEUE_BYTES=str(16 * 1024 * 1024)
    ) as stage:
        yield stage


class BareClient:
    """A WebSocket client without a library: it ends, or does not end, as it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, *frames: bytes) -> None:
        """Everything in one piece."""
        self.writer.write(b"".join(frames))

    async def until(self, mark: bytes) -> bytes:
        async with asyncio.timeout(SECONDS):
            return await self.reader.readuntil(mark)

    async def rest(self) -> bytes:
        """What comes before the server ends its side. Ours stays as it is."""
        async with asyncio.timeout(SECONDS):
            return await self.reader.read()


@asynccontextmanager
async def bare_client(stage: Stage, *, narrow: bool = False) -> AsyncIterator[BareClient]:
    """A connected one; a narrow one has little room between it and the server."""
    address = urlsplit(stage.url)
    ours = socket.socket()
    if narrow:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    ours.connect((address.hostname, address.port))
    reader, writer = await asyncio.open_connection(sock=ours, limit=4096)
    client = BareClient(reader, writer)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    yield client
    writer.transport.abort()


def subscribe(stage: Stage) -> bytes:
    request = orjson.dumps({"type": "subscribe", "token": stage.token(), "snapshot": False})
    return Frame(Opcode.TEXT, request).serialize(mask=True)


async def assert_goes_on(stage: Stage, other: RawClient) -> None:
    """Events reach the others, each with a flush of its own."""
    order = new_order()
    for status in ("created", "picked_up", "in_transit"):
        await stage.stub.commit((order, "acme", status))
        await other.events(1)


async def assert_connections(stage: Stage, number: int) -> None:
    async def counted() -> bool:
        return await stage.metric("tracking_stream_connections") == number

    await eventually(counted)


async def test_nothing_is_written_to_a_connection_that_its_client_closes(stage: Stage) -> None:
    async with (
        subscribed(stage.url, stage.token()) as other,
        bare_client(stage) as closing,
        bare_client(stage) as hasty,
    ):
        closing.send(subscribe(stage))
        await closing.until(b'"type":"live"')
        first = new_order()
        await stage.stub.commit((first, "acme", "created"))
        assert ids(await other.events(1)) == [f"{first}:1"]
        await closing.until(f'"{first}:1"'.encode())

        closing.send(CLOSE)
        hasty.send(subscribe(stage), CLOSE)
        for client in (closing, hasty):
            await client.rest()
        await assert_goes_on(stage, other)
        await assert_connections(stage, 3)
        for client in (closing, hasty):
            client.writer.write_eof()
        await assert_connections(stage, 1)


async def test_a_client_that_reads_nothing_and_hangs_up_harms_nobody(stage: Stage) -> None:
    async with subscribed(stage.url, stage.token()) as other, bare_client(stage, narrow=True) as clogged:
        clogged.send(subscribe(stage))
        await clogged.until(b'"type":"live"')
        stage.stub.metadata = {"ballast": "x" * 4000}  # which an event shows twice
        order = new_order()
        for _ in range(MORE_THAN_THE_KERNEL_HOLDS):
            await stage.stub.commit(*[(order, "acme", "in_transit")] * 100)
            await other.events(100)
        clogged.writer.write_eof()  # the server still has much to send
        await assert_goes_on(stage, other)
        assert await stage.metric("tracking_stream_fell_behind_total") == 0
    await assert_connections(stage, 0)
