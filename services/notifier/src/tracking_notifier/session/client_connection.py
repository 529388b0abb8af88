"""The connection of a client, a WebSocket or an event stream: its handshake, its end, and notifications about
its state. Refused handshakes get a problem document over HTTP.
"""

import logging
import socket
from collections.abc import Generator, Sequence
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Protocol

import orjson
from websockets.asyncio.server import Server, ServerConnection
from websockets.datastructures import Headers
from websockets.exceptions import (
    InvalidHandshake,
    InvalidHeader,
    InvalidMessage,
    InvalidMethod,
    InvalidProtocol,
    InvalidUpgrade,
)
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from tracking_notifier.metrics import CLOSED, NO_REQUEST, PAUSED
from tracking_notifier.stream.sse import COMMENT, EVENT_STREAM, event_stream_frame
from tracking_notifier.stream.stream_messages import (
    BEARER_PREFIX,
    MAX_CLIENT_MESSAGE_BYTES,
    SUBPROTOCOL,
    TOO_BIG,
    Framing,
    ServerMessage,
    problem_message,
    websocket_frame,
)
from tracking_shared.contracts.problems import PROBLEM_MEDIA_TYPE, Problem
from tracking_shared.http.headers import always_sent
from tracking_shared.telemetry.spans import trace_id_of

log = logging.getLogger(__name__)

NOT_ALLOWED = Problem("method-not-allowed", "Use GET.", own_headers={"Allow": "GET, HEAD"})

_ALWAYS_SENT = {name.decode(): value.decode() for name, value in always_sent(hsts_seconds=0)}

_DISCARDED = Request("", Headers())

_TOO_BIG = Problem(
    "payload-too-large",
    f"A message may have {MAX_CLIENT_MESSAGE_BYTES} bytes.",
    {"limit_bytes": MAX_CLIENT_MESSAGE_BYTES},
)
_UPGRADE_REQUIRED = Problem(
    "upgrade-required",
    "Open a WebSocket here: HTTP/1.1, version 13 of the protocol. Or accept text/event-stream.",
    own_headers={"Upgrade": "websocket", "Sec-WebSocket-Version": "13"},
)
_TOO_LARGE = Problem("headers-too-large", "A line of the head may have 8192 bytes, and there may be 128.")

_PROBLEMS: dict[int, Problem] = {
    HTTPStatus.REQUEST_URI_TOO_LONG: _TOO_LARGE,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: _TOO_LARGE,
    HTTPStatus.INTERNAL_SERVER_ERROR: Problem("internal-error", "The request could not be handled."),
    HTTPStatus.SERVICE_UNAVAILABLE: Problem("overloaded", "This replica is stopping; connect again."),
}
"""The problems for responses of the library itself, by status. Other requests are not valid HTTP."""


def http_response(status: HTTPStatus, content_type: str, body: bytes, **headers: str) -> Response:
    """Makes an HTTP response, after which the connection is closed."""
    sent = _ALWAYS_SENT | {
        "Content-Type": content_type,
        "Content-Length": str(len(body)),
        "Connection": "close",
        "Date": formatdate(usegmt=True),
    }
    return Response(status.value, status.phrase, Headers(sent | headers), body)


def trace_id_of_request(request: Request | None) -> str:
    """The trace id of a request's `traceparent`, or a new one."""
    sent = [] if request is None else request.headers.get_all("traceparent")
    return trace_id_of(next(iter(sent), None))


def event_stream_response(trace_id: str) -> Response:
    """Makes the head of an event stream. The stream ends with the connection: no length, and no chunks."""
    sent = _ALWAYS_SENT | {
        "Content-Type": EVENT_STREAM,
        "Connection": "close",
        "Date": formatdate(usegmt=True),
        "Trace-Id": trace_id,
        "X-Accel-Buffering": "no",  # nginx and others like it pass on each message at once
    }
    return Response(HTTPStatus.OK.value, HTTPStatus.OK.phrase, Headers(sent))


def problem_response(problem: Problem, request: Request | None = None) -> Response:
    """Makes the response to a refused request. `request` is None if it could not be parsed."""
    path = None if request is None else request.path.partition("?")[0][:200]
    body = orjson.dumps(problem.document(path, trace_id_of_request(request)))
    return http_response(HTTPStatus(problem.status), PROBLEM_MEDIA_TYPE, body, **problem.headers())


def logged_problem_message(problem: Problem, trace_id: str) -> ServerMessage:
    """Encodes a `problem` message with the trace id of its session, and logs that id."""
    log.info("problem %s, trace id %s", problem.slug, trace_id)
    return problem_message(problem, trace_id)


def handshake_tokens(headers: Headers) -> list[str]:
    """Returns the tokens of a handshake, from `Authorization` and from the subprotocols, the only header that
    a browser can set. More than one must be refused: the client could claim two identities.
    """
    tokens = []
    for authorization in headers.get_all("Authorization"):
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "bearer":
            tokens.append(token.strip())
    for header in headers.get_all("Sec-WebSocket-Protocol"):
        names = map(str.strip, header.split(","))
        tokens += [name.removeprefix(BEARER_PREFIX) for name in names if name.startswith(BEARER_PREFIX)]
    return tokens


