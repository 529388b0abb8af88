"""Old snapshot + events = fresh snapshot, for every filter, token, moment of subscription and disconnect.

The log, the orders and the hub move on between any two steps of a client that catches up.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from notifier_samples import STATUSES, History, audiences, changes

from notifier.catchup import CatchUp, HubLagging, LogReplaced, Subscription
from notifier.events import Event, event_of
from notifier.filters import Audience, Filter
from notifier.hub import Hub
from notifier.log import EventLog
from notifier.pages import Pages
from notifier.protocol import live_message
from shared.access import Grant
from shared.cursors import Position, decode_cursor
from shared.documents import OrderDocument
from shared.workflow import DEFAULT_WORKFLOW

EPOCH = "abc"
EVERYTHING = Audience(Grant(merchants=frozenset("*")), Filter())


class LogInMemory:
    """The log of a history, read as slowly as a database is: others act before every answer."""

    def __init__(self, history: History, page_size: int = 3) -> None:
        self.history = history
        self.page_size = page_size
        self.epoch = EPOCH
        self.pages_read = 0

    async def heads(self) -> Position:
        await asyncio.sleep(0)
        heads = Position(self.epoch, self.history.seqs)
        await asyncio.sleep(0)
        return heads

    async def page(self, partition: int, after: int, through: int) -> list[Event]:
        await asyncio.sleep(0)
        self.pages_read += 1
        last = min(through, after + self.page_size)
        assert last == through or last % self.page_size == 0, "pages that nobody shares"
        return [event_of(event, DEFAULT_WORKFLOW) for event in self.history.log[partition][after:last]]

    async def orders(self, audience: Audience) -> AsyncIterator[list[OrderDocument]]:
        for order_id in sorted(self.history.orders):
            await asyncio.sleep(0)
            order = self.history.orders[order_id]
            yield [order] if audience.shows(order) else []


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
        self.pages = Pages(log, page_events=self.log.page_size, limit_bytes=self.pages_bytes)

    def catch_up(self, subscription: Subscription) -> AsyncGenerator[bytes, None]:
        """What a client with this subscription is given before it is live."""
        log = cast(EventLog, self.log)
        return CatchUp(subscription, self.hub, log, self.pages, DEFAULT_WORKFLOW).messages()

    def take(self, partition: int) -> None:
        """The hub gets the next event, if there is one."""
        documents = self.history.log[partition][self.taken[partition] :][:1]
        self.taken[partition] += len(documents)
        self.hub.publish([event_of(document, DEFAULT_WORKFLOW) for document in documents])
        self.hub.flush()

    async def live_through(self, script: list[tuple[str, str] | int | None]) -> None:
        """One step each time the others wait: a change, the hub's next event of a partition, or nothing."""
        for step in script:
            if isinstance(step, tuple):
                self.history.apply(*step)
            elif step is not None:
                self.take(step)
            await asyncio.sleep(0)
        while tuple(self.taken) != self.history.seqs:
            self.take(0)
            self.take(1)
            await asyncio.sleep(0)


def new_world(window_bytes: int = 1024 * 1024, pages_bytes: int = 1024 * 1024) -> World:
    history = History()
    hub = Hub(2, window_bytes)
    hub.start(Position(EPOCH, (0, 0)))
    return World(history, hub, LogInMemory(history), pages_bytes)


class Client:
    """Holds the orders that a client of the protocol holds, and checks what it is given."""

    def __init__(self, world: World, audience: Audience) -> None:
        self.world = world
        self.audience = audience
        self.versions: dict[str, int] = {}
        self.cursor: str | None = None
        self.got: set[str] = set()
        self.overlaps = False  # a connection ended before what its snapshot overlaps with was through
        self.types: list[str] = []

    async def connect(self, *, until_message: int | None, live_steps: int) -> None:
        """Catches up, is live for some steps, goes. It may also go before it is live."""
        after = None if self.cursor is None else decode_cursor(self.cursor)
        subscription = Subscription(self.audience, after, snapshot=after is None)
        if after is None:
            self.versions, self.overlaps = {}, False
        async with aclosing(self.world.catch_up(subscription)) as messages:
            count = 0
            async for message in messages:
                self.take(message)
                await asyncio.sleep(0)
                count += 1
                if count == until_message:
                    self.overlaps = True
                    return
            self.overlaps = False
            topic = self.world.hub.join(self, self.audience)
            self.take(live_message(self.world.hub.cursor))
        for _ in range(live_steps):
            await asyncio.sleep(0)
        self.world.hub.leave(self, topic)

    def push(self, frame: bytes) -> None:
        self.take(frame[frame.index(b'{"type"') :])

    def log_replaced(self) -> None:
        raise AssertionError("nobody replaces the log here")

    def take(self, encoded: bytes) -> None:
        message = orjson.loads(encoded)
        self.types.append(message["type"])
        for order in message.get("orders", ()):
            self.versions[order["order_id"]] = order["version"]
        for event in message.get("events", ()):
            self.take_event(event)
        self.cursor = message.get("cursor", self.cursor)

    def take_event(self, event: dict[str, Any]) -> None:
        assert event["id"] not in self.got, f"{event['id']} came twice"
        self.got.add(event["id"])
        data = event["data"]
        assert ("customer" in data) == self.audience.with_customer
        known = self.versions.get(data["order_id"])
        if known is not None and data["version"] <= known:
            assert self.overlaps, f"{event['id']} after a snapshot with version {known}"
            return
        assert known is None or data["version"] == known + 1, f"a hole before {event['id']}"
        if self.audience.filter.matches_state(data["status"], active=data["active"]):
            self.versions[data["order_id"]] = data["version"]
        else:
            self.versions.pop(data["order_id"], None)


