"""One connection's life: who it is, what it asked for, and how it ends."""

import asyncio
import logging
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace

from websockets.exceptions import ConnectionClosed

from notifier.admission import (
    RESYNCS_AT_ONCE,
    RESYNCS_PER_SECOND,
    Admission,
    Allowance,
    MessageRate,
)
from notifier.catchup import CatchUp, HubLagging, LogReplaced, Subscription
from notifier.connection import StreamConnection
from notifier.filters import Audience
from notifier.hub import Hub
from notifier.identity import Identity, revoked
from notifier.log import EventLog
from notifier.metrics import CLOSED, FELL_BEHIND
from notifier.pages import Pages
from notifier.protocol import (
    BAD_MESSAGE,
    NO_SUBSCRIBE,
    NOT_AUTHENTICATED,
    OVERLOADED,
    RESTARTING,
    Refresh,
    Refusal,
    Subscribe,
    events_message,
    filter_of,
    live_message,
    parse_message,
    problem_message,
    text_frame,
)
from notifier.topics import Sink, Topic
from shared.cursors import InvalidCursor, Position, decode_cursor
from shared.database import DatabaseUnavailable
from shared.problems import Problem
from shared.revocation_list import RevocationList
from shared.tokens import TokenVerifier
from shared.tracing import trace_id_of
from shared.workflow import Workflow

log = logging.getLogger(__name__)

SUBSCRIBE_SECONDS = 5

CLOSE_SECONDS = 5
"""How long a client may take to answer a close before its connection is cut."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What every session works with."""

    hub: Hub
    log: EventLog
    pages: Pages
    verifier: TokenVerifier
    revocations: RevocationList
    workflow: Workflow
    admission: Admission
    queue_bytes: int
    drain_seconds: float


