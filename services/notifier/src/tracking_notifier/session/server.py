"""The server: WebSocket handshakes, event streams, health, metrics and the AsyncAPI document on one port;
pings; the stop."""

import asyncio
import logging
import math
import random
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import orjson
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from tracking_notifier.errors import Refusal
from tracking_notifier.metrics import CLOSED
from tracking_notifier.session.client_connection import (
    NOT_ALLOWED,
    StreamConnection,
    event_stream_response,
    handshake_tokens,
    http_response,
    offers_websocket,
    problem_response,
    trace_id_of_request,
)
from tracking_notifier.session.event_stream import EventStreamSession, token_of
from tracking_notifier.session.session import CLOSE_SECONDS, Session
from tracking_notifier.session.session_context import SessionContext
from tracking_notifier.stream.sse import (
    COMMENT_SECONDS,
    accepts_event_stream,
    event_stream_request,
    parameter_problem,
)
from tracking_notifier.stream.stream_asyncapi import encoded_document
from tracking_notifier.stream.stream_messages import OVERLOADED, RESTARTING, STREAM_PATH
from tracking_shared.contracts.problems import Problem
from tracking_shared.http.callers import invalid_token
from tracking_shared.http.health import Check, failing_checks
from tracking_shared.http.request_parser import host_fault, origin_form
from tracking_shared.policy.origins import cross_origin_headers, is_foreign, preflight_headers
from tracking_shared.serving import PortInUse
from tracking_shared.telemetry.metrics import METRICS_MEDIA_TYPE, render_metrics

log = logging.getLogger(__name__)

HTTP_PATHS = ("/healthz", "/readyz", "/metrics", "/asyncapi.json")

HANDSHAKE_SECONDS = 5

DEAD_AFTER_HEARTBEATS = 2.5
"""A client that answers neither of two heartbeats is gone, or will never read what is sent to it. So is the
client of an event stream that does not take what is sent to it in that time."""

SWEEP_SECONDS = 1.0
MAX_LATE_SECONDS = 3.0

NOT_LIVE_SHARE = 0.2
"""The share of connections that each sweep closes while no new events arrive. If all were closed at once, all
clients would reconnect at once."""

_STOPPING = Problem("overloaded", "This replica is stopping; connect again.")

_NOT_LIVE = Problem("database-unavailable", "Nothing new arrives here now. Connect again with your cursor.")

QUEUED_FRAMES = 4
"""Received frames of a connection that are not handled yet. Beyond that the socket is not read."""

BACKLOG = 4096
"""Connections that may wait to be accepted: after a restart all clients reconnect within seconds."""

PAUSED_BYTES = 32 * 1024
"""A connection with more than this in its send buffer counts as paused, and each frame for it is checked."""

_READABLE_BY_ALL = {"cross-origin-resource-policy": "cross-origin"}
"""Lets a page of any origin learn that there is an answer, but not its content. Without it, a page of an
origin that is not allowed cannot distinguish a refusal from a server that is down."""


