"""What one connection is sent: what it missed, then what happens; a snapshot again if it does not keep up."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace

from notifier.admission import RESYNCS_AT_ONCE, RESYNCS_PER_SECOND, Allowance
from notifier.catchup import CatchUp, HubLagging, LogReplaced, Subscription
from notifier.connection import StreamConnection
from notifier.filters import Audience
from notifier.metrics import FELL_BEHIND
from notifier.parts import Parts
from notifier.protocol import OVERLOADED, RESTARTING, events_message, live_message, text_frame
from notifier.topics import Sink, Topic
from shared.access import Grant
from shared.database import DatabaseUnavailable
from shared.problems import Problem

log = logging.getLogger(__name__)


class Delivery:
    """The newest subscription of a connection, and how far it is: catching up, or live in a topic."""

    __slots__ = ("_connection", "_end", "_feeding", "_loop", "_parts", "_resyncs", "_subscription", "_topic")

    def __init__(
        self, connection: StreamConnection, parts: Parts, end: Callable[[int, str, Problem | None], None]
    ) -> None:
        """`end` begins to close the connection, and stops this: close code, reason, problem."""
        self._connection = connection
        self._parts = parts
        self._end = end
        self._loop = connection.loop
        self._resyncs = Allowance(RESYNCS_AT_ONCE, RESYNCS_PER_SECOND, self._loop.time())
        self._subscription: Subscription | None = None
        self._topic: Topic | None = None
        self._feeding: asyncio.Task[None] | None = None
        connection.watcher = self

    def start(self, subscription: Subscription) -> None:
        """Replaces the subscription."""
        self.stop()
        if not self._connection.is_open:
            return  # its close stood behind its subscribe
        self._subscription = subscription
        if self._feeding is None or self._feeding.done():
            self._feeding = self._loop.create_task(self._feed())
            self._feeding.add_done_callback(self._fed)

    def regrant(self, grant: Grant) -> None:
        """The token says something else now: what the client may see begins anew if that differs."""
        subscription = self._subscription
        if subscription is not None and grant != subscription.audience.grant:
            audience = Audience(grant, subscription.audience.filter)
            self._start_over(replace(subscription, audience=audience), "entitlement-changed")

    def stop(self) -> None:
        """Leaves the live ones, and gives up catching up."""
        self._subscription = None
        if self._topic is not None:
            self._parts.hub.leave(self, self._topic)
            self._topic = None

    def release(self) -> None:
        """The connection is gone."""
        self.stop()
        self._connection.watcher = None

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
        self.stop()

    def flow_changed(self) -> None:
        """Has live frames go to another sink."""
        if self._topic is not None:
            self._topic.enter(self)

    def beat(self) -> None:
        """Tells a live client that asked for it where it stands, though nothing happened."""
        if self._topic is not None and self._subscription is not None and self._subscription.heartbeat:
            self.write(text_frame(events_message([], self._parts.hub.cursor)))

    def log_replaced(self) -> None:
        """Sends the client away; it comes back with a cursor of the old log and is resynchronised."""
        self._end(RESTARTING, "log replaced", None)

    def _fall_behind(self) -> None:
        """Leaves the topic at once. What was missed comes as a snapshot, when what is queued has drained."""
        FELL_BEHIND.inc()
        subscription = self._subscription
        if subscription is None or not self._resyncs.spend(self._loop.time()):
            self._end(OVERLOADED, "too slow", None)
        else:
            self._start_over(subscription, "too-slow")

    def _start_over(self, subscription: Subscription, reason: str) -> None:
        self.start(replace(subscription, after=None, snapshot=True, resync_reason=reason))

    async def _feed(self) -> None:
        """Brings the newest subscription to the hub's position and joins it there."""
        try:
            while not await self._bring_up():
                pass  # the client subscribed anew meanwhile
        except TimeoutError:
            self._end(OVERLOADED, "too slow", None)
        except OSError:
            pass  # the connection was lost: `run` ends, too
        except LogReplaced:
            self.log_replaced()
        except HubLagging as error:
            log.warning("client sent away: %s", error)
            self._end(OVERLOADED, "not ready", None)
        except DatabaseUnavailable as error:
            log.warning("client sent away: %s", error)
            problem = Problem("database-unavailable", "Connect again a little later.")
            self._end(OVERLOADED, "database unavailable", problem)

    async def _bring_up(self) -> bool:
        parts = self._parts
        await self._drained()  # a position taken before that would be old by now
        subscription = self._subscription
        if subscription is None:
            return True  # the connection ended meanwhile
        if not parts.is_live():
            raise DatabaseUnavailable("nothing new arrives")  # the past may be in memory, and would look live
        catch_up = CatchUp(subscription, parts.hub, parts.log, parts.pages, parts.workflow)
        async with aclosing(catch_up.messages()) as messages:
            async for message in messages:
                self._connection.send_now(message)
                await self._drained()
                if self._subscription is not subscription:
                    return False
            if self._subscription is not subscription:
                return False
            # Nothing was awaited since the last message was made, so hub and client are at one position.
            self._topic = parts.hub.join(self, subscription.audience)
            self._connection.send_now(live_message(parts.hub.cursor))
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
            self._end(1011, "internal error", Problem("internal-error", "The fault is logged."))
