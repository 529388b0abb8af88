"""One connection's life: who it is, what it asks for, and how it ends. What it is sent: `delivery`."""

import asyncio
from contextlib import suppress

from websockets.exceptions import ConnectionClosed

from notifier.admission import MessageRate
from notifier.catchup import Subscription
from notifier.connection import StreamConnection, traced_problem
from notifier.delivery import Delivery
from notifier.filters import Audience
from notifier.identity import Identity, revoked
from notifier.metrics import CLOSED
from notifier.parts import Parts
from notifier.protocol import (
    BAD_MESSAGE,
    NO_SUBSCRIBE,
    NOT_AUTHENTICATED,
    Refresh,
    Refusal,
    Subscribe,
    filter_of,
    parse_message,
)
from shared.challenges import invalid_token
from shared.cursors import InvalidCursor, Position
from shared.problems import Problem

SUBSCRIBE_SECONDS = 5

CLOSE_SECONDS = 5
"""How long a client may take to answer a close before its connection is cut."""


class Session:
    """A connection from its first message to its close."""

    __slots__ = (
        "_closing",
        "_connection",
        "_delivery",
        "_handshake_token",
        "_identity",
        "_loop",
        "_parts",
        "_rate",
    )

    def __init__(self, connection: StreamConnection, parts: Parts, handshake_token: str) -> None:
        self._connection = connection
        self._parts = parts
        self._handshake_token = handshake_token
        self._loop = connection.loop
        self._rate = MessageRate(self._loop.time())
        self._identity = Identity(parts.verifier, parts.revocations, parts.admission, self._expire)
        self._delivery = Delivery(connection, parts, self.end)
        self._closing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serves the connection until it is closed, by whichever side."""
        try:
            with self._parts.admission.connection():
                await self._converse()
        except Refusal as refusal:
            self.end(refusal.code, refusal.reason, refusal.problem)
        except ConnectionClosed:
            pass  # the ordinary end
        finally:
            self._release()
        if self._closing is not None:
            await self._read_to_end()
            await self._closing

    def end(self, code: int, reason: str, problem: Problem | None = None) -> None:
        """Begins to close the connection, without waiting for it. Nothing but the close follows."""
        if self._closing is None:
            self._delivery.stop()
            self._closing = self._loop.create_task(self._close(code, reason, problem))

    def beat(self) -> None:
        """Tells a live client that asked for it where it stands, though nothing happened."""
        self._delivery.beat()

    def end_if_revoked(self) -> None:
        """Begins to close the connection if its token has been revoked."""
        if self._identity.is_revoked:
            refusal = revoked()
            self.end(refusal.code, refusal.reason, refusal.problem)

    async def _converse(self) -> None:
        self._subscribe(await self._first_message())
        while self._closing is None:
            message = await self._message()
            if self._closing is None:  # else it was ended while the key of a token was looked for
                self._handle(message)

    def _handle(self, message: Subscribe | Refresh) -> None:
        if isinstance(message, Subscribe):
            self._subscribe(message)
        else:
            self._refresh(message)

    async def _read_to_end(self) -> None:
        # The client's answer to our close stands behind whatever else it has sent.
        with suppress(ConnectionClosed):
            while True:
                await self._connection.recv(decode=False)

    async def _first_message(self) -> Subscribe:
        try:
            async with asyncio.timeout(SUBSCRIBE_SECONDS):
                message = await self._message()
        except TimeoutError:
            problem = Problem("request-timeout", f"No subscribe came within {SUBSCRIBE_SECONDS} seconds.")
            raise Refusal(NO_SUBSCRIBE, "no subscribe in time", problem) from None
        if isinstance(message, Subscribe):
            return message
        problem = Problem("validation-failed", "The first message must be a subscribe.")
        raise Refusal(BAD_MESSAGE, "bad message", problem)

    async def _message(self) -> Subscribe | Refresh:
        message = parse_message(await self._receive())
        for token in filter(None, (message.token, self._handshake_token)):
            await self._parts.verifier.learn_key_of(token)
        return message

    async def _receive(self) -> bytes:
        data = await self._connection.recv(decode=False)
        self._rate.spend(self._loop.time())
        return data

    def _subscribe(self, message: Subscribe) -> None:
        principal = self._identity.principal
        if principal is None or message.token is not None:
            beside = self._handshake_token if message.token is not None else ""
            principal = self._identity.prove(message.token or self._handshake_token, beside=beside)
        self._handshake_token = ""
        wanted = filter_of(message.filter, self._parts.workflow.statuses)
        after = self._position(message.after)
        audience = Audience(principal.grant, wanted)
        subscription = Subscription(
            audience, after, message.wants_snapshot, heartbeat=bool(message.heartbeat)
        )
        self._delivery.start(subscription)

    def _position(self, cursor: str | None) -> Position | None:
        try:
            return None if cursor is None else self._parts.cursors.decode(cursor)
        except InvalidCursor as error:
            problem = Problem("invalid-cursor", f"The cursor is not one of ours: {error}.")
            raise Refusal(BAD_MESSAGE, "invalid cursor", problem) from None

    def _refresh(self, message: Refresh) -> None:
        try:
            grant = self._identity.prove(message.token).grant
        except Refusal as refusal:
            # The message is refused; the connection keeps its token until that expires.
            if refusal.problem is not None:
                self._tell(refusal.problem)
            return
        self._delivery.regrant(grant)

    def _expire(self) -> None:
        self.end(NOT_AUTHENTICATED, "expired", invalid_token("exp: the token has expired."))

    def _tell(self, problem: Problem) -> None:
        self._connection.send_now(traced_problem(problem))

    async def _close(self, code: int, reason: str, problem: Problem | None = None) -> None:
        """Closes the connection, cutting it if the client does not answer. The library itself waits
        without end for a client that does not read.
        """
        CLOSED.labels(code).inc()
        if problem is not None:
            self._tell(problem)
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._connection.close(code, reason)
                return
        self._connection.transport.abort()

    def _release(self) -> None:
        self._delivery.release()
        self._identity.release()
