"""HTTP as bytes: for what no client library would send."""

import asyncio
import time
from contextlib import suppress
from typing import cast
from urllib.parse import urlsplit

from answers import Answer

DEADLINE_SECONDS = 30


class RawConnection:
    """One connection to a service."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, url: str) -> "RawConnection":
        """To the service at this base URL."""
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port, limit=1024 * 1024))

    async def send(self, data: bytes) -> None:
        """Sends; that the peer has closed is seen when reading."""
        with suppress(ConnectionError):
            self._writer.write(data)
            await self._writer.drain()

    async def answer(self) -> Answer:
        """The next answer; the body of one without a length ends with the connection. Of a repeated header
        the last.
        """
        async with asyncio.timeout(DEADLINE_SECONDS):
            status, headers = await self._head()
            return Answer(status, headers, await self._body(headers))

    async def rest(self) -> Answer:
        """The next answer, with all bytes behind its head until the peer closes for its body."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            status, headers = await self._head()
            return Answer(status, headers, await self._reader.read())

    async def _head(self) -> tuple[int, dict[str, str]]:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        lines = [line.partition(":") for line in head[1:] if line]
        return int(head[0].split()[1]), {name.strip().lower(): value.strip() for name, _, value in lines}

    async def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("connection") == "close" and "content-length" not in headers:
            return await self._reader.read()
        return await self._reader.readexactly(int(headers.get("content-length", "0")))

    async def read(self) -> bytes:
        """What has arrived, at least a byte."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            data = await self._reader.read(65536)
        if not data:
            raise EOFError("the peer has closed")
        return data

    def pause(self) -> None:
        """Takes nothing from the socket until `resume`."""
        self._transport.pause_reading()

    def resume(self) -> None:
        """The reverse of `pause`."""
        self._transport.resume_reading()

    @property
    def _transport(self) -> asyncio.ReadTransport:
        return cast(asyncio.ReadTransport, self._writer.transport)

    async def closed_after(self) -> float:
        """Seconds until the peer has closed."""
        started = time.monotonic()
        async with asyncio.timeout(DEADLINE_SECONDS):
            with suppress(ConnectionError):
                while await self._reader.read(65536):
                    pass
        self.close()
        return time.monotonic() - started

    def close(self) -> None:
        """Closes."""
        self._writer.close()


async def exchange(url: str, data: bytes) -> Answer:
    """Sends bytes on a connection of their own, and returns the first answer."""
    connection = await RawConnection.open(url)
    try:
        await connection.send(data)
        return await connection.answer()
    finally:
        connection.close()
