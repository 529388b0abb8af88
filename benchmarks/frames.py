"""WebSocket frames (RFC 6455) with as little work as possible. Pure."""

from typing import NamedTuple

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA

HEAD_END = b"\r\n\r\n"

_FINAL = 0x80
_MASKED = 0x80
_NO_MASK = bytes(4)
"""A mask of zeros leaves the payload as it is, and the server unmasks it all the same."""


class Frame(NamedTuple):
    """Where a whole frame lies in what was received: its payload is `data[start:end]`."""

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
