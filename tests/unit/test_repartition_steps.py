"""The steps of a change of the number of partitions, each compared with what it follows; and whatever is
killed, late or repeated meanwhile: what was accepted is decided once, in its order, in one partition.
"""

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from repartition_world import Client, Ingest, Replies, WorkerConnection, World, running
from virtual_time import simulate

from property_examples import max_examples
from tracking_order_state.adapters.repartition_store import PAGE_HOMES, SETTINGS_ID, RepartitionStore
from tracking_order_state.errors import LayoutChanged
from tracking_order_state.processing.repartition import AGAIN_SECONDS, LONG_QUEUES_SECONDS, Repartition
from tracking_shared.contracts.layout import SETTLE_SECONDS, Layout, Routing, Switch
from tracking_shared.messaging.errors import BrokerBlocked


async def changed_twice(world: World) -> list[Client]:
    """From 2 to 3 and to 1 partition, while clients report. Returns them when all they sent is decided."""
    ingests = [Ingest(world) for _ in range(2)]
    clients = [Client(world, ingests, f"c{number}") for number in range(12)]
    async with running(
        *(ingest.run() for ingest in ingests),
        *(world.run_replica() for _ in range(2)),
        *(world.run_worker(partition) for partition in range(6)),
    ):
        reporting = [asyncio.create_task(client.run(4)) for client in clients]
        for count in (3, 1):
            await asyncio.sleep(1)
            await world.ask_for(count)
        await asyncio.gather(*reporting)
        await asyncio.sleep(10)  # for what was sent twice
    return clients


@max_examples(12)
@given(st.integers(0, 2**32))
def test_what_was_accepted_is_decided_in_its_order_whatever_happens_during_a_change(seed: int) -> None:
    async def simulation() -> None:
        world = World(Random(seed))
        clients = await changed_twice(world)
        assert world.layout == Layout((2, 3, 1))
        for client in clients:
            for order_id, update_ids in client.accepted.items():
                assert world.decided[order_id] == update_ids
        assert world.refused == []

    simulate(simulation())


ROUTING = Routing(Layout((2,)))
OPEN = Switch(3, "open", 0)
FENCED = Switch(3, "fenced", 1)
DECIDED = Switch(3, "decided", 2)

Write = Callable[[RepartitionStore, Switch], Coroutine[Any, Any, bool]]


def stored(switch: Switch | None) -> World:
    """A world in which a change has come so far."""
    world = World(Random(0))
    if switch is not None:
        world.settings[SETTINGS_ID]["switch"] = {
            "count": switch.count,
            "phase": switch.phase,
            "attempt": switch.attempt,
        }
    return world


def store_of(world: World) -> RepartitionStore:
    """The store of a replica."""
    return RepartitionStore(world.database)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "write", "after"),
    [
        (OPEN, RepartitionStore.fence, (ROUTING, FENCED)),
        (FENCED, RepartitionStore.note_decided, (ROUTING, DECIDED)),
        (FENCED, lambda store, switch: store.give_up(switch, ROUTING), (Routing(Layout((2,)), 1), "open")),
        (DECIDED, lambda store, switch: store.activate(switch, ROUTING), (Routing(Layout((2, 3)), 1), None)),
    ],
    ids=["fence", "decided", "given up", "active"],
)
@pytest.mark.parametrize(
    "meanwhile",
    [None, Switch(3, "open", 2), Switch(4, "open", 0), Switch(3, "fenced", 3), Switch(3, "decided", 4)],
    ids=["gone", "given up", "another number", "fenced again", "decided later"],
)
def test_each_step_is_taken_once_and_only_from_the_one_before(
    before: Switch, write: Write, after: tuple[Routing, Any], meanwhile: Switch | None
) -> None:
    async def simulation() -> None:
        store = store_of(stored(before))
        assert await write(store, before)
        routing, switch = await store.read()
        is_fenced = switch is not None and switch.phase != "open"
        assert routing == Routing(after[0].layout, after[0].route, is_fenced)
        assert (switch.phase if switch and after[1] == "open" else switch) == after[1]
        assert not await write(store, before)

        other = store_of(stored(meanwhile))
        assert not await write(other, before)
        assert (await other.read()).switch == meanwhile

    simulate(simulation())


def test_new_partitions_are_prepared_once_and_every_worker_is_fenced() -> None:
    async def simulation() -> None:
        world = stored(DECIDED)
        for number in range(2):
            one = {"_id": number, "order_id": f"o-{number}", "partition": number}
            world.database.raw["held"].documents[number] = one
        for _ in range(2):  # another replica does it again
            await store_of(world).prepare_partitions(Layout((2, 3)))
            await store_of(world).keep_homes()
        partitions = world.database.partitions.documents
        assert sorted(partitions) == list(range(5))
        assert [partitions[number]["commits"] for number in range(5)] == [1, 1, 0, 0, 0]
        assert {one["generation"] for one in partitions.values()} == {1}
        assert world.database.order_homes.documents["o-1"]["partition"] == 1

    simulate(simulation())


