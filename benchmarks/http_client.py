"""HTTP/1.1 with as little work as possible: the load generator shares the machine with what it measures.

One keep-alive connection, one request at a time, no chunked bodies: what these servers send.
"""

import asyncio
import re
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import orjson

from benchmarks.load_process import WrongResult
from benchmarks.workload import Step, body_of

REQUEST_TIMEOUT_SECONDS = 30

_HEAD_END = b"\r\n\r\n"
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response."""

    status: int
    body: bytes


class HttpConnection(asyncio.Protocol):
    """A connection on which whole requests are written and answers awaited."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._end: int | None = None
        self._body_start = 0
        self._waiting: asyncio.Future[Answer] | None = None

    async def request(self, request: bytes) -> Answer:
        """The answer to a whole request.

        Raises:
            WrongResult: the server closed the connection, or did not answer in time.
        """
        if self._transport is None:
            raise WrongResult("the server closed a connection")
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        timer = loop.call_later(REQUEST_TIMEOUT_SECONDS, self._fail, "no answer in time")
        self._transport.write(request)
        try:
            return await self._waiting
        finally:
            timer.cancel()

    def close(self) -> None:
        """Closes the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail(f"the server closed a connection: {exc}")

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._end is None:
            self._read_head()
        if self._end is not None and len(self._received) >= self._end:
            self._finish(self._end)

    def _read_head(self) -> None:
        head_end = self._received.find(_HEAD_END)
        if head_end < 0:
            return
        length = _CONTENT_LENGTH.search(self._received, 0, head_end + 2)
        self._body_start = head_end + len(_HEAD_END)
        self._end = self._body_start + (int(length[1]) if length else 0)

    def _finish(self, end: int) -> None:
        answer = Answer(int(self._received[9:12]), bytes(self._received[self._body_start : end]))
        del self._received[:end]
        self._end = None
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(answer)

    def _fail(self, reason: str) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(WrongResult(reason))


class IngestClient:
    """What the loads ask of ingest, over one connection, with every answer checked."""

    def __init__(self, connection: HttpConnection, head: bytes) -> None:
        self._connection = connection
        self._head = head

    async def send(self, step: Step) -> None:
        """One operation, by itself.

        Raises:
            WrongResult: it was not applied now, as this version.
        """
        path = "/v1/orders" if step.is_create else f"/v1/orders/{step.order_id}/updates"
        result = await self._post(
            path, body_of(step), b"Idempotency-Key: %b\r\n" % step.update_id.encode(), 200 + step.is_create
        )
        check_applied(result, step)

    async def send_batch(self, steps: list[Step], operations: list[bytes]) -> None:
        """Operations in one request; `operations` are `steps`, encoded.

        Raises:
            WrongResult: one of them was not applied now, as its version.
        """
        body = b"[" + b",".join(operations) + b"]"
        answer = await self._post("/v1/batch", body, b"Prefer: wait=10\r\n", 200)
        results = answer["results"]
        if len(results) != len(steps):
            raise WrongResult(f"{len(steps)} operations, {len(results)} results")
        for result, step in zip(results, steps, strict=True):
            check_applied(result, step)

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    async def _post(self, path: str, body: bytes, headers: bytes, status: int) -> dict[str, Any]:
        answer = await self._connection.request(
            b"POST %b HTTP/1.1\r\n%b%bContent-Length: %d\r\n\r\n%b"
            % (path.encode(), self._head, headers, len(body), body)
        )
        if answer.status != status:
            raise WrongResult(f"POST {path} answers {answer.status}: {answer.body[:300].decode()}")
        document: dict[str, Any] = orjson.loads(answer.body)
        return document


def check_applied(result: dict[str, Any], step: Step) -> None:
    """Raises `WrongResult` unless the operation was applied now, as its version."""
    if (result["outcome"], result["update_id"], result.get("version")) != (
        "applied",
        step.update_id,
        step.version,
    ):
        raise WrongResult(f"{step.update_id}: not applied as version {step.version}: {str(result)[:300]}")


async def connect_ingest(url: str, token: str) -> IngestClient:
    """A connected client.

    Raises:
        OSError: ingest cannot be reached.
    """
    connection, head = await connect_http(url, token)
    return IngestClient(connection, head + b"Content-Type: application/json\r\n")


async def connect_http(url: str, token: str) -> tuple[HttpConnection, bytes]:
    """A connection to a service, and the header lines that each request has.

    Raises:
        OSError: the service cannot be reached.
    """
    address = urlsplit(url)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(HttpConnection, address.hostname or "", address.port or 80)
    return connection, f"Host: {address.netloc}\r\nAuthorization: Bearer {token}\r\n".encode()
