"""The session of one connection: authenticates the client, handles its messages, and closes the connection.
`delivery` brings the client up to date, and the hub sends live events. `event_stream` has the session of a
client that sends no messages.
"""

import asyncio
from contextlib import suppress

from websockets.exceptions import ConnectionClosed

from tracking_notifier.errors import Refusal
from tracking_notifier.metrics import CLOSED
from tracking_notifier.session.admission import Identity, MessageRate, revoked_token
from tracking_notifier.session.catchup import Subscription
from tracking_notifier.session.client_connection import StreamConnection, logged_problem_message
from tracking_notifier.session.delivery import SubscriptionDelivery
from tracking_notifier.session.session_context import SessionContext
from tracking_notifier.session.session_log import SessionEnd, SessionRecord
from tracking_notifier.stream.filters import Audience
from tracking_notifier.stream.stream_messages import (
    BAD_MESSAGE,
    NO_SUBSCRIBE,
    NOT_AUTHENTICATED,
    OVERLOADED,
    Refresh,
    Subscribe,
    filter_of,
    parse_client_message,
)
from tracking_shared.contracts.cursors import InvalidCursor, Position
from tracking_shared.contracts.problems import Problem
from tracking_shared.http.callers import invalid_token

SUBSCRIBE_SECONDS = 5

CLOSE_SECONDS = 5
"""The time that a client has to answer a close, before its connection is cut."""


class Session:
    """A connection from its first message to its close."""

    __slots__ = (
        "_closing",
        "_connection",
        "_context",
        "_delivery",
        "_handshake_token",
        "_identity",
        "_loop",
        "_rate",
        "_record",
    )

    def __init__(self, connection: StreamConnection, context: SessionContext, handshake_token: str) -> None:
        self._connection = connection
        self._context = context
        self._handshake_token = handshake_token
        self._loop = connection.loop
        self._rate = MessageRate(self._loop.time())
        self._identity = Identity(
            context.verifier, context.revocations, context.admission, self._close_expired
        )
        self._record = SessionRecord(self._loop.time())
        self._delivery = SubscriptionDelivery(connection, context, self._record, self.begin_close)
        self._closing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serves the connection until one side has closed it."""
        try:
            await self._serve()
        finally:
            self._log_end()

    async def _serve(self) -> None:
        try:
            with self._context.admission.connection():
                await self._handle_messages()
        except Refusal as refusal:
            self.begin_close(refusal.code, refusal.reason, refusal.problem)
        except ConnectionClosed:
            pass  # the ordinary end
        finally:
            self.release()
        if self._closing is not None:
            await self._read_to_end()
            await self._closing

    def begin_close(self, code: int, reason: str, problem: Problem | None = None) -> None:
        """Starts to close the connection without waiting for it. Nothing else is sent afterwards."""
        if self._closing is None:
            self._delivery.stop()
            self._closing = self._loop.create_task(self._close(code, reason, problem))

    def send_heartbeat(self) -> None:
        """Sends the position to a live client that asked for heartbeats."""
        self._delivery.send_heartbeat()

    def close_if_revoked(self) -> None:
        """Starts to close the connection if its token has been revoked."""
        if self._identity.is_revoked:
            refusal = revoked_token()
            self.begin_close(refusal.code, refusal.reason, refusal.problem)

    async def _handle_messages(self) -> None:
        self._subscribe(await self._first_message())
        while self._closing is None:
            message = await self._next_message()
            if self._closing is None:  # a close may have started while the key of a token was fetched
                self._handle(message)

    def _handle(self, message: Subscribe | Refresh) -> None:
        if isinstance(message, Subscribe):
            self._subscribe(message)
        else:
            self._refresh(message)

    def _subscribe(self, message: Subscribe) -> None:
        self._delivery.start(self._accept(message))

    async def _read_to_end(self) -> None:
        # The client's answer to our close comes after whatever else it has sent.
        with suppress(ConnectionClosed):
            while True:
                await self._connection.recv(decode=False)

    async def _first_message(self) -> Subscribe:
        try:
            async with asyncio.timeout(SUBSCRIBE_SECONDS):
                message = await self._next_message()
        except TimeoutError:
            problem = Problem("request-timeout", f"No subscribe came within {SUBSCRIBE_SECONDS} seconds.")
            raise Refusal(NO_SUBSCRIBE, "no subscribe in time", problem) from None
        if isinstance(message, Subscribe):
            return message
        problem = Problem("validation-failed", "The first message must be a subscribe.")
        raise Refusal(BAD_MESSAGE, "bad message", problem)

    async def _next_message(self) -> Subscribe | Refresh:
        data = await self._connection.recv(decode=False)
        self._rate.consume(self._loop.time())
        message = parse_client_message(data)
        for token in filter(None, (message.token, self._handshake_token)):
            await self._context.verifier.refresh_keys_for(token)
        return message

    def _accept(self, message: Subscribe) -> Subscription:
        """Checks who asks, and for what.

        Raises:
            Refusal: one of them is not acceptable.
        """
        principal = self._identity.principal
        if principal is None or message.token is not None:
            other_token = self._handshake_token if message.token is not None else ""
            token = message.token or self._handshake_token
            principal = self._identity.authenticate(token, other_token=other_token)
        self._handshake_token = ""
        audience = Audience(principal.grant, filter_of(message.filter, self._context.workflow.statuses))
        after = self._parse_cursor(message.after)
        subscription = Subscription(
            audience, after, message.wants_snapshot, heartbeat=bool(message.heartbeat)
        )
        self._record.add_subscription(subscription)
        return subscription

    def _parse_cursor(self, cursor: str | None) -> Position | None:
        if cursor is None:
            return None
        if not self._context.hub.is_started:
            # The key of the cursors is learned just before: without it, this would be one of another log.
            raise Refusal(OVERLOADED, "not ready")
        try:
            return self._context.cursors.decode(cursor)
        except InvalidCursor as error:
            problem = Problem("invalid-cursor", f"The cursor is not one of ours: {error}.")
            raise Refusal(BAD_MESSAGE, "invalid cursor", problem) from None

    def _refresh(self, message: Refresh) -> None:
        try:
            grant = self._identity.authenticate(message.token).grant
        except Refusal as refusal:
            # Only the message is refused. The connection keeps its token until that expires.
            if refusal.problem is not None:
                self._send_problem(refusal.problem)
            return
        self._delivery.change_grant(grant)

    def _close_expired(self) -> None:
        self.begin_close(NOT_AUTHENTICATED, "expired", invalid_token("exp: the token has expired."))

    def _send_problem(self, problem: Problem) -> None:
        self._connection.send_now(logged_problem_message(problem, self._connection.trace_id))

    async def _close(self, code: int, reason: str, problem: Problem | None = None) -> None:
        """Closes the connection, and cuts it if the client does not answer. The library alone would wait
        forever for a client that does not read.
        """
        CLOSED.labels(code).inc()
        if problem is not None:
            self._send_problem(problem)
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._connection.close(code, reason)
                return
        self._connection.transport.abort()

    def _log_end(self) -> None:
        """Logs a session that has subscribed. Of the others only the problem is logged."""
        principal = self._identity.principal
        if principal is not None and self._record.first is not None:
            seconds = self._loop.time() - self._record.began_at
            connection = self._connection
            end = SessionEnd(connection.trace_id, connection.final_code, seconds, connection.transport_name)
            self._context.session_log.write(principal, self._record, end)

    def release(self) -> None:
        """Ends the subscription, and no longer counts the connection for its principal."""
        self._delivery.release()
        self._identity.release()
