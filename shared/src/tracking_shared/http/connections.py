"""HTTP connections that cost too much: too many of them, heads without end, peers that send or read nothing.

The server takes all of these as they come; so its protocol is bounded here, and swept once a second.
"""

import asyncio
import logging
import socket
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from email.utils import formatdate
from typing import Any, cast
from urllib.parse import unquote

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from tracking_shared.contracts.problems import PROBLEM_MEDIA_TYPE, Problem
from tracking_shared.http.headers import RawHeaders, always_sent
from tracking_shared.http.http_limits import ARRIVED_KEY, HEAD_BYTES, STALL_SECONDS, HttpLimits
from tracking_shared.http.request_parser import UpgradeIgnoringParser
from tracking_shared.joined_writes import JoinedWrites
from tracking_shared.telemetry.logs import PacedLog
from tracking_shared.telemetry.spans import trace_id_of

_AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER that makes a close a reset."""


def ended_by_closing(app: ASGIApp, cycle: RequestResponseCycle) -> ASGIApp:
    """`app`, whose answer the server sends by `cycle`: without chunks if its length is not known.

    One that is broken off ends with a reset: a mere close would make it look whole.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        has_length = True

        async def send_plainly(message: Message) -> None:
            nonlocal has_length
            if message["type"] == "http.response.start":
                has_length = any(name == b"content-length" for name, _ in message["headers"])
                if not has_length:
                    cycle.chunked_encoding, cycle.expected_content_length = False, sys.maxsize
            elif not has_length and not message.get("more_body", False):
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        try:
            await app(scope, receive, send_plainly)
        finally:
            if not has_length and not cycle.response_complete:
                _reset(cycle)

    return answer


def _reset(cycle: RequestResponseCycle) -> None:
    connection = cycle.transport.get_extra_info("socket")
    if connection is not None and not cycle.transport.is_closing():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        cycle.transport.abort()


_refusals = PacedLog(logging.getLogger(__name__))

SWEEP_SECONDS = 1.0

UNPARSED_BYTES = 512 * 1024
"""The parser may keep so much of a head or trailer: two reads of the socket. The exact bound is for what
it has passed on."""

MAX_PATH_CHARACTERS = 200
"""Of an address, shown in a problem: it may be what made the head too large."""

BODY_GRACE_SECONDS = 5.0
"""Beyond the time for a request: whoever reads the body answers by itself, and its answer must get out."""


