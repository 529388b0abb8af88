"""Between a service and the broker: plays what other versions of it, and half-dead nodes, do on the wire."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from struct import pack, unpack_from
from urllib.parse import urlsplit

from tracking.devstack.processes import free_port

METHOD_FRAME, FRAME_END = 1, b"\xce"
CHANNEL_CLOSE, CHANNEL_CLOSE_OK = (20, 40), (20, 41)
EXCHANGE_DECLARE, QUEUE_DECLARE = (40, 10), (50, 10)
DELIVER = (60, 60)

REFUSAL = b"ACCESS_REFUSED - configure access refused for a passive declaration"

Method = tuple[int, int]


@dataclass
class BrokerTap:
    """A broker's address, and what happens to what goes through it."""

    url: str
    port: int
    refuses_passive_declarations: bool = False
    """As RabbitMQ 4.2.6 and 4.3.0 do to users without the right to configure."""
    keeps_deliveries: bool = False
    """Everything is answered, and nothing is delivered."""
    silent: bool = False
    """Nothing goes through, and connections stay open."""
    connections: int = 0
    """Taken so far."""
    taken: set[asyncio.Task[None]] = field(default_factory=set)

    async def cut(self) -> None:
        """Ends all connections."""
        for task in tuple(self.taken):
            task.cancel()
        await asyncio.gather(*self.taken, return_exceptions=True)


@asynccontextmanager
async def tap_broker(url: str) -> AsyncIterator[BrokerTap]:
    """Listens in front of the broker at `url` (no TLS)."""
    parts = urlsplit(url)
    upstream = (parts.hostname or "", parts.port or 0)
    port = free_port()
    tap = BrokerTap(url.replace(f"@{parts.hostname}:{parts.port}", f"@127.0.0.1:{port}"), port)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tap.taken.add(task)
        tap.connections += 1
        with suppress(OSError, asyncio.CancelledError):
            await _Passing(tap, reader, writer).run(*upstream)
        tap.taken.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield tap
    finally:
        server.close()
        await tap.cut()


class _Passing:
    """One connection: frames both ways."""

    def __init__(self, tap: BrokerTap, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tap = tap
        self._reader = reader
        self._writer = writer
        self._closing: set[int] = set()
        """Channels that the tap closes on its own."""
        self._dropped: set[int] = set()
        """Channels whose content frames belong to a delivery that was kept."""

    async def run(self, host: str, port: int) -> None:
        upstream_reader, upstream = await asyncio.open_connection(host, port)
        try:
            upstream.write(await self._reader.readexactly(8))  # the header of the protocol
            async with asyncio.TaskGroup() as group:
                back = group.create_task(self._back(upstream_reader))
                await self._forth(upstream)
                back.cancel()
        except* asyncio.IncompleteReadError:
            pass
        finally:
            upstream.close()
            self._writer.close()

    async def _forth(self, upstream: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            while True:
                frame, channel, method = await _frame(self._reader)
                await self._until_heard()
                if channel in self._closing and method == CHANNEL_CLOSE_OK:
                    upstream.write(_method(channel, CHANNEL_CLOSE, pack(">HBHH", 200, 0, 0, 0)))
                elif self._tap.refuses_passive_declarations and _is_passive(method, frame):
                    self._closing.add(channel)
                    text = pack(">HB", 403, len(REFUSAL)) + REFUSAL + pack(">HH", *(method or (0, 0)))
                    self._writer.write(_method(channel, CHANNEL_CLOSE, text))
                else:
                    upstream.write(frame)

    async def _back(self, upstream: asyncio.StreamReader) -> None:
        while True:
            frame, channel, method = await _frame(upstream)
            await self._until_heard()
            if channel in self._closing and method == CHANNEL_CLOSE_OK:
                self._closing.discard(channel)
            elif not self._is_kept(channel, method):
                self._writer.write(frame)

    def _is_kept(self, channel: int, method: Method | None) -> bool:
        if method is not None:
            kept = self._tap.keeps_deliveries and method == DELIVER
            (self._dropped.add if kept else self._dropped.discard)(channel)
        return channel in self._dropped

    async def _until_heard(self) -> None:
        while self._tap.silent:  # noqa: ASYNC110 - a test says when
            await asyncio.sleep(0.05)


async def _frame(reader: asyncio.StreamReader) -> tuple[bytes, int, Method | None]:
    """A frame, its channel, and its method if it is one."""
    head = await reader.readexactly(7)
    kind, channel, size = unpack_from(">BHI", head)
    rest = await reader.readexactly(size + 1)
    return head + rest, channel, unpack_from(">HH", rest) if kind == METHOD_FRAME else None


def _method(channel: int, method: Method, arguments: bytes) -> bytes:
    payload = pack(">HH", *method) + arguments
    return pack(">BHI", METHOD_FRAME, channel, len(payload)) + payload + FRAME_END


def _is_passive(method: Method | None, frame: bytes) -> bool:
    if method not in (EXCHANGE_DECLARE, QUEUE_DECLARE):
        return False
    place = 7 + 4 + 2
    for _ in range(2 if method == EXCHANGE_DECLARE else 1):  # name, and type of an exchange
        place += 1 + frame[place]
    return bool(frame[place] & 1)
