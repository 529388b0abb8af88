"""Old snapshot + events = fresh snapshot, for every filter, token, moment of subscription and disconnect.

Every connection brings exactly the events that its audience may see, by the test's own reading of the rules.
"""

import asyncio
from collections import Counter
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from notifier_samples import ORDERS, STATUSES, History
from notifier_world import (
    EPOCH,
    EVERYTHING,
    Begin,
    LogInMemory,
    Script,
    Visitor,
    World,
    bytes_of_events,
    followed,
    new_world,
    scripts,
)

from property_examples import max_examples
from tracking_notifier.errors import HubLagging, LogReplaced
from tracking_notifier.hub import Hub
from tracking_notifier.session.catchup import Subscription
from tracking_notifier.stream.filters import Audience, Filter
from tracking_notifier.stream.stream_messages import MAX_STREAM_MESSAGE_BYTES
from tracking_shared.contracts.cursors import Position, decode_cursor
from tracking_shared.contracts.documents import EventDocument
from tracking_shared.contracts.identifiers import partition_of
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

Seqs = tuple[int, ...]

begins: st.SearchStrategy[Begin] = st.sampled_from(["resume", "resume", "resume", "anew", "resync"])
stays = st.lists(st.tuples(st.none() | st.integers(1, 4), st.integers(0, 80), begins), min_size=1, max_size=6)
Stay = tuple[int | None, int, Begin]


def is_entitled(audience: Audience, order_id: str, merchant_id: str) -> bool:
    grant = audience.grant
    its_merchant = bool(grant.merchants & {"*", merchant_id})
    if grant.orders is None:
        return its_merchant
    return order_id in grant.orders and (its_merchant or not grant.merchants)


def is_meant(audience: Audience, event: EventDocument) -> bool:
    asked = audience.filter
    return (asked.order_ids is None or event["order_id"] in asked.order_ids) and (
        asked.merchant_ids is None or event["merchant_id"] in asked.merchant_ids
    )


def matches(audience: Audience, status: str | None, overdue: bool) -> bool:
    asked = audience.filter
    return (
        status is not None
        and (asked.statuses is None or status in asked.statuses)
        and asked.active in (None, DEFAULT_WORKFLOW.is_active(status))
        and asked.overdue in (None, overdue)
    )


def may_see(audience: Audience, event: EventDocument) -> bool:
    """Whether a client gets this event; the one that takes an order out of the filter is the last."""
    return (
        is_entitled(audience, event["order_id"], event["merchant_id"])
        and is_meant(audience, event)
        and (
            matches(audience, event["status"], event.get("overdue", False))
            or matches(audience, event["previous_status"], event.get("previous_overdue", False))
        )
    )


def orders_at(history: History, audience: Audience, position: Seqs) -> dict[str, int]:
    """The versions of the orders that match, as they stood at a position of the log."""
    newest: dict[str, EventDocument] = {}
    for log, seq in zip(history.log, position, strict=True):
        newest |= {event["order_id"]: event for event in log[:seq]}
    return {
        order_id: event["version"]
        for order_id, event in newest.items()
        if is_entitled(audience, order_id, event["merchant_id"])
        and is_meant(audience, event)
        and matches(audience, event["status"], event.get("overdue", False))
    }


def is_past(position: Seqs, other: Seqs) -> bool:
    return all(seq >= least for seq, least in zip(position, other, strict=True))


class Client(Visitor):
    """Holds the versions that a client of the protocol holds, and checks all that it is given."""

    def __init__(self, world: World, audience: Audience) -> None:
        super().__init__(world, audience)
        self.versions: dict[str, int] = {}
        self.got: set[str] = set()
        self.overlap: Seqs | None = None  # up to here events may be older than the snapshot
        self.types: list[str] = []
        self.counts: Counter[str] = Counter()
        self.live = False  # of this connection, as all of these
        self.end: Seqs = ()  # of what came so far
        self.shown: dict[str, int] = {}

    async def connect(
        self, *, until_message: int | None = None, live_steps: int = 0, begin: Begin = "resume"
    ) -> None:
        wanted = self.subscription(begin)
        resumed = wanted.after is not None and not wanted.snapshot
        self.end = wanted.after.seqs if wanted.after and resumed else self.world.hub.position.seqs
        self.live, self.shown = False, {}
        if not resumed:
            self.versions, self.overlap, self.cursor = {}, None, None
        await super().connect(until_message=until_message, live_steps=live_steps, begin=begin)
        if self.live:
            assert self.owed(self.world.hub.position.seqs) == [[], []], "the hub went on without it"
        self.check_orders()

    def owed(self, position: Seqs) -> list[list[str]]:
        """What must come up to a position, by partition: no event less, none more, in this order."""
        return [
            [
                f"{event['order_id']}:{event['version']}"
                for event in log[first:last]
                if may_see(self.audience, event) and event["version"] > self.shown.get(event["order_id"], 0)
            ]
            for log, first, last in zip(self.world.history.log, self.end, position, strict=True)
        ]

    def check_orders(self) -> None:
        """Past what the snapshot overlaps with, a client holds the state at its position."""
        if self.overlap is not None and is_past(self.end, self.overlap):
            assert self.versions == orders_at(self.world.history, self.audience, self.end)

    def take(self, encoded: bytes) -> None:
        message = orjson.loads(encoded)
        assert len(encoded) < MAX_STREAM_MESSAGE_BYTES + self.world.history.padding_bytes + 2048
        self.types.append(message["type"])
        self.counts[message["type"]] += 1
        match message["type"]:
            case "snapshot":
                self.take_page(message)
            case "events":
                self.move_to(message["cursor"], message["events"])
                for event in message["events"]:
                    self.take_event(event)
            case "live":
                self.live = True
                self.move_to(message["cursor"], [])
                assert not self.shown or self.overlap is None or is_past(self.end, self.overlap)
                self.check_orders()

    def take_page(self, page: dict[str, Any]) -> None:
        for order in page["orders"]:
            self.check_customer(order)
            self.versions[order["order_id"]] = self.shown[order["order_id"]] = order["version"]
        if not page["more"]:
            self.overlap = self.world.history.seqs

    def take_event(self, event: dict[str, Any]) -> None:
        assert event["id"] not in self.got, f"{event['id']} came twice"
        self.got.add(event["id"])
        self.counts["live events" if self.live else "events"] += 1
        self.check_customer(event["data"])
        data = event["data"]
        known = self.versions.get(data["order_id"])
        if known is not None and data["version"] <= known:
            # Only after a reconnect: what one connection showed, it does not tell again.
            assert data["order_id"] not in self.shown
            assert self.overlap is not None
            assert int(event["sequence"]) <= self.overlap[event["partition"]]
            self.counts["older than the snapshot"] += 1
            return
        assert known is None or data["version"] == known + 1, f"a hole before {event['id']}"
        if matches(self.audience, data["status"], data["overdue"]):
            self.versions[data["order_id"]] = data["version"]
        else:
            self.versions.pop(data["order_id"], None)

    def check_customer(self, document: dict[str, Any]) -> None:
        grant = self.audience.grant
        assert ("customer" in document) == (bool(grant.merchants) and grant.orders is None)

    def move_to(self, cursor: str, events: list[dict[str, Any]]) -> None:
        position = decode_cursor(cursor)
        assert position.epoch == EPOCH
        assert is_past(position.seqs, self.end), "a cursor that goes back"
        came: list[list[str]] = [[], []]
        for event in events:
            came[event["partition"]].append(event["id"])
        assert came == self.owed(position.seqs)
        self.cursor, self.end = cursor, position.seqs