def _handshake_problem(request: Request, reason: Exception | None) -> Problem:
    match reason:
        case InvalidMethod() if request.method != "HEAD":
            return NOT_ALLOWED
        case InvalidMethod() | InvalidProtocol() | InvalidUpgrade():
            return _UPGRADE_REQUIRED
        case InvalidHeader(name="Sec-WebSocket-Version"):
            return _UPGRADE_REQUIRED
        case InvalidHandshake():
            return Problem("malformed-request", f"The handshake is not valid: {reason}.")
    return _PROBLEMS[HTTPStatus.INTERNAL_SERVER_ERROR]


def offers_websocket(headers: Headers) -> bool:
    """True if the client offers to change to a WebSocket."""
    offered = ",".join(headers.get_all("Upgrade")).lower().split(",")
    return "websocket" in (protocol.strip() for protocol in offered)


def _keep_only_websocket(headers: Headers) -> None:
    """Removes other protocols that are offered with WebSocket: a server selects one (RFC 9110, 7.8)."""
    if offers_websocket(headers):
        del headers["Upgrade"]
        headers["Upgrade"] = "websocket"


class StreamProtocol(ServerProtocol):
    """The library's protocol with our subprotocol, our close code for messages that are too big, and
    tolerance for valid handshakes with unusual surroundings. And with event streams, which the library does
    not know: it takes any other response than that to a handshake for the end of the connection.
    """

    _has_begun = False

    is_event_stream = False
    """True if the next response begins an event stream."""

    trace_id = ""
    """Of the session: that of the handshake's `traceparent`, or a new one."""

    def receive_data(self, data: bytes | bytearray) -> None:
        """Parses received bytes. Empty lines before the request are skipped (RFC 9112, 2.2)."""
        if not self._has_begun:
            data = data.lstrip(b"\r\n")
            self._has_begun = bool(data)
        super().receive_data(data)

    def fail(self, code: CloseCode | int, reason: str = "") -> None:
        """Closes the connection because the client violated the protocol."""
        too_big = code == CloseCode.MESSAGE_TOO_BIG
        sent_code = TOO_BIG if too_big else code
        if sent_code != CloseCode.ABNORMAL_CLOSURE:  # only means that the client has vanished
            CLOSED.labels(int(sent_code)).inc()
        if too_big and self.state is State.OPEN:
            self.send_text(logged_problem_message(_TOO_BIG, self.trace_id).body)
        super().fail(sent_code, "too big" if too_big else reason)

    def accept(self, request: Request) -> Response:
        """Responds to a handshake: with a problem if the library refuses it."""
        _keep_only_websocket(request.headers)
        response = super().accept(request)
        if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            self.trace_id = trace_id_of_request(request)
            return response
        return problem_response(_handshake_problem(request, self.handshake_exc), request)

    def reject(self, status: HTTPStatus | int, text: str) -> Response:
        """Replaces a response of the library itself by a problem."""
        return problem_response(_PROBLEMS.get(int(status), Problem("malformed-request", text.strip())))

    def send_response(self, response: Response) -> None:
        """Sends the response to the request. An event stream is open after it, as a WebSocket is."""
        if not self.is_event_stream:
            super().send_response(response)
            return
        self.writes.append(response.serialize())
        self.state = State.OPEN
        self.parser = self._ignore_input()
        next(self.parser)

    def _ignore_input(self) -> Generator[None]:
        """Parses what comes after the request for an event stream: nothing that matters, and the end."""
        while not (yield from self.reader.at_eof()):
            self.reader.discard()
        self.state = State.CLOSED
        yield

    def send_eof(self) -> None:
        """Ends the sending side. A client that did not send HTTP gets a problem first."""
        reason = self.handshake_exc
        if isinstance(reason, InvalidMessage) and not isinstance(reason.__cause__, EOFError):
            answer = self.reject(HTTPStatus.BAD_REQUEST, f"This cannot be read: {reason.__cause__}.")
            self.writes.append(answer.serialize())
        super().send_eof()

    def select_subprotocol(self, subprotocols: Sequence[Subprotocol]) -> Subprotocol | None:
        """Selects ours if it is offered. The one that contains a token is never sent back."""
        return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in subprotocols else None


class ConnectionListener(Protocol):
    """Is notified when a connection can no longer be written to directly, so that no check is needed before
    each frame.
    """

    def on_close(self) -> None:
        """The client has closed the connection or is gone: nothing may be sent. May be called repeatedly."""

    def on_flow_change(self) -> None:
        """The send buffer has grown above its limit (`paused`), or has drained."""