class StreamServer:
    """Serves the stream, and the HTTP paths of every service: `/healthz`, `/readyz`, `/metrics`."""

    def __init__(
        self,
        context: SessionContext,
        checks: dict[str, Check],
        heartbeat_seconds: float,
        origins: frozenset[str],
    ) -> None:
        self._context = context
        self._origins = origins
        self._checks = checks
        self._heartbeat_seconds = heartbeat_seconds
        self._dead_seconds = DEAD_AFTER_HEARTBEATS * heartbeat_seconds
        self._comment_seconds = min(heartbeat_seconds, COMMENT_SECONDS - SWEEP_SECONDS)
        self._sessions: dict[StreamConnection, Session] = {}
        self._swept_at = 0.0
        self._is_stopping = False

    async def serve(self, host: str, port: int, stop: asyncio.Event, stop_seconds: float) -> None:
        """Serves until `stop`, then closes the connections over `stop_seconds`.

        Raises:
            PortInUse: the port is taken.
        """
        try:
            server = await serve(
                self._handle,
                host,
                port,
                create_connection=StreamConnection,
                process_request=self._respond,
                process_response=_drop_body_for_head,
                compression=None,
                server_header=None,
                open_timeout=HANDSHAKE_SECONDS,
                close_timeout=CLOSE_SECONDS,
                # The library's keepalive waits forever for a client that does not read; see `_sweep`.
                ping_interval=None,
                max_queue=QUEUED_FRAMES,
                write_limit=min(PAUSED_BYTES, self._context.queue_bytes),
                backlog=BACKLOG,
            )
        except OSError as error:
            raise PortInUse(f"cannot listen on {host}:{port}") from error
        log.info("serving on %s:%d", host, port)
        await self._sweep_until(stop)
        self._is_stopping = True
        server.close(close_connections=False)
        await self._close_all(stop_seconds)
        with suppress(TimeoutError):  # handshakes that never end are not waited for
            async with asyncio.timeout(CLOSE_SECONDS):
                await server.wait_closed()

    def close_revoked(self) -> None:
        """Starts to close the connections whose tokens have been revoked."""
        for session in tuple(self._sessions.values()):
            session.close_if_revoked()

    async def _handle(self, connection: ServerConnection) -> None:
        if not isinstance(connection, StreamConnection):
            raise TypeError("the server makes StreamConnections")
        token = connection.take_handshake_token()
        # The session of an event stream exists already: it was opened before the response was sent.
        session = self._sessions.get(connection) or Session(connection, self._context, token)
        self._sessions[connection] = session
        try:
            await session.run()
        finally:
            del self._sessions[connection]

    async def _respond(self, connection: ServerConnection, request: Request) -> Response | None:
        """Responds to a request over HTTP. None: it is a handshake, which the library handles."""
        fault = host_fault("1.1", request.headers.get_all("Host"))  # the library accepts no other version
        if fault is not None:
            return problem_response(Problem("malformed-request", fault), request)
        request.path = origin_form(request.path)
        if request.path.partition("?")[0] == STREAM_PATH:
            return await self._respond_to_stream(connection, request)
        return await _http_answer(request, self._checks)

    async def _respond_to_stream(self, connection: ServerConnection, request: Request) -> Response | None:
        headers = request.headers
        origins = headers.get_all("Origin")
        if len(handshake_tokens(headers)) > 1:
            return problem_response(invalid_token("Send one token."), request)
        if is_foreign(self._origins, origins):
            return problem_response(Problem("forbidden", "Pages of this origin may not connect."), request)
        origin = next(iter(origins), None)
        if request.method == "OPTIONS" and (preflight := self._preflight(request, origin)) is not None:
            return preflight
        if offers_websocket(headers) or not accepts_event_stream(headers.get_all("Accept")):
            return None
        response = await self._respond_with_event_stream(connection, request)
        for name, value in cross_origin_headers(self._origins, origin):
            response.headers[name.decode()] = value.decode("latin-1")
        return response

    def _preflight(self, request: Request, origin: str | None) -> Response | None:
        asked = next(iter(request.headers.get_all("Access-Control-Request-Method")), None)
        headers = preflight_headers(self._origins, origin, asked)
        if headers is None:
            return None
        named = {name.decode(): value.decode("latin-1") for name, value in headers}
        response = http_response(HTTPStatus.NO_CONTENT, "", b"", **named)
        del response.headers["Content-Type"], response.headers["Content-Length"]
        return response

    async def _respond_with_event_stream(self, connection: ServerConnection, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return problem_response(NOT_ALLOWED, request)
        if self._is_stopping:
            return problem_response(_STOPPING, request)
        if not self._context.is_live():
            return problem_response(_NOT_LIVE, request)
        try:
            return await self._begin_event_stream(connection, request)
        except Refusal as refusal:
            return problem_response(parameter_problem(refusal.problem or _NOT_LIVE), request)

    async def _begin_event_stream(self, connection: ServerConnection, request: Request) -> Response:
        """Opens a session, so that a refusal has its HTTP status.

        Raises:
            Refusal: it cannot be opened.
        """
        if not isinstance(connection, StreamConnection):
            raise TypeError("the server makes StreamConnections")
        token = token_of(request)
        last_event_id = ",".join(request.headers.get_all("Last-Event-ID"))
        subscribe = event_stream_request(request.path.partition("?")[2], last_event_id)
        await self._context.verifier.refresh_keys_for(token)
        # From here to the call of `_handle` nothing is awaited, so the session ends there in any case.
        session = EventStreamSession(connection, self._context, token)
        session.open(subscribe)
        trace_id = trace_id_of_request(request)
        if request.method == "HEAD" or not connection.is_waiting:
            session.release()
            return event_stream_response(trace_id)
        self._sessions[connection] = session
        return connection.begin_event_stream(trace_id, self._dead_seconds)

    async def _sweep_until(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._sweep()
            with suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_SECONDS):
                    await stop.wait()

    def _sweep(self) -> None:
        """Pings the clients and cuts the dead ones. Closes a share of all if no new events arrive."""
        now = asyncio.get_running_loop().time()
        is_late, self._swept_at = now - self._swept_at > MAX_LATE_SECONDS, now
        if is_late:
            return  # this process was stopped: it has not read yet what the clients have sent meanwhile
        is_live = self._context.is_live()
        if not is_live:
            self._close_share()
        for connection, session in tuple(self._sessions.items()):
            seconds = self._comment_seconds if connection.is_event_stream else self._heartbeat_seconds
            if connection.silent_seconds(now) > self._dead_seconds:
                CLOSED.labels("dead").inc()
                connection.transport.abort()
            elif now - connection.pinged_at > seconds:
                # Random, so that clients which connected together are not pinged together forever.
                connection.pinged_at = now - random.uniform(0, seconds / 4)
                connection.ping_now()
                if is_live:
                    session.send_heartbeat()

    def _close_share(self) -> None:
        """Closes a share of the connections: the clients find a live replica, or see that there is none."""
        sessions = list(self._sessions.values())
        for session in random.sample(sessions, math.ceil(len(sessions) * NOT_LIVE_SHARE)):
            session.begin_close(OVERLOADED, "not live", _NOT_LIVE)

    async def _close_all(self, seconds: float) -> None:
        """Closes all connections, spread over `seconds`, so that the clients do not reconnect all at once."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        sessions = list(self._sessions.values())
        random.shuffle(sessions)
        for number, session in enumerate(sessions):
            ahead = started + seconds * number / len(sessions) - loop.time()
            if ahead > 0:
                await asyncio.sleep(ahead)
            session.begin_close(RESTARTING, "restarting")
        for session in tuple(self._sessions.values()):
            session.begin_close(RESTARTING, "restarting")  # those whose handshake ended meanwhile


async def _http_answer(request: Request, checks: dict[str, Check]) -> Response:
    path = request.path.partition("?")[0]
    if path not in HTTP_PATHS:
        return problem_response(Problem("not-found", f"There is nothing at {path[:200]}."), request)
    if request.method not in ("GET", "HEAD"):
        return problem_response(NOT_ALLOWED, request)
    if path == "/healthz":
        return _json_response(HTTPStatus.OK, {"status": "ok"}, **_READABLE_BY_ALL)
    if path == "/metrics":
        return http_response(HTTPStatus.OK, METRICS_MEDIA_TYPE, render_metrics())
    if path == "/asyncapi.json":
        # Made at the first request, in 60 ms, which is too long to block the stream.
        return http_response(HTTPStatus.OK, "application/json", await asyncio.to_thread(encoded_document))
    failing = await failing_checks(checks)
    return _json_response(
        HTTPStatus.SERVICE_UNAVAILABLE if failing else HTTPStatus.OK,
        {"status": _readiness(set(failing)), "failing": failing},
    )


def _readiness(failing: set[str]) -> str:
    if not failing:
        return "ok"
    # Without the broker, events are late but complete: see `feed`.
    return "degraded" if failing == {"broker"} else "unavailable"


def _json_response(status: HTTPStatus, document: dict[str, Any], **headers: str) -> Response:
    return http_response(status, "application/json", orjson.dumps(document), **headers)


def _drop_body_for_head(_connection: ServerConnection, request: Request, response: Response) -> None:
    """Removes the body of a response to HEAD. Its length remains in the header."""
    if request.method == "HEAD":
        response.body = b""