@pytest.mark.hypothesis  # which marks only a test that is a property itself
def test_old_snapshot_and_events_are_the_fresh_snapshot() -> None:
    counts: Counter[str] = Counter()

    @max_examples(80)
    @given(
        script=scripts,
        visits=st.lists(st.tuples(followed, st.integers(0, 60), stays), min_size=2, max_size=4),
        window_events=st.sampled_from([0, 8, 1000]),
        pages_events=st.sampled_from([0, 8, 1000]),
        padding_bytes=st.sampled_from([0, 0, 0, MAX_STREAM_MESSAGE_BYTES // 4]),
    )
    def holds(
        script: Script,
        visits: list[tuple[Audience, int, list[Stay]]],
        window_events: int,
        pages_events: int,
        padding_bytes: int,
    ) -> None:
        world = new_world(
            bytes_of_events(window_events, padding_bytes),
            bytes_of_events(pages_events, padding_bytes),
            padding_bytes,
        )
        for client in asyncio.run(visited(world, script, visits)):
            fresh = orders_at(world.history, client.audience, world.history.seqs)
            assert client.versions == fresh
            assert client.types[-1] == "live"
            counts.update(client.counts, clients=1, orders=len(fresh))

    holds()
    # A property that nothing comes to shows nothing.
    clients = counts["clients"]
    assert counts["events"] > 3 * clients
    assert counts["live events"] > clients
    assert counts["orders"] > clients / 2
    assert counts["resync"] > clients / 5


async def visited(
    world: World, script: Script, visits: list[tuple[Audience, int, list[Stay]]]
) -> list[Client]:
    """Lives through the script while clients come and go; in the end each comes back once more."""
    moving = asyncio.create_task(world.live_through(script))

    async def visit(client: Client, delay: int, stays: list[Stay]) -> Client:
        for _ in range(delay):
            await asyncio.sleep(0)
        for until_message, live_steps, begin in stays:
            await client.connect(until_message=until_message, live_steps=live_steps, begin=begin)
        await moving
        await client.connect()
        return client

    async with asyncio.timeout(30):  # a reader that stands still would turn for ever
        return await asyncio.gather(
            *(visit(Client(world, audience), delay, stays) for audience, delay, stays in visits)
        )


async def messages_of(world: World, subscription: Subscription) -> list[dict[str, Any]]:
    return [orjson.loads(message.body) async for message in world.catch_up(subscription)]


def grown_world(events: int, window_bytes: int = 1024 * 1024) -> World:
    world = new_world(window_bytes)
    for number in range(events):
        world.history.apply("o-1", STATUSES[number % 3])
    for _ in range(events):
        world.take(0)
        world.take(1)
    return world


async def pause() -> None:
    """Lets a client do what it can without anything new."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_client_cut_off_within_the_overlap_is_told_what_its_snapshot_knew() -> None:
    world = new_world()
    gone, kept = "o-0", next(name for name in ORDERS[1:] if partition_of(name, 2) == partition_of("o-0", 2))
    for change in ((gone, "created"), (gone, "delivered"), (kept, "created"), (kept, "picked_up")):
        world.history.apply(*change)
    partition = partition_of(gone, 2)
    client = Client(world, Audience(EVERYTHING.grant, Filter(active=True)))
    first = asyncio.create_task(client.connect(until_message=2))
    await pause()
    assert client.types == ["snapshot"]
    world.take(partition, partition)
    await first
    assert (client.types, client.versions) == (["snapshot", "events"], {kept: 2})
    second = asyncio.create_task(client.connect(live_steps=50))
    await pause()
    world.take(partition, partition)
    await second
    assert client.types[2:] == ["live", "events"]
    assert (client.counts["older than the snapshot"], client.versions) == (2, {kept: 2})


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
    await pause()
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