class StreamConnection(ServerConnection):
    """A connection that notifies a listener, and records when the client last showed that it is there."""

    def __init__(self, protocol: ServerProtocol, server: Server, **options: Any) -> None:
        self._stream_protocol = StreamProtocol(max_size=MAX_CLIENT_MESSAGE_BYTES)
        super().__init__(self._stream_protocol, server, **options)
        self.received_at = self.loop.time()
        self.pinged_at = self.received_at
        self.listener: ConnectionListener | None = None
        self.framing: Framing = websocket_frame
        self._event_stream_code = CloseCode.ABNORMAL_CLOSURE.value
        """Why the server ended the event stream, if it did."""
        self._is_paused = False
        """True if it counts as paused: the transport does not report that a pause ends with the
        connection."""

    @property
    def is_waiting(self) -> bool:
        """True if the client waits for the response to its request."""
        return self.protocol.state is State.CONNECTING

    @property
    def is_open(self) -> bool:
        """True if messages may be sent."""
        return self.protocol.state is State.OPEN

    @property
    def trace_id(self) -> str:
        """The trace id of the session."""
        return self._stream_protocol.trace_id

    @property
    def is_event_stream(self) -> bool:
        """True if messages are sent as server-sent events."""
        return self._stream_protocol.is_event_stream

    @property
    def transport_name(self) -> str:
        """The kind of connection, for people."""
        return "event-stream" if self.is_event_stream else "websocket"

    def begin_event_stream(self, trace_id: str, max_unacknowledged_seconds: float) -> Response:
        """Makes the connection an event stream. Returns the response, which must be sent at once.

        A client that vanished without a word is noticed by what its side of TCP does not acknowledge.
        """
        protocol = self._stream_protocol
        protocol.is_event_stream = True
        protocol.trace_id = trace_id
        self.framing = event_stream_frame
        self.received_at = self.pinged_at = self.loop.time()
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            milliseconds = int(max_unacknowledged_seconds * 1000)
            tcp = self.transport.get_extra_info("socket")
            with suppress(OSError):  # the client has just left
                tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        return event_stream_response(protocol.trace_id)

    @property
    def final_code(self) -> int:
        """The close code of a connection that has ended: that of the side which closed it first, or 1006. The
        client of an event stream has no code to close with, and is not told the server's.
        """
        protocol = self._stream_protocol
        if protocol.is_event_stream:
            return self._event_stream_code
        close = protocol.close_sent or protocol.close_rcvd  # a close of the client is echoed
        return CloseCode.ABNORMAL_CLOSURE if close is None else close.code

    def silent_seconds(self, now: float) -> float:
        """The time since the client last showed that it is there. That of an event stream has no words: it is
        there while it takes all that is sent.
        """
        if self.is_event_stream and self.transport.get_write_buffer_size() == 0:
            self.received_at = now
        return now - self.received_at

    def ping_now(self) -> None:
        """Sends a ping, or a comment, without waiting, even if the connection is paused."""
        if not self.is_open:
            return
        if self.is_event_stream:
            self.transport.write(COMMENT)
        else:
            self.protocol.send_ping(b"")
            self.send_data()

    def send_now(self, message: ServerMessage) -> None:
        """Sends a message without waiting, if messages may be sent."""
        if self.is_open:
            self.transport.write(self.framing(message))

    async def close(self, code: CloseCode | int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Closes the connection and waits until it is closed. An event stream ends after what was sent."""
        if not self.is_event_stream:
            await super().close(code, reason)
            return
        if self.is_open:
            self.protocol.state = State.CLOSING
            self._event_stream_code = int(code)
            self.transport.close()
        await self.wait_closed()

    def take_handshake_token(self) -> str:
        """Returns the token of the handshake, or "", and discards the handshake, which takes 2.5 KB."""
        token = next(iter(handshake_tokens(self.request.headers)), "") if self.request else ""
        self.request, self.response = _DISCARDED, None
        return token

    def data_received(self, data: bytes) -> None:
        """Called by the transport."""
        self.received_at = self.loop.time()
        super().data_received(data)
        if not self.is_open:
            self._notify_close()

    def eof_received(self) -> None:
        """Called by the transport."""
        super().eof_received()
        self._notify_close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the transport, which must not be written to afterwards."""
        if self.request is None:
            NO_REQUEST.inc()
        self._count_pause(paused=False)
        self._notify_close()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Called by the transport, also during a `write`."""
        super().pause_writing()
        self._count_pause(paused=True)
        self._notify_flow_change()

    def resume_writing(self) -> None:
        """Called by the transport."""
        super().resume_writing()
        if self.is_event_stream:
            self.received_at = self.loop.time()
        self._count_pause(paused=False)
        self._notify_flow_change()

    def _count_pause(self, *, paused: bool) -> None:
        PAUSED.inc(paused - self._is_paused)
        self._is_paused = paused

    def _notify_close(self) -> None:
        if self.listener is not None:
            self.listener.on_close()

    def _notify_flow_change(self) -> None:
        if self.listener is not None:
            self.listener.on_flow_change()
