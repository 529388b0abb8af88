"""The WebSocket server: handshakes, health and metrics on the same port, heartbeats, and the stop."""

import asyncio
import logging
import math
import random
from contextlib import suppress

from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from notifier.connection import StreamConnection
from notifier.endpoints import answer, for_head, refusal
from notifier.identity import handshake_tokens
from notifier.metrics import CLOSED
from notifier.parts import Parts
from notifier.protocol import OVERLOADED, RESTARTING, STREAM_PATH
from notifier.session import CLOSE_SECONDS, Session
from shared.challenges import invalid_token
from shared.health import Check
from shared.origins import is_foreign
from shared.problems import Problem
from shared.request_heads import host_fault, origin_form
from shared.serving import PortInUse

log = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 5

DEAD_AFTER_HEARTBEATS = 2.5
"""A peer that answers two heartbeats with nothing is gone, or will never read what waits for it."""

SWEEP_SECONDS = 1.0
MAX_LATE_SECONDS = 3.0

NOT_LIVE_SHARE = 0.2
"""Of the connections, closed at each sweep while nothing new arrives: all at once would come back at once."""

_NOT_LIVE = Problem("database-unavailable", "Nothing new arrives here now. Connect again with your cursor.")

WAITING_FRAMES = 4
"""Received and not read yet, per connection; beyond that the socket is not read."""

BACKLOG = 4096
"""Connections that may wait to be accepted: after a restart all clients come back within seconds."""

PAUSED_BYTES = 32 * 1024
"""While more than this waits to be sent, a connection counts as paused, and each frame for it is weighed."""


class StreamServer:
    """Serves the stream and what every service has: `/healthz`, `/readyz`, `/metrics`."""

    def __init__(
        self, parts: Parts, checks: dict[str, Check], heartbeat_seconds: float, origins: frozenset[str]
    ) -> None:
        self._parts = parts
        self._origins = origins
        self._checks = checks
        self._heartbeat_seconds = heartbeat_seconds
        self._sessions: dict[StreamConnection, Session] = {}
        self._swept_at = 0.0

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
                process_request=self._answer,
                process_response=for_head,
                compression=None,
                server_header=None,
                open_timeout=HANDSHAKE_SECONDS,
                close_timeout=CLOSE_SECONDS,
                # Its keepalive waits without end for a peer that does not read; see `_sweep`.
                ping_interval=None,
                max_queue=WAITING_FRAMES,
                write_limit=min(PAUSED_BYTES, self._parts.queue_bytes),
                backlog=BACKLOG,
            )
        except OSError as error:
            raise PortInUse(f"cannot listen on {host}:{port}") from error
        log.info("serving on %s:%d", host, port)
        await self._sweep_until(stop)
        server.close(close_connections=False)
        await self._send_away(stop_seconds)
        with suppress(TimeoutError):  # handshakes that never end are not waited for
            async with asyncio.timeout(CLOSE_SECONDS):
                await server.wait_closed()

    def end_revoked(self) -> None:
        """Begins to close the connections whose tokens have been revoked."""
        for session in tuple(self._sessions.values()):
            session.end_if_revoked()

    async def _handle(self, connection: ServerConnection) -> None:
        if not isinstance(connection, StreamConnection):
            raise TypeError("the server makes StreamConnections")
        session = Session(connection, self._parts, connection.take_handshake_token())
        self._sessions[connection] = session
        try:
            await session.run()
        finally:
            del self._sessions[connection]

    async def _answer(self, _connection: ServerConnection, request: Request) -> Response | None:
        fault = host_fault("1.1", request.headers.get_all("Host"))  # the library takes no other version
        if fault is not None:
            return refusal(Problem("malformed-request", fault), request)
        request.path = origin_form(request.path)
        if request.path.partition("?")[0] == STREAM_PATH:
            if len(handshake_tokens(request.headers)) > 1:
                return refusal(invalid_token("Send one token."), request)
            if is_foreign(self._origins, request.headers.get_all("Origin")):
                return refusal(Problem("forbidden", "Pages of this origin may not connect."), request)
            return None
        return await answer(request, self._checks)

    async def _sweep_until(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._sweep()
            with suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_SECONDS):
                    await stop.wait()

    def _sweep(self) -> None:
        """Pings all from time to time, cuts the dead; sends away those to whom nothing new would come."""
        now = asyncio.get_running_loop().time()
        late, self._swept_at = now - self._swept_at > MAX_LATE_SECONDS, now
        if late:
            return  # this process stood still: what the peers sent meanwhile has yet to be read
        live = self._parts.is_live()
        if not live:
            self._end_some()
        for connection, session in tuple(self._sessions.items()):
            if now - connection.heard_at > DEAD_AFTER_HEARTBEATS * self._heartbeat_seconds:
                CLOSED.labels("dead").inc()
                connection.transport.abort()
            elif now - connection.pinged_at > self._heartbeat_seconds:
                # Spread from here on: clients that came together are not pinged together for ever.
                connection.pinged_at = now - random.uniform(0, self._heartbeat_seconds / 4)
                connection.ping_now()
                if live:
                    session.beat()

    def _end_some(self) -> None:
        """Closes a share of the connections: clients go to a replica that is live, or see that none is."""
        sessions = list(self._sessions.values())
        for session in random.sample(sessions, math.ceil(len(sessions) * NOT_LIVE_SHARE)):
            session.end(OVERLOADED, "not live", _NOT_LIVE)

    async def _send_away(self, seconds: float) -> None:
        """Closes all connections, spread over `seconds` so that the clients do not come back as a herd."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        sessions = list(self._sessions.values())
        random.shuffle(sessions)
        for number, session in enumerate(sessions):
            ahead = started + seconds * number / len(sessions) - loop.time()
            if ahead > 0:
                await asyncio.sleep(ahead)
            session.end(RESTARTING, "restarting")
        for session in tuple(self._sessions.values()):
            session.end(RESTARTING, "restarting")  # those whose handshake was under way