class Session:
    """A connection from its first message to its close."""

    __slots__ = (
        "_closing",
        "_connection",
        "_feeding",
        "_handshake_token",
        "_identity",
        "_loop",
        "_parts",
        "_rate",
        "_resyncs",
        "_subscription",
        "_topic",
    )

    def __init__(self, connection: StreamConnection, parts: Parts, handshake_token: str) -> None:
        self._connection = connection
        self._parts = parts
        self._handshake_token = handshake_token
        self._loop = connection.loop
        self._rate = MessageRate(self._loop.time())
        self._resyncs = Allowance(RESYNCS_AT_ONCE, RESYNCS_PER_SECOND, self._loop.time())
        self._identity = Identity(parts.verifier, parts.revocations, parts.admission, self._expire)
        self._subscription: Subscription | None = None
        self._topic: Topic | None = None
        self._feeding: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        connection.watcher = self

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
            self._unsubscribe()
            self._closing = self._loop.create_task(self._close(code, reason, problem))

    @property
    def sink(self) -> Sink:
        """Where live frames go: the transport itself; while it is paused, through `write`."""
        return self if self._connection.paused else self._connection.transport

    def write(self, frame: bytes, /) -> None:
        """Sends a live frame without waiting. For a client too slow to take it, nothing more is queued."""
        transport = self._connection.transport
        if transport.get_write_buffer_size() > self._parts.queue_bytes:
            self._fall_behind()
        else:
            transport.write(frame)

    def no_longer_open(self) -> None:
        """Leaves the live ones: nobody looks before a live frame whether the connection is open."""
        self._unsubscribe()

    def flow_changed(self) -> None:
        """Has live frames go to another sink."""
        if self._topic is not None:
            self._topic.enter(self)

    def beat(self) -> None:
        """Tells a live client that asked for it where it stands, though nothing happened."""
        if self._topic is not None and self._subscription is not None and self._subscription.heartbeat:
            self.write(text_frame(events_message([], self._parts.hub.cursor)))

    def end_if_revoked(self) -> None:
        """Begins to close the connection if its token has been revoked."""
        if self._identity.is_revoked:
            refusal = revoked()
            self.end(refusal.code, refusal.reason, refusal.problem)

    def log_replaced(self) -> None:
        """Sends the client away; it comes back with a cursor of the old log and is resynchronised."""
        self.end(RESTARTING, "log replaced")

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
            raise Refusal(NO_SUBSCRIBE, f"no subscribe within {SUBSCRIBE_SECONDS} s") from None
        if isinstance(message, Subscribe):
            return message
        problem = Problem("validation-failed", "The first message must be a subscribe.")
        raise Refusal(BAD_MESSAGE, "bad message", problem)

    async def _message(self) -> Subscribe | Refresh:
        message = parse_message(await self._receive())
        await self._parts.verifier.learn_key_of(message.token or self._handshake_token)
        return message

    async def _receive(self) -> bytes:
        data = await self._connection.recv(decode=False)
        self._rate.spend(self._loop.time())
        return data

    def _subscribe(self, message: Subscribe) -> None:
        principal = self._identity.principal
        if principal is None or message.token is not None:
            principal = self._identity.prove(message.token or self._handshake_token)
        self._handshake_token = ""
        wanted = filter_of(message.filter, self._parts.workflow.statuses)
        after = _position(message.after)
        audience = Audience(principal.grant, wanted)
        self._start(Subscription(audience, after, message.wants_snapshot, heartbeat=message.heartbeat))

    def _refresh(self, message: Refresh) -> None:
        try:
            grant = self._identity.prove(message.token).grant
        except Refusal as refusal:
            # The message is refused; the connection keeps its token until that expires.
            if refusal.problem is not None:
                self._tell(refusal.problem)
            return
        subscription = self._subscription
        if subscription is not None and grant != subscription.audience.grant:
            audience = Audience(grant, subscription.audience.filter)
            self._start_over(replace(subscription, audience=audience), "entitlement-changed")

    def _expire(self) -> None:
        self.end(NOT_AUTHENTICATED, "expired", Problem("unauthenticated", "The token has expired."))

    def _start(self, subscription: Subscription) -> None:
        self._unsubscribe()
        if not self._connection.is_open:
            return  # its close stood behind its subscribe
        self._subscription = subscription
        if self._feeding is None or self._feeding.done():
            self._feeding = self._loop.create_task(self._feed())
            self._feeding.add_done_callback(self._fed)

    def _fall_behind(self) -> None:
        """Leaves the topic at once. What was missed comes as a snapshot, when what is queued has drained."""
        FELL_BEHIND.inc()
        subscription = self._subscription
        if subscription is None or not self._resyncs.spend(self._loop.time()):
            self.end(OVERLOADED, "too slow")
        else:
            self._start_over(subscription, "too-slow")

    def _start_over(self, subscription: Subscription, reason: str) -> None:
        self._start(replace(subscription, after=None, snapshot=True, resync_reason=reason))

    async def _feed(self) -> None:
        """Brings the newest subscription to the hub's position and joins it there."""
        try:
            while not await self._bring_up():
                pass  # the client subscribed anew meanwhile
        except TimeoutError:
            self.end(OVERLOADED, "too slow")
        except OSError:
            pass  # the connection was lost: `run` ends, too
        except LogReplaced:
            self.log_replaced()
        except HubLagging as error:
            log.warning("client sent away: %s", error)
            self.end(OVERLOADED, "not ready")
        except DatabaseUnavailable as error:
            log.warning("client sent away: %s", error)
            problem = Problem("database-unavailable", "Connect again a little later.")
            self.end(OVERLOADED, "database unavailable", problem)

    async def _bring_up(self) -> bool:
        parts = self._parts
        await self._drained()  # a position taken before that would be old by now
        subscription = self._subscription
        if subscription is None:
            return True  # the connection ended meanwhile
        catch_up = CatchUp(subscription, parts.hub, parts.log, parts.pages, parts.workflow)
        async with aclosing(catch_up.messages()) as messages:
            async for message in messages:
                self._send(message)
                await self._drained()
                if self._subscription is not subscription:
                    return False
            if self._subscription is not subscription:
                return False
            # Nothing was awaited since the last message was made, so hub and client are at one position.
            self._topic = parts.hub.join(self, subscription.audience)
            self._send(live_message(parts.hub.cursor))
        return True

    async def _drained(self) -> None:
        """Returns when little waits to be sent. Raises `TimeoutError` if that takes too long."""
        if self._connection.paused:
            async with asyncio.timeout(self._parts.drain_seconds):
                await self._connection.drain()

    def _fed(self, task: asyncio.Task[None]) -> None:
        if self._feeding is task:
            self._feeding = None
        if not task.cancelled() and (fault := task.exception()) is not None:
            log.error("catching up failed", exc_info=fault)
            self.end(1011, "internal error", Problem("internal-error", "The fault is logged."))

    def _send(self, payload: bytes) -> None:
        if self._connection.is_open:
            self._connection.transport.write(text_frame(payload))

    def _tell(self, problem: Problem) -> None:
        trace_id = trace_id_of(None)
        log.info("problem %s, trace id %s", problem.slug, trace_id)
        self._send(problem_message(problem, trace_id))

    def _unsubscribe(self) -> None:
        self._subscription = None
        if self._topic is not None:
            self._parts.hub.leave(self, self._topic)
            self._topic = None

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
        self._unsubscribe()
        self._connection.watcher = None
        self._identity.release()


def _position(cursor: str | None) -> Position | None:
    if cursor is None:
        return None
    try:
        return decode_cursor(cursor)
    except InvalidCursor as error:
        problem = Problem("invalid-cursor", f"The cursor is not one of ours: {error}.")
        raise Refusal(BAD_MESSAGE, "invalid cursor", problem) from None
