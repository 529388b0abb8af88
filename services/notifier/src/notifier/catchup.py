"""Brings one client from where it stands to the hub's position: snapshot, missed events, then nothing
is left and it can join the hub. No connection in here: it yields messages, and the reader decides the pace.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import orjson

from notifier.events import Event
from notifier.filters import Audience, wanted_among
from notifier.hub import Hub
from notifier.log import PAGE_EVENTS, EventLog
from notifier.metrics import REPLAYED, SNAPSHOT_ORDERS
from notifier.pages import Pages
from notifier.positions import behind, reached, unjoinable_because
from notifier.protocol import MAX_MESSAGE_BYTES, events_message, resync_message, snapshot_message
from shared.cursors import Position
from shared.documents import OrderDocument
from shared.views import order_view
from shared.workflow import Workflow

MAX_LAG_SECONDS = 15
"""How long the hub may be behind what a client has seen: longer than a reconnect to the broker takes."""


class HubLagging(Exception):
    """The hub did not reach the client's position in time, or has none yet."""


class LogReplaced(Exception):
    """The log was replaced by another one meanwhile."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a client asked for: whose events, and from where."""

    audience: Audience
    after: Position | None
    snapshot: bool
    resync_reason: str | None = None
    """If set, the client is told to drop its state and gets a snapshot."""
    heartbeat: bool = False
    """Whether the client wants to hear from us while nothing happens."""


@dataclass(slots=True)
class CatchUp:
    """The past of one subscription. `messages` is to be used once."""

    subscription: Subscription
    hub: Hub
    log: EventLog
    pages: Pages
    workflow: Workflow
    _position: list[int] = field(default_factory=list)
    _seen: dict[str, int] = field(default_factory=dict)
    _target: tuple[int, ...] = ()
    _generation: int = 0

    async def messages(self) -> AsyncGenerator[bytes, None]:
        """Everything before `live`. At the end the client stands exactly at the hub's position, and
        that holds until the caller waits for something.

        Raises:
            HubLagging, LogReplaced: there is nothing to join now; the client should come back.
            DatabaseUnavailable: the past cannot be read now.
        """
        if not self.hub.started:
            raise HubLagging("the log's position is not known yet")
        # The position comes first, then the data: what happens in between is repeated, not lost.
        self._generation = self.hub.generation
        start = self.hub.head
        reason = await self._unjoinable() or self.subscription.resync_reason
        if reason is not None:
            yield resync_message(reason, self.hub.cursor_of(start.seqs))
        if self.subscription.after is None or self.subscription.snapshot or reason:
            self._position = list(start.seqs)
        else:
            self._position = list(self.subscription.after.seqs)
        self._target = tuple(self._position)
        if self.subscription.snapshot or reason:
            async for message in self._snapshot():
                yield message
        async for message in self._tail():
            yield message

    async def _unjoinable(self) -> str | None:
        after = self.subscription.after
        if after is None or self.subscription.snapshot:
            return None
        # Usually the client is behind this replica, and the database need not be asked.
        if unjoinable_because(after, self.hub.head) is None:
            return None
        heads = self._of_this_log(await self.log.heads_to_join(after))
        return unjoinable_because(after, heads)

    async def _snapshot(self) -> AsyncGenerator[bytes, None]:
        # The hub's position is the broker's news; orders from before it would never be made good.
        await self.log.reach(self.hub.head)
        parts: list[bytes] = []
        size = 0
        async for page in self.log.orders(self.subscription.audience):
            for order in page:
                parts.append(self._shown(order))
                size += len(parts[-1])
                if size >= MAX_MESSAGE_BYTES:
                    yield snapshot_message(parts, more=True)
                    parts, size = [], 0
        yield snapshot_message(parts, more=False)
        # What was read may be ahead of the hub. Up to here events may repeat what the snapshot holds.
        self._target = self._of_this_log(await self.log.heads()).seqs

    def _shown(self, order: OrderDocument) -> bytes:
        self._seen[order["_id"]] = max(order["version"], self._seen.get(order["_id"], 0))
        SNAPSHOT_ORDERS.inc()
        with_customer = self.subscription.audience.with_customer
        return orjson.dumps(order_view(order, self.workflow, with_customer=with_customer))

    async def _tail(self) -> AsyncGenerator[bytes, None]:
        while True:
            self._check_generation()
            rest = behind(self._position, self.hub.position)
            if rest:
                async for message in self._missed(rest):
                    yield message
                await asyncio.sleep(0)  # a long past that is all in memory must not hold up the others
            elif reached(self.hub.position, self._target):
                return
            else:
                await self._wait_for_hub()

    async def _missed(self, partitions: list[int]) -> AsyncGenerator[bytes, None]:
        """One page of each of these partitions, in as few messages as their size allows."""
        parts: list[bytes] = []
        size = 0
        for partition in partitions:
            page = await self._page(partition)
            for event in self._wanted(page):
                self._position[partition] = event.seq
                parts.append(event.encoded(with_customer=self.subscription.audience.with_customer))
                size += len(parts[-1])
                if size >= MAX_MESSAGE_BYTES:
                    yield self._events(parts)
                    parts, size = [], 0
            self._position[partition] = page[-1].seq
        if parts:
            yield self._events(parts)

    async def _page(self, partition: int) -> list[Event]:
        after = self._position[partition]
        held = self.hub.window.after(partition, after, PAGE_EVENTS)
        if held is not None:
            return held
        events = await self.pages.after(self._generation, partition, after, self.hub.position[partition])
        self._check_generation()
        return events

    def _wanted(self, page: list[Event]) -> list[Event]:
        wanted = wanted_among(page, self.subscription.audience)
        if not self._seen:
            return wanted
        return [event for event in wanted if event.version > self._seen.get(event.order_id, 0)]

    def _events(self, parts: list[bytes]) -> bytes:
        REPLAYED.inc(len(parts))
        return events_message(parts, self.hub.cursor_of(self._position))

    def _of_this_log(self, heads: Position) -> Position:
        if heads.epoch != self.hub.head.epoch:
            raise LogReplaced("the log was replaced, and the hub will notice in a moment")
        return heads

    def _check_generation(self) -> None:
        if self.hub.generation != self._generation:
            raise LogReplaced("the log was replaced while a client caught up")

    async def _wait_for_hub(self) -> None:
        try:
            async with asyncio.timeout(MAX_LAG_SECONDS):
                await self.hub.progress()
        except TimeoutError:
            raise HubLagging(f"no event within {MAX_LAG_SECONDS} s though the log has more") from None
