"""HTTP/1.1 with as little work as possible: the load generator shares the machine with what it measures."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import orjson

from benchmarks.load import BenchmarkFailed
from benchmarks.workload import Step

REQUEST_TIMEOUT_SECONDS = 30
MAX_BATCH = 500

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class HttpClient:
    """A keep-alive connection, one request at a time, without chunked bodies: these servers send none.

    Every method fails unless the answer is the expected one, in time.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        self._reader = reader
        self._writer = writer
        self.head = head
        """The header lines that each request has."""

    async def get(self, path: str) -> bytes:
        """The body of a resource."""
        return await self._exchange("GET", path, b"\r\n", 200)

    async def send(self, step: Step) -> None:
        """One operation, by itself, which must be applied."""
        is_create = step.version == 1
        path = "/v1/orders" if is_create else f"/v1/orders/{step.order_id}/updates"
        key = b"Idempotency-Key: %b\r\n" % step.update_id.encode()
        _check_applied(await self._post(path, step.body(), key, 200 + is_create), step)

    async def send_batch(self, steps: Sequence[Step]) -> None:
        """Operations, at most 500 a request, which must be applied."""
        for first in range(0, len(steps), MAX_BATCH):
            batch = steps[first : first + MAX_BATCH]
            body = b"[" + b",".join([step.operation() for step in batch]) + b"]"
            answer = await self._post("/v1/batch", body, b"Prefer: wait=10\r\n", 200)
            for result, step in zip(answer["results"], batch, strict=True):
                _check_applied(result, step)

    def close(self) -> None:
        """Closes the connection."""
        self._writer.close()

    async def _post(self, path: str, body: bytes, headers: bytes, expected: int) -> Any:
        rest = b"%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
            headers,
            len(body),
            body,
        )
        return orjson.loads(await self._exchange("POST", path, rest, expected))

    async def _exchange(self, method: str, path: str, rest: bytes, expected: int) -> bytes:
        self._writer.write(f"{method} {path} HTTP/1.1\r\n".encode() + self.head + rest)
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                head = await self._reader.readuntil(b"\r\n\r\n")
                length = _CONTENT_LENGTH.search(head)
                body = await self._reader.readexactly(int(length[1]) if length else 0)
        except (TimeoutError, EOFError, OSError) as error:
            raise BenchmarkFailed(f"{method} {path} was not answered: {error!r}") from None
        if int(head[9:12]) != expected:
            raise BenchmarkFailed(f"{method} {path}: {int(head[9:12])} {body[:300].decode()}")
        return body


def _check_applied(result: dict[str, Any], step: Step) -> None:
    got = result["outcome"], result["update_id"], result.get("version")
    if got != ("applied", step.update_id, step.version):
        raise BenchmarkFailed(f"{step.update_id}: not applied as version {step.version}: {str(result)[:300]}")


async def connect_http(url: str, token: str) -> HttpClient:
    """A connection to a service."""
    address = urlsplit(url)
    streams = await asyncio.open_connection(address.hostname, address.port or 80, limit=2**24)
    head = f"Host: {address.netloc}\r\nAuthorization: Bearer {token}\r\n".encode()
    return HttpClient(*streams, head)
