"""The WebSocket connections: the library's, with our close codes, and telling what happens to them."""

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Protocol

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

from notifier.endpoints import NOT_ALLOWED, refusal
from notifier.identity import handshake_tokens
from notifier.metrics import CLOSED, NO_REQUEST
from notifier.protocol import (
    MAX_CLIENT_MESSAGE_BYTES,
    SUBPROTOCOL,
    TOO_BIG,
    problem_message,
    text_frame,
)
from shared.problems import Problem
from shared.tracing import trace_id_of

log = logging.getLogger(__name__)

_FORGOTTEN = Request("", Headers())

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
"""What the library refuses by itself, by the status that it would give; everything else is no HTTP."""


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


def _decline_others(headers: Headers) -> None:
    """Leaves the WebSocket of several protocols that are offered: a server takes one (RFC 9110, 7.8)."""
    offered = ",".join(headers.get_all("Upgrade")).lower().split(",")
    if "websocket" in (protocol.strip() for protocol in offered):
        del headers["Upgrade"]
        headers["Upgrade"] = "websocket"


def traced_problem(problem: Problem) -> bytes:
    """The message that tells of a problem, under a trace id of its own that is in the log too."""
    trace_id = trace_id_of(None)
    log.info("problem %s, trace id %s", problem.slug, trace_id)
    return problem_message(problem, trace_id)


class StreamProtocol(ServerProtocol):
    """The library's protocol with our close code for messages that are too big, our subprotocol, and an ear
    for handshakes that are good in spite of what surrounds them.
    """

    _has_begun = False

    def receive_data(self, data: bytes | bytearray) -> None:
        """Takes what has been read. Empty lines before the request are skipped (RFC 9112, 2.2)."""
        if not self._has_begun:
            data = data.lstrip(b"\r\n")
            self._has_begun = bool(data)
        super().receive_data(data)

    def fail(self, code: CloseCode | int, reason: str = "") -> None:
        """Ends the connection because the peer broke the protocol."""
        too_big = code == CloseCode.MESSAGE_TOO_BIG
        told = TOO_BIG if too_big else code
        if told != CloseCode.ABNORMAL_CLOSURE:  # which only says that the peer has vanished
            CLOSED.labels(int(told)).inc()
        if too_big and self.state is State.OPEN:
            self.send_text(traced_problem(_TOO_BIG))
        super().fail(told, "too big" if too_big else reason)

    def accept(self, request: Request) -> Response:
        """The answer to a handshake: where the library refuses it, a problem that says why."""
        _decline_others(request.headers)
        response = super().accept(request)
        if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            return response
        return refusal(_handshake_problem(request, self.handshake_exc), request)

    def reject(self, status: HTTPStatus | int, text: str) -> Response:
        """The answer that the library gives by itself, as a problem."""
        return refusal(_PROBLEMS.get(int(status), Problem("malformed-request", text.strip())))

    def send_eof(self) -> None:
        """Says that nothing more will be sent; first, to a peer that sent no HTTP, why."""
        reason = self.handshake_exc
        if isinstance(reason, InvalidMessage) and not isinstance(reason.__cause__, EOFError):
            answer = self.reject(HTTPStatus.BAD_REQUEST, f"This cannot be read: {reason.__cause__}.")
            self.writes.append(answer.serialize())
        super().send_eof()

    def select_subprotocol(self, subprotocols: Sequence[Subprotocol]) -> Subprotocol | None:
        """Ours if it is offered. The one that carries a token is never sent back."""
        return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in subprotocols else None


class Watcher(Protocol):
    """Who must know what a connection can take, without asking before every frame."""

    def no_longer_open(self) -> None:
        """Nothing may be sent any more: the peer has closed, or is gone. May come more than once."""

    def flow_changed(self) -> None:
        """What waits to be sent has grown above the limit of the buffer (`paused`), or has drained."""


class StreamConnection(ServerConnection):
    """A connection that remembers when its peer was last heard, and tells its watcher what happens."""

    def __init__(self, protocol: ServerProtocol, server: Server, **options: Any) -> None:
        super().__init__(StreamProtocol(max_size=MAX_CLIENT_MESSAGE_BYTES), server, **options)
        self.heard_at = self.loop.time()
        self.pinged_at = self.heard_at
        self.watcher: Watcher | None = None

    @property
    def is_open(self) -> bool:
        """Whether messages may be sent."""
        return self.protocol.state is State.OPEN

    def ping_now(self) -> None:
        """Sends a ping without waiting, whatever else waits to be sent."""
        if self.is_open:
            self.protocol.send_ping(b"")
            self.send_data()

    def send_now(self, payload: bytes) -> None:
        """Sends a text message without waiting, if messages may be sent."""
        if self.is_open:
            self.transport.write(text_frame(payload))

    def take_handshake_token(self) -> str:
        """The token of the handshake, or "". The handshake is forgotten: it holds the token and 2.5 KB."""
        token = next(iter(handshake_tokens(self.request.headers)), "") if self.request else ""
        self.request, self.response = _FORGOTTEN, None
        return token

    def data_received(self, data: bytes) -> None:
        """Called by the transport."""
        self.heard_at = self.loop.time()
        super().data_received(data)
        if not self.is_open:
            self._tell_end()

    def eof_received(self) -> None:
        """Called by the transport."""
        super().eof_received()
        self._tell_end()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the transport, which must not be written to afterwards."""
        if self.request is None:
            NO_REQUEST.inc()
        self._tell_end()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Called by the transport, also in the middle of a `write`."""
        super().pause_writing()
        self._tell_flow()

    def resume_writing(self) -> None:
        """Called by the transport."""
        super().resume_writing()
        self._tell_flow()

    def _tell_end(self) -> None:
        if self.watcher is not None:
            self.watcher.no_longer_open()

    def _tell_flow(self) -> None:
        if self.watcher is not None:
            self.watcher.flow_changed()