class BoundedProtocol(HttpToolsProtocol):
    """The server's protocol with a bounded head, and with what the sweep looks at."""

    max_connections: int
    hsts_seconds: int

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.parser = UpgradeIgnoringParser(self)  # type: ignore[assignment]  # what is used of it is the same
        now = self.loop.time()
        self.quiet_since: float | None = now
        """Since when a request is awaited; None: one has begun."""
        self.begun_at: float | None = None
        """When the request began that has not arrived as a whole; None: there is none."""
        self.paused_at: float | None = None
        """Since when more waits to be sent than may; None: it does not."""
        self.closing_at: float | None = None
        self._head_open = False
        self._head_bytes = 0
        self._unparsed_bytes = 0
        self._too_large = False
        self._refusal: bytes | None = None
        """The answer to what cannot be read, to be sent behind those to the requests before it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its parent
        """Called by the transport."""
        super().connection_made(cast(asyncio.Transport, JoinedWrites(transport, self.loop)))
        if len(self.connections) > self.max_connections:
            problem = Problem("overloaded", "There are too many connections.")
            _refusals.warning(problem.slug, problem.detail)
            self.refuse(problem)

    def data_received(self, data: bytes) -> None:
        """Called by the transport."""
        if self._refusal is not None:
            return
        super().data_received(data)
        if self.begun_at is not None:  # the parser keeps what it has not passed on yet, of a trailer too
            self._unparsed_bytes += len(data)
            if self._unparsed_bytes > UNPARSED_BYTES:
                self._refuse_head()

    def on_message_begin(self) -> None:
        """Called by the parser."""
        super().on_message_begin()
        self.quiet_since, self.begun_at, self._head_bytes = None, self.loop.time(), 0
        self._head_open, self._unparsed_bytes = True, 0

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._head_open = False
        if self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False  # to be ignored then (RFC 9110, 10.1.1)
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if cycle.scope["http_version"] == "1.0":
            app = ended_by_closing(app, cycle)
        super()._start_asgi_task(cycle, app)

    def on_url(self, url: bytes) -> None:
        """Called by the parser."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        if self._head_open:  # else it is of the trailer, which is no part of the head (RFC 9110, 6.5.1)
            super().on_header(name, value)
        self._count(len(name) + len(value))

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._unparsed_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self.begun_at = None
        cast(dict[str, Any], self.scope)[ARRIVED_KEY] = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Called when an answer is out."""
        self.quiet_since, waiting = self.loop.time(), len(self.pipeline)
        super().on_response_complete()
        if self._refusal is not None and not waiting:
            self._end_with(self._refusal)

    def pause_writing(self) -> None:
        """Called by the transport."""
        self.paused_at = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Called by the transport."""
        self.paused_at = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Called for what is no HTTP, and for heads that are too large."""
        if self._too_large:
            self._refuse_head()
        else:
            self.refuse(Problem("malformed-request", msg))

    def refuse(self, problem: Problem) -> None:
        """Answers without asking the application, behind the answers to what came before, and closes."""
        if self.transport.is_closing():
            return
        # The address is whole for certain once a header behind it is.
        headers = self.headers if self.begun_at is not None else []
        document = problem.document(_path(self.url) if headers else None, _trace_id(headers))
        answer = _encoded(problem, document, self.hsts_seconds)
        is_in_its_body = self.begun_at is not None and not self._head_open
        if self._is_answering() and (self.pipeline or not is_in_its_body):
            if is_in_its_body:
                self.pipeline.popleft()  # the request that is refused: it came last
            self._refusal, self.begun_at = answer, None
        elif self._is_answering() and self.cycle.response_started:
            self.transport.close()
        else:
            self._end_with(answer)

    def _end_with(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()

    def _refuse_head(self) -> None:
        self.refuse(Problem("headers-too-large", f"The head may have {HEAD_BYTES} bytes."))

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES:
            self._too_large = True
            raise ValueError("head too large")  # the parser then gives up

    def sweep(self, now: float, request_seconds: float, quiet_seconds: float) -> None:
        """Ends the connection if it has cost too much by `now`."""
        if self.transport.is_closing():
            self.closing_at = self.closing_at or now
            if now - self.closing_at > STALL_SECONDS:
                self.transport.abort()
        elif self.paused_at is not None and now - self.paused_at > STALL_SECONDS:
            self.transport.abort()
        elif self.flow.read_paused:
            self.begun_at = self.begun_at and now  # it is we who do not read
        elif self.begun_at is not None and now - self.begun_at > request_seconds:
            self._end_late(now - self.begun_at - request_seconds)
        elif self.quiet_since is None or self._is_answering():
            return
        elif now - self.quiet_since > quiet_seconds:
            self.transport.close()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _end_late(self, over: float) -> None:
        if not self._is_answering():
            self.refuse(Problem("request-timeout", "The request did not arrive in time."))
        elif over > BODY_GRACE_SECONDS:
            self.transport.abort()


def bounded_protocol(limits: HttpLimits, max_connections: int) -> type[BoundedProtocol]:
    """A protocol class of its own for these bounds: the server makes the instances."""
    bounds = {"max_connections": max_connections, "hsts_seconds": limits.hsts_seconds}
    return type("ServiceProtocol", (BoundedProtocol,), bounds)


async def sweep_connections(
    connections: Iterable[object], request_seconds: float, quiet_seconds: float
) -> None:
    """Looks at all connections once a second, for ever."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        now = loop.time()
        for connection in tuple(connections):
            if isinstance(connection, BoundedProtocol):
                with suppress(RuntimeError):  # its transport was closed by another hand meanwhile
                    connection.sweep(now, request_seconds, quiet_seconds)


def _path(url: bytes) -> str | None:
    path = unquote(url.partition(b"?")[0].decode("latin-1"))
    return path[:MAX_PATH_CHARACTERS] if path.startswith("/") else None


def _trace_id(headers: RawHeaders) -> str:
    given = (value.decode("latin-1") for name, value in headers if name == b"traceparent")
    return trace_id_of(next(given, None))


def _encoded(problem: Problem, document: dict[str, Any], hsts_seconds: int) -> bytes:
    body = orjson.dumps(document)
    headers = [
        (b"date", formatdate(usegmt=True).encode()),
        (b"trace-id", document["trace_id"].encode()),
        *((name.encode(), value.encode()) for name, value in problem.headers().items()),
        *always_sent(hsts_seconds),
        (b"content-type", PROBLEM_MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    head = b"".join(b"%s: %s\r\n" % header for header in headers)
    return b"HTTP/1.1 %d \r\n%s\r\n%s" % (problem.status, head, body)
