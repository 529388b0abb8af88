"""A log that grows, a hub that follows it late, and visitors that catch up with it: a world for properties.

The log, the orders and the hub move on between any two steps of a visitor.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Literal, cast

from hypothesis import strategies as st
from notifier_samples import History, audiences, changes, filters, is_found

from tracking_notifier.hub import Hub
from tracking_notifier.log.event_log import EventLog
from tracking_notifier.log.shared_pages import SharedPages
from tracking_notifier.session.catchup import CatchUp, Subscription
from tracking_notifier.stream.events import Event, event_of
from tracking_notifier.stream.filters import Audience, Filter, snapshot_query
from tracking_notifier.stream.stream_messages import ServerMessage, live_message
from tracking_shared.contracts.access import Grant
from tracking_shared.contracts.cursors import Position, decode_cursor
from tracking_shared.contracts.documents import OrderDocument
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

EPOCH = "abc"
EVERYTHING = Audience(Grant(merchants=frozenset("*")), Filter())

Arrival = list[int]
"""The partitions of the next events that reach the hub together; it sends them with one flush."""

Script = list[tuple[str, str] | Arrival]
"""What happens, one after the other: changes of orders, and arrivals at the hub, some of nothing."""

Begin = Literal["resume", "anew", "resync"]

# Long ones, a hub that falls behind, and tokens of which half reach everything: else little is shown.
arrivals = st.lists(st.integers(0, 1), max_size=2) | st.lists(st.integers(0, 1), max_size=10)
scripts: st.SearchStrategy[Script] = st.lists(
    changes | changes | changes | arrivals, min_size=60, max_size=200
)
followed = audiences | filters.map(lambda wanted: replace(EVERYTHING, filter=wanted))


class LogInMemory:
    """The log of a history, read as slowly as a database is: others act before every answer."""

    def __init__(self, history: History, page_size: int = 3) -> None:
        self.history = history
        self.page_size = page_size
        self.epoch = EPOCH
        self.pages_read = 0
        self.start: Position | None = None

    async def read_end(self) -> Position:
        await asyncio.sleep(0)
        heads = Position(self.epoch, self.history.seqs)
        await asyncio.sleep(0)
        return heads

    async def read_end_to_resume(self, position: Position) -> Position:
        return await self.read_end()

    async def advance_to(self, position: Position) -> None:
        await asyncio.sleep(0)

    async def read_page(self, partition: int, after: int, last: int) -> list[Event]:
        await asyncio.sleep(0)
        self.pages_read += 1
        end = min(last, after + self.page_size)
        assert end == last or end % self.page_size == 0, "pages that nobody shares"
        return [event_of(event, DEFAULT_WORKFLOW) for event in self.history.log[partition][after:end]]

    async def read_snapshot(self, audience: Audience) -> AsyncIterator[list[OrderDocument]]:
        query = snapshot_query(audience)
        for order_id in sorted(self.history.orders):
            await asyncio.sleep(0)
            order = self.history.orders[order_id]
            yield [order] if is_found(query, order) and audience.includes(order) else []


@dataclass
class World:
    """A log that grows, and a hub that follows it."""

    history: History
    hub: Hub
    log: LogInMemory
    pages_bytes: int = 1024 * 1024
    taken: list[int] = field(default_factory=lambda: [0, 0])

    def __post_init__(self) -> None:
        log = cast(EventLog, self.log)
        self.pages = SharedPages(log, page_events=self.log.page_size, limit_bytes=self.pages_bytes)

    def catch_up(self, subscription: Subscription) -> AsyncGenerator[ServerMessage, None]:
        """What a client with this subscription is given before it is live."""
        log = cast(EventLog, self.log)
        return CatchUp(subscription, self.hub, log, self.pages, DEFAULT_WORKFLOW).messages()

    def take(self, *partitions: int) -> None:
        """The hub gets the next event of each partition that is named, as far as there is one."""
        for partition in partitions:
            documents = self.history.log[partition][self.taken[partition] :][:1]
            self.taken[partition] += len(documents)
            self.hub.publish([event_of(document, DEFAULT_WORKFLOW) for document in documents])
        self.hub.flush()

    async def live_through(self, script: Script) -> None:
        """One step each time the others wait. In the end the hub has everything."""
        for step in script:
            if isinstance(step, tuple):
                self.history.apply(*step)
            else:
                self.take(*step)
            await asyncio.sleep(0)
        while tuple(self.taken) != self.history.seqs:
            self.take(0, 1)
            await asyncio.sleep(0)


def new_world(
    window_bytes: int = 1024 * 1024, pages_bytes: int = 1024 * 1024, padding_bytes: int = 0
) -> World:
    """A world in which nothing has happened yet. Its orders carry so much padding."""
    history = History(padding_bytes=padding_bytes)
    hub = Hub(2, window_bytes)
    hub.start(Position(EPOCH, (0, 0)))
    return World(history, hub, LogInMemory(history), pages_bytes)


def bytes_of_events(number: int, padding_bytes: int) -> int:
    """How much memory so many events take, roughly."""
    return number * History(padding_bytes=padding_bytes).apply("o-0", "picked_up").memory_bytes


class Visitor:
    """A connection that comes and goes. What it makes of the messages, `take` of its kind says."""

    def __init__(self, world: World, audience: Audience) -> None:
        self.world = world
        self.audience = audience
        self.cursor: str | None = None

    def take(self, encoded: bytes) -> None:
        """One message of the server."""
        raise NotImplementedError

    async def connect(
        self, *, until_message: int | None = None, live_steps: int = 0, begin: Begin = "resume"
    ) -> None:
        """Catches up, is live for some steps, goes. It may also go before it is live."""
        async with aclosing(self.world.catch_up(self.subscription(begin))) as messages:
            count = 0
            async for message in messages:
                self.take(message.body)
                await asyncio.sleep(0)
                count += 1
                if count == until_message:
                    return
            group = self.world.hub.subscribe(self, self.audience)
            self.take(live_message(self.world.hub.cursor).body)
        for _ in range(live_steps):
            await asyncio.sleep(0)
        self.world.hub.unsubscribe(self, group)

    def subscription(self, begin: Begin) -> Subscription:
        """From the cursor if there is one; with a snapshot all the same; or as one who fell behind."""
        after = None if self.cursor is None else decode_cursor(self.cursor)
        if begin == "resync":
            return Subscription(self.audience, None, snapshot=True, resync_reason="too-slow")
        return Subscription(self.audience, after, snapshot=after is None or begin == "anew")

    @property
    def sink(self) -> "Visitor":
        return self

    def write(self, frame: bytes, /) -> None:
        self.take(frame[frame.index(b'{"type"') :])

    def on_log_replaced(self) -> None:
        raise AssertionError("nobody replaces the log here")