def fresh_snapshot(history: History, audience: Audience) -> dict[str, int]:
    return {name: order["version"] for name, order in history.orders.items() if audience.shows(order)}


steps = st.lists(changes | st.integers(0, 1) | st.none(), max_size=80)
stays = st.lists(st.tuples(st.none() | st.integers(1, 4), st.integers(0, 15)), max_size=5)


@settings(max_examples=300, deadline=None)
@given(
    script=steps,
    clients=st.lists(st.tuples(audiences, st.integers(0, 30), stays), min_size=1, max_size=4),
    window_bytes=st.sampled_from([0, 6_000, 1024 * 1024]),
    pages_bytes=st.sampled_from([0, 6_000, 1024 * 1024]),
)
def test_old_snapshot_and_events_are_the_fresh_snapshot(
    script: list[tuple[str, str] | int | None],
    clients: list[tuple[Audience, int, list[tuple[int | None, int]]]],
    window_bytes: int,
    pages_bytes: int,
) -> None:
    async def live() -> None:
        world = new_world(window_bytes, pages_bytes)
        moving = asyncio.create_task(world.live_through(script))

        async def visit(client: Client, delay: int, stays: list[tuple[int | None, int]]) -> None:
            for _ in range(delay):
                await asyncio.sleep(0)
            for until_message, live_steps in stays:
                await client.connect(until_message=until_message, live_steps=live_steps)
            await moving
            await client.connect(until_message=None, live_steps=0)

        visitors = [(Client(world, audience), delay, stays) for audience, delay, stays in clients]
        await asyncio.gather(*(visit(*visitor) for visitor in visitors))
        for client, _, _ in visitors:
            assert client.versions == fresh_snapshot(world.history, client.audience)
            assert client.types[-1] == "live"

    asyncio.run(live())


async def messages_of(world: World, subscription: Subscription) -> list[dict[str, Any]]:
    return [orjson.loads(message) async for message in world.catch_up(subscription)]


def grown_world(events: int, window_bytes: int = 1024 * 1024) -> World:
    world = new_world(window_bytes)
    for number in range(events):
        world.history.apply("o-1", STATUSES[number % 3])
    for _ in range(events):
        world.take(0)
        world.take(1)
    return world


async def test_a_recent_cursor_does_not_touch_the_log() -> None:
    world = grown_world(20)
    subscription = Subscription(EVERYTHING, Position(EPOCH, (0, 0)), snapshot=False)
    [message] = await messages_of(world, subscription)
    assert [event["id"] for event in message["events"]] == [f"o-1:{version}" for version in range(1, 21)]
    assert world.log.pages_read == 0


async def test_an_old_cursor_reads_the_log_page_by_page() -> None:
    world = grown_world(20, window_bytes=0)
    subscription = Subscription(EVERYTHING, Position(EPOCH, (0, 0)), snapshot=False)
    messages = await messages_of(world, subscription)
    found = [event["id"] for message in messages for event in message["events"]]
    assert found == [f"o-1:{version}" for version in range(1, 21)]
    assert world.log.pages_read == 7


async def test_clients_that_come_back_together_read_each_page_once() -> None:
    world = grown_world(20, window_bytes=0)
    subscriptions = [
        Subscription(
            EVERYTHING, Position(EPOCH, tuple(min(after, head) for head in world.history.seqs)), False
        )
        for after in (0, 1, 2, 7, 11, 19)
    ]
    received = await asyncio.gather(*(messages_of(world, subscription) for subscription in subscriptions))
    counts = [sum(len(message["events"]) for message in messages) for messages in received]
    assert counts == [20, 19, 18, 13, 9, 1]
    assert world.log.pages_read == 7


@pytest.mark.parametrize(
    ("after", "reason"),
    [(Position("xyz", (0, 0)), "epoch-changed"), (Position(EPOCH, (900, 900)), "position-unknown")],
)
async def test_a_cursor_that_cannot_be_joined_is_resynchronised(after: Position, reason: str) -> None:
    world = grown_world(4)
    resync, snapshot = await messages_of(world, Subscription(EVERYTHING, after, snapshot=False))
    assert (resync["type"], resync["reason"]) == ("resync", reason)
    assert decode_cursor(resync["cursor"]) == Position(EPOCH, world.history.seqs)
    assert snapshot["type"] == "snapshot"


async def test_a_cursor_ahead_of_the_hub_waits_for_it() -> None:
    world = grown_world(4)
    world.history.apply("o-1", "created")
    ahead = Position(EPOCH, world.history.seqs)
    catching_up = asyncio.create_task(messages_of(world, Subscription(EVERYTHING, ahead, snapshot=False)))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not catching_up.done()
    world.take(0)
    world.take(1)
    assert await catching_up == []


async def test_a_hub_without_a_position_sends_clients_away() -> None:
    world = World(History(), Hub(2, 0), LogInMemory(History()))
    with pytest.raises(HubLagging):
        await messages_of(world, Subscription(EVERYTHING, None, snapshot=True))


async def test_a_log_replaced_on_the_way_sends_clients_away() -> None:
    world = grown_world(4)
    world.log.epoch = "xyz"
    with pytest.raises(LogReplaced):
        await messages_of(world, Subscription(EVERYTHING, None, snapshot=True))
    subscription = Subscription(EVERYTHING, Position(EPOCH, (0, 0)), snapshot=False)
    catch_up = world.catch_up(subscription)
    assert await anext(catch_up)
    world.hub.start(Position("xyz", (0, 0)))
    with pytest.raises(LogReplaced):
        await anext(catch_up)