def test_homes_are_noted_page_by_page_however_many_updates_are_held_and_parked() -> None:
    async def simulation() -> None:
        world = stored(DECIDED)
        database = world.database
        for number in range(2 * PAGE_HOMES + 1):
            one = {"_id": number, "order_id": f"o-{number // 2}", "partition": number // 2 % 2}
            database.raw["held"].documents[number] = one
        parked = {"_id": "p", "order_id": "o-parked", "partition": 1}
        database.raw["parked"].documents["p"] = parked
        database.order_homes.documents["o-1"] = {"_id": "o-1", "partition": 7}  # an earlier change noted it
        await store_of(world).keep_homes()
        homes = {key: one["partition"] for key, one in database.order_homes.documents.items()}
        held = {f"o-{number}": number % 2 for number in range(PAGE_HOMES + 1)}
        assert homes == held | {"o-parked": 1, "o-1": 7}
        assert database.raw["held"].largest_find == PAGE_HOMES
        assert database.order_homes.largest_find == 0

    simulate(simulation())


class Broker(WorkerConnection):
    """The connection of a replica, whose requests a test answers."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.events: list[tuple[str, float]] = []
        self.sent: list[tuple[str, Replies]] = []

    async def unbind(self, partitions: int, route: int) -> None:
        self.events.append((f"unbind {route}", self.world.now))

    async def publish(
        self, queue: str, body: bytes, *, message_id: str, reply_to: Replies, **_: object
    ) -> None:
        self.events.append((queue, self.world.now))
        self.sent.append((message_id, reply_to))
        await self.answer(len(self.sent) - 1)

    async def answer(self, number: int) -> None:
        message_id, reply_to = self.sent[number]
        reply_to.put(message_id)


class AnswersTwice(Broker):
    """The first queue answers each request twice, the second one never."""

    async def answer(self, number: int) -> None:
        if number % 2 == 0:
            await super().answer(number)
            await super().answer(number)


class HasAlarm(Broker):
    """It takes no messages."""

    async def answer(self, number: int) -> None:
        raise BrokerBlocked("it has an alarm")


def replica(world: World, broker: Broker) -> Repartition:
    """A replica that starts."""
    connection: Any = broker
    return Repartition(store_of(world), connection, ROUTING)


def test_requests_follow_when_all_that_was_routed_before_has_come() -> None:
    async def simulation() -> None:
        world = stored(FENCED)
        broker = Broker(world)
        with pytest.raises(LayoutChanged):
            await replica(world, broker).run()
        (unbound, unbound_at), (_, requested_at), *_ = broker.events
        assert unbound == "unbind 0"
        assert requested_at - unbound_at >= SETTLE_SECONDS
        assert world.layout == Layout((2, 3))

    simulate(simulation())


@pytest.mark.parametrize("kind", [AnswersTwice, HasAlarm], ids=["one queue twice", "an alarm"])
def test_unless_every_queue_answers_updates_are_taken_as_before_and_it_is_tried_again_later(
    kind: type[Broker],
) -> None:
    async def simulation() -> None:
        world = stored(FENCED)
        broker = kind(world)
        async with running(replica(world, broker).run()):
            await asyncio.sleep(SETTLE_SECONDS + 3)
            routing, switch = await store_of(world).read()
            assert (routing, switch) == (Routing(Layout((2,)), 1), Switch(3, "open", 2))
            number = len(broker.sent)
            await asyncio.sleep(AGAIN_SECONDS - 5)
            assert len(broker.sent) == number
            await asyncio.sleep(10)
            assert len(broker.sent) > number

    simulate(simulation())


def test_while_queues_are_long_updates_are_taken_and_the_next_look_is_later() -> None:
    async def simulation() -> None:
        world = stored(OPEN)
        broker = AnswersTwice(world)
        async with running(replica(world, broker).run()):
            await asyncio.sleep(LONG_QUEUES_SECONDS)
            assert (await store_of(world).read()).switch == OPEN
            assert len(broker.sent) == 2
            await asyncio.sleep(LONG_QUEUES_SECONDS)
            assert len(broker.sent) == 4

    simulate(simulation())


def test_a_replica_that_starts_finishes_what_is_decided_and_leaves_the_rest_to_its_workers() -> None:
    async def simulation() -> None:
        for switch in (None, OPEN, FENCED):
            world = stored(switch)
            await replica(world, Broker(world)).finish()
            assert (await store_of(world).read()).switch == switch
        world = stored(DECIDED)
        with pytest.raises(LayoutChanged):
            await replica(world, Broker(world)).finish()
        assert world.layout == Layout((2, 3))

    simulate(simulation())
