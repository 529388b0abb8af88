"""HTTP as bytes: for what no client library would send."""

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

DEADLINE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """What came before the peer closed, or enough of it."""

    status: int
    headers: dict[str, str]
    """Names in small letters; of a repeated one the last."""
    body: bytes

    @property
    def slug(self) -> str:
        """Of a problem."""
        document: Any = json.loads(self.body)
        return str(document["type"]).removeprefix("/problems/")


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

    async def answer(self) -> RawAnswer:
        """The next answer, which must have a length."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            lines = [line.partition(":") for line in head[1:] if line]
            headers = {name.strip().lower(): value.strip() for name, _, value in lines}
            body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return RawAnswer(int(head[0].split()[1]), headers, body)

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


async def exchange(url: str, data: bytes) -> RawAnswer:
    """Sends bytes on a connection of their own, and returns the first answer."""
    connection = await RawConnection.open(url)
    try:
        await connection.send(data)
        return await connection.answer()
    finally:
        connection.close()
