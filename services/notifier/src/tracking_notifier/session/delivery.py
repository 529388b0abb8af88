"""Brings one connection to the position of the hub, by missed events or a snapshot, and joins it to the hub.

The hub writes live events to the connection itself; a delivery is in between only while it is paused.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace

from tracking_notifier.errors import HubLagging, LogReplaced, PositionExpired
from tracking_notifier.hub import Sink, SubscriberGroup
from tracking_notifier.metrics import FELL_BEHIND
from tracking_notifier.session.admission import RESYNCS_AT_ONCE, RESYNCS_PER_SECOND
from tracking_notifier.session.catchup import CatchUp, Subscription
from tracking_notifier.session.client_connection import StreamConnection
from tracking_notifier.session.session_context import SessionContext
from tracking_notifier.session.session_log import SessionRecord
from tracking_notifier.stream.filters import Audience
from tracking_notifier.stream.stream_messages import (
    OVERLOADED,
    RESTARTING,
    ResyncReason,
    events_message,
    live_message,
)
from tracking_shared.contracts.access import Grant
from tracking_shared.contracts.problems import Problem
from tracking_shared.policy.limits import TokenBucket
from tracking_shared.storage.database import DatabaseUnavailable

log = logging.getLogger(__name__)

BeginClose = Callable[[int, str, Problem | None], None]
"""Begins to close the connection and stops the delivery: close code, reason, problem."""


class SubscriptionDelivery:
    """Delivers the newest subscription of a connection. It either catches up, or is live in a group."""

    __slots__ = (
        "_begin_close",
        "_catching_up",
        "_connection",
        "_context",
        "_group",
        "_live_from",
        "_loop",
        "_record",
        "_resyncs",
        "_subscription",
    )

    def __init__(
        self,
        connection: StreamConnection,
        context: SessionContext,
        record: SessionRecord,
        begin_close: BeginClose,
    ) -> None:
        self._connection = connection
        self._context = context
        self._record = record
        self._begin_close = begin_close
        self._loop = connection.loop
        self._resyncs = TokenBucket(RESYNCS_AT_ONCE, RESYNCS_PER_SECOND, self._loop.time())
        self._subscription: Subscription | None = None
        self._group: SubscriberGroup | None = None
        self._live_from = 0
        """The `events_sent` of the group when the connection joined it."""
        self._catching_up: asyncio.Task[None] | None = None
        connection.listener = self

    def start(self, subscription: Subscription) -> None:
        """Replaces the subscription."""
        self.stop()
        if not self._connection.is_open:
            return  # the client closed right after its subscribe
        self._subscription = subscription
        self._record.end = None
        if self._catching_up is None or self._catching_up.done():
            self._catching_up = self._loop.create_task(self._catch_up())
            self._catching_up.add_done_callback(self._on_catch_up_done)

    def change_grant(self, grant: Grant) -> None:
        """Restarts the subscription if the grant of the new token differs."""
        subscription = self._subscription
        if subscription is not None and grant != subscription.audience.grant:
            audience = Audience(grant, subscription.audience.filter)
            self._resync(replace(subscription, audience=audience), "entitlement-changed")

    def stop(self) -> None:
        """Ends the subscription, live or catching up."""
        self._subscription = None
        if self._group is not None:
            self._record.counts.events += self._group.events_sent - self._live_from
            self._record.end = self._context.hub.position
            self._context.hub.unsubscribe(self, self._group)
            self._group = None

    def release(self) -> None:
        """Ends the subscription of a connection that is closed."""
        self.stop()
        self._connection.listener = None

    @property
    def sink(self) -> Sink:
        """The writer of live frames: the transport itself, or this object while the transport is paused."""
        return self if self._connection.paused else self._connection.transport

    def write(self, frame: bytes, /) -> None:
        """Sends a live frame to a paused connection. Beyond the limit of the send buffer it falls behind."""
        transport = self._connection.transport
        if transport.get_write_buffer_size() > self._context.queue_bytes:
            self._fall_behind()
        else:
            transport.write(frame)

    def on_close(self) -> None:
        """Ends the subscription: live frames are sent without a check whether the connection is open."""
        self.stop()

    def on_flow_change(self) -> None:
        """Changes the sink of live frames."""
        if self._group is not None:
            self._group.add(self)

    def send_heartbeat(self) -> None:
        """Sends the position to a live client that asked for heartbeats."""
        if self._group is not None and self._subscription is not None and self._subscription.heartbeat:
            self.write(self._connection.framing(events_message([], self._context.hub.cursor)))

    def on_log_replaced(self) -> None:
        """Closes the connection. The client reconnects with a cursor of the old log and is resynchronised."""
        self._begin_close(RESTARTING, "log replaced", None)

    def _fall_behind(self) -> None:
        """Leaves the group at once. A snapshot follows after the send buffer has drained."""
        FELL_BEHIND.inc()
        subscription = self._subscription
        if subscription is None or not self._resyncs.take(self._loop.time()).allowed:
            self._begin_close(OVERLOADED, "too slow", None)
        else:
            self._resync(subscription, "too-slow")

    def _resync(self, subscription: Subscription, reason: ResyncReason) -> None:
        self.start(replace(subscription, after=None, snapshot=True, resync_reason=reason))

    async def _catch_up(self) -> None:
        """Brings the newest subscription to the hub's position and makes it live."""
        try:
            while not await self._catch_up_newest():
                pass  # the client has replaced the subscription meanwhile
        except TimeoutError:
            FELL_BEHIND.inc()
            self._begin_close(OVERLOADED, "too slow", None)
        except OSError:
            pass  # the connection was lost, and the session ends by itself
        except LogReplaced:
            self.on_log_replaced()
        except (HubLagging, PositionExpired) as error:
            log.warning("connection closed: %s", error)
            self._begin_close(OVERLOADED, "not ready", None)
        except DatabaseUnavailable as error:
            log.warning("connection closed: %s", error)
            problem = Problem("database-unavailable", "Connect again a little later.")
            self._begin_close(OVERLOADED, "database unavailable", problem)

    async def _catch_up_newest(self) -> bool:
        """Returns False if the subscription was replaced before it was live."""
        context = self._context
        await self._drain()  # a position taken before would be old by now
        subscription = self._subscription
        if subscription is None:
            return True  # the connection has ended meanwhile
        if not context.is_live():
            # Recent events may be in memory, and the client would take old data for live data.
            raise DatabaseUnavailable("no new events arrive")
        catch_up = CatchUp(
            subscription, context.hub, context.log, context.pages, context.workflow, self._record.counts
        )
        async with aclosing(catch_up.messages()) as messages:
            async for message in messages:
                self._connection.send_now(message)
                await self._drain()
                if self._subscription is not subscription:
                    return False
            if self._subscription is not subscription:
                return False
            # Nothing was awaited since the last message was made, so hub and client are at the same position.
            self._group = context.hub.subscribe(self, subscription.audience, self._connection.framing)
            self._live_from = self._group.events_sent
            self._connection.send_now(live_message(context.hub.cursor))
        return True

    async def _drain(self) -> None:
        """Waits while the connection is paused. Raises `TimeoutError` after `drain_seconds`."""
        if self._connection.paused:
            async with asyncio.timeout(self._context.drain_seconds):
                await self._connection.drain()

    def _on_catch_up_done(self, task: asyncio.Task[None]) -> None:
        if self._catching_up is task:
            self._catching_up = None
        if not task.cancelled() and (fault := task.exception()) is not None:
            log.error("catching up failed", exc_info=fault)
            self._begin_close(1011, "internal error", Problem("internal-error", "The fault is logged."))
