"""Clients of WebSockets (RFC 6455) and of event streams that cost little: thousands of them leave the machine
to the server.
"""

import asyncio
from dataclasses import dataclass
from typing import NamedTuple, cast

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA

HEAD_END = b"\r\n\r\n"
EVENT_END = b"\n\n"
DATA = b"data: "

_FINAL = 0x80
_MASKED = 0x80
_NO_MASK = bytes(4)
"""A mask of zeros leaves the payload as it is, and the server unmasks it all the same."""


class Frame(NamedTuple):
    """A whole frame within the received bytes: its payload is `data[start:end]`."""

    opcode: int
    start: int
    end: int


def next_frame(data: bytes, at: int) -> Frame | None:
    """The frame of a server (unmasked, not fragmented) that begins at `at`; None if it is not all there."""
    start = at + 2
    if len(data) < start:
        return None
    length = data[at + 1]
    if length >= 126:
        digits = 2 if length == 126 else 8
        start += digits
        if len(data) < start:
            return None
        length = int.from_bytes(data[start - digits : start])
    end = start + length
    return Frame(data[at] & 0x0F, start, end) if end <= len(data) else None


def client_frame(opcode: int, payload: bytes) -> bytes:
    """A whole frame of a client."""
    size = len(payload)
    if size < 126:
        length = bytes([_MASKED | size])
    elif size < 2**16:
        length = bytes([_MASKED | 126]) + size.to_bytes(2)
    else:
        length = bytes([_MASKED | 127]) + size.to_bytes(8)
    return bytes([_FINAL | opcode]) + length + _NO_MASK + payload


def handshake(host: str, port: int, path: str) -> bytes:
    """The request that opens a WebSocket."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


_PONG = client_frame(PONG, b"")


@dataclass(frozen=True)
class Door:
    """The address of a server, and the first frame to send there; of an event stream, the request."""

    host: str
    port: int
    path: str
    first: bytes
    """A whole frame, or nothing."""
    is_event_stream: bool = False


class SocketClient(asyncio.Protocol):
    """One connection. Subclasses handle its messages and its loss."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._is_open = False
        self._fault = "lost"

    async def connect(self) -> None:
        """Returns when the server has accepted, or raises OSError; the handshake goes on."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self, self._door.host, self._door.port)

    def leave(self) -> None:
        """Cuts the connection."""
        if self._transport is not None:
            self._transport.abort()

    def send(self, payload: bytes) -> None:
        """Sends a text message, if there is a connection."""
        if self._transport is not None:
            self._transport.write(client_frame(TEXT, payload))

    def opened(self) -> None:
        """The handshake is through."""

    def received(self, data: bytes, start: int, end: int) -> None:
        """A message is `data[start:end]`."""
        raise NotImplementedError

    def lost(self, reason: str) -> None:
        """The connection has ended."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._rest, self._is_open, self._fault = b"", False, "lost"
        door = self._door
        self._transport.write(
            door.first if door.is_event_stream else handshake(door.host, door.port, door.path)
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.lost(f"{self._fault}: {exc}" if exc else self._fault)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        at = 0 if self._is_open else self._open(data)
        if self._door.is_event_stream:
            self._rest = data[self._take_events(data, at) :]
            return
        while self._is_open and (frame := next_frame(data, at)) is not None:
            opcode, start, at = frame
            if opcode == TEXT:
                self.received(data, start, at)
            else:
                self._control(opcode, data[start:at])
        self._rest = data[at:]

    def _take_events(self, data: bytes, at: int) -> int:
        while self._is_open and (end := data.find(EVENT_END, at)) >= 0:
            start = data.find(DATA, at, end)
            if start >= 0:  # else it is a comment
                self.received(data, start + len(DATA), end)
            at = end + len(EVENT_END)
        return at

    def _open(self, data: bytes) -> int:
        end = data.find(HEAD_END)
        if end < 0:
            return 0
        if not data.startswith(b"HTTP/1.1 200 " if self._door.is_event_stream else b"HTTP/1.1 101 "):
            self._fault = f"the handshake was answered with {data[:60]!r}"
            self.leave()
            return 0
        self._is_open = True
        if self._transport is not None and self._door.first and not self._door.is_event_stream:
            self._transport.write(self._door.first)
        self.opened()
        return end + len(HEAD_END)

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING and self._transport is not None:
            self._transport.write(_PONG)
        elif opcode == CLOSE:
            self._fault = f"closed with {int.from_bytes(payload[:2])} {payload[2:].decode()}"
            self.leave()
