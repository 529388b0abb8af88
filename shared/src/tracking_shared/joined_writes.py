"""Joins what is written to a connection one after the other into one call of the operating system.

The event loop passes each write on at once. A server writes the head and the body of an answer apart, a
client of the broker each frame; and each call costs 10 µs here and wakes the other side once more.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

JOINED_BYTES = 64 * 1024
"""More is written at once, so that the transport's own bound holds back who writes."""


class JoinedWrites:
    """A transport whose writes leave together, at the end of the present step of the event loop."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Writes behind what was written before."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)
        self._size += len(data)
        if self._size > JOINED_BYTES:
            self._flush()

    def writelines(self, parts: Iterable[bytes]) -> None:
        """Writes all of them behind what was written before."""
        self.write(b"".join(parts))

    def close(self) -> None:
        """Closes, behind what was written."""
        self._flush()
        self._transport.close()

    def write_eof(self) -> None:
        """Closes the sending half, behind what was written."""
        self._flush()
        self._transport.write_eof()

    def abort(self) -> None:
        """Closes at once, without what has not left yet."""
        self._parts, self._size = [], 0
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        """The bytes that have not left yet."""
        return self._transport.get_write_buffer_size() + self._size

    def _flush(self) -> None:
        parts, self._parts, self._size = self._parts, [], 0
        if parts and not self._transport.is_closing():
            self._transport.write(parts[0] if len(parts) == 1 else b"".join(parts))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
