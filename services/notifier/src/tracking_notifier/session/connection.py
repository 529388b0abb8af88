"""The WebSocket connection: its handshake, its close codes, and notifications about its state. Refused
handshakes get a problem document over HTTP.
"""

import logging
from collections.abc import Sequence
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
from tracking_notifier.stream.messages import (
    BEARER_PREFIX,
    MAX_CLIENT_MESSAGE_BYTES,
    SUBPROTOCOL,
    TOO_BIG,
    problem_message,
    text_frame,
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
    "Open a WebSocket here: HTTP/1.1, and version 13 of the protocol.",
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


def problem_response(problem: Problem, request: Request | None = None) -> Response:
    """Makes the response to a refused request. `request` is None if it could not be parsed."""
    path, traceparent = None, None
    if request is not None:
        path = request.path.partition("?")[0][:200]
        traceparent = next(iter(request.headers.get_all("traceparent")), None)
    body = orjson.dumps(problem.document(path, trace_id_of(traceparent)))
    return http_response(HTTPStatus(problem.status), PROBLEM_MEDIA_TYPE, body, **problem.headers())


def logged_problem_message(problem: Problem, trace_id: str) -> bytes:
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


def _keep_only_websocket(headers: Headers) -> None:
    """Removes other protocols that are offered with WebSocket: a server selects one (RFC 9110, 7.8)."""
    offered = ",".join(headers.get_all("Upgrade")).lower().split(",")
    if "websocket" in (protocol.strip() for protocol in offered):
        del headers["Upgrade"]
        headers["Upgrade"] = "websocket"


class StreamProtocol(ServerProtocol):
    """The library's protocol with our subprotocol, our close code for messages that are too big, and
    tolerance for valid handshakes with unusual surroundings.
    """

    _has_begun = False

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
            self.send_text(logged_problem_message(_TOO_BIG, self.trace_id))
        super().fail(sent_code, "too big" if too_big else reason)

    def accept(self, request: Request) -> Response:
        """Responds to a handshake: with a problem if the library refuses it."""
        _keep_only_websocket(request.headers)
        response = super().accept(request)
        if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            self.trace_id = trace_id_of(next(iter(request.headers.get_all("traceparent")), None))
            return response
        return problem_response(_handshake_problem(request, self.handshake_exc), request)

    def reject(self, status: HTTPStatus | int, text: str) -> Response:
        """Replaces a response of the library itself by a problem."""
        return problem_response(_PROBLEMS.get(int(status), Problem("malformed-request", text.strip())))

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
    """A connection that notifies a listener, and records when the client last sent something."""

    def __init__(self, protocol: ServerProtocol, server: Server, **options: Any) -> None:
        self._stream_protocol = StreamProtocol(max_size=MAX_CLIENT_MESSAGE_BYTES)
        super().__init__(self._stream_protocol, server, **options)
        self.received_at = self.loop.time()
        self.pinged_at = self.received_at
        self.listener: ConnectionListener | None = None
        self._is_paused = False
        """True if it counts as paused: the transport does not report that a pause ends with the
        connection."""

    @property
    def is_open(self) -> bool:
        """True if messages may be sent."""
        return self.protocol.state is State.OPEN

    @property
    def trace_id(self) -> str:
        """The trace id of the session."""
        return self._stream_protocol.trace_id

    @property
    def final_code(self) -> int:
        """The close code of a connection that has ended: that of the side which closed it first, or 1006."""
        protocol = self._stream_protocol
        close = protocol.close_sent or protocol.close_rcvd  # a close of the client is echoed
        return CloseCode.ABNORMAL_CLOSURE if close is None else close.code

    def ping_now(self) -> None:
        """Sends a ping without waiting, even if the connection is paused."""
        if self.is_open:
            self.protocol.send_ping(b"")
            self.send_data()

    def send_now(self, payload: bytes) -> None:
        """Sends a text message without waiting, if messages may be sent."""
        if self.is_open:
            self.transport.write(text_frame(payload))

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
