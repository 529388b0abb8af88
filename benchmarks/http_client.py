"""HTTP/1.1 with as little work as possible: the load generator shares the machine with what it measures."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import orjson

from benchmarks.load import WrongResult
from benchmarks.workload import Step

REQUEST_TIMEOUT_SECONDS = 30
MAX_BATCH = 500

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class HttpClient:
    """A keep-alive connection, one request at a time, without chunked bodies: these servers send none."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        self._reader = reader
        self._writer = writer
        self.head = head
        """The header lines that each request has."""

    async def exchange(self, request: bytes) -> tuple[int, bytes]:
        """The status and the body that answer a whole request.

        Raises:
            WrongResult: the server closed the connection, or did not answer in time.
        """
        self._writer.write(request)
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                head = await self._reader.readuntil(b"\r\n\r\n")
                length = _CONTENT_LENGTH.search(head)
                return int(head[9:12]), await self._reader.readexactly(int(length[1]) if length else 0)
        except (TimeoutError, EOFError, OSError) as error:
            raise WrongResult(f"a request was not answered: {error!r}") from None

    async def send(self, step: Step) -> None:
        """One operation, by itself.

        Raises:
            WrongResult: it was not applied now, as this version.
        """
        is_create = step.version == 1
        path = "/v1/orders" if is_create else f"/v1/orders/{step.order_id}/updates"
        key = b"Idempotency-Key: %b\r\n" % step.update_id.encode()
        _check_applied(await self._post(path, step.body(), key, 200 + is_create), step)

    async def send_batch(self, steps: Sequence[Step]) -> None:
        """Operations, at most 500 a request.

        Raises:
            WrongResult: one of them was not applied now, as its version.
        """
        for first in range(0, len(steps), MAX_BATCH):
            batch = steps[first : first + MAX_BATCH]
            body = b"[" + b",".join([step.operation() for step in batch]) + b"]"
            answer = await self._post("/v1/batch", body, b"Prefer: wait=10\r\n", 200)
            if len(answer["results"]) != len(batch):
                raise WrongResult(f"{len(batch)} operations, {len(answer['results'])} results")
            for result, step in zip(answer["results"], batch, strict=True):
                _check_applied(result, step)

    def close(self) -> None:
        """Closes the connection."""
        self._writer.close()

    async def _post(self, path: str, body: bytes, headers: bytes, expected: int) -> dict[str, Any]:
        status, answer = await self.exchange(
            b"POST %b HTTP/1.1\r\n%b%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (path.encode(), self.head, headers, len(body), body)
        )
        if status != expected:
            raise WrongResult(f"POST {path} answers {status}: {answer[:300].decode()}")
        document: dict[str, Any] = orjson.loads(answer)
        return document


def _check_applied(result: dict[str, Any], step: Step) -> None:
    if (result["outcome"], result["update_id"], result.get("version")) != (
        "applied",
        step.update_id,
        step.version,
    ):
        raise WrongResult(f"{step.update_id}: not applied as version {step.version}: {str(result)[:300]}")


async def connect_http(url: str, token: str) -> HttpClient:
    """A connection to a service.

    Raises:
        OSError: the service cannot be reached.
    """
    address = urlsplit(url)
    streams = await asyncio.open_connection(address.hostname, address.port or 80, limit=2**24)
    head = f"Host: {address.netloc}\r\nAuthorization: Bearer {token}\r\n".encode()
    return HttpClient(*streams, head)
