"""Ingest keeps to the routing of the day: what was to go another way is refused, and may be repeated."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from virtual_time import simulate

from builders import create_command, update_command
from tracking_ingest.submission.dispatcher import Dispatcher
from tracking_ingest.submission.pipeline import Submission
from tracking_shared.contracts.layout import Layout, Routing
from tracking_shared.messaging.errors import BrokerUnavailable, PublishRefused
from tracking_shared.storage.database import DatabaseUnavailable

OLD = Routing(Layout((1,)))
FENCED = Routing(Layout((1,)), is_fenced=True)
NEW = Routing(Layout((1, 1)), route=1)


class Broker:
    """A connection and its publisher: takes what is published under keys that are bound."""

    is_blocked = False
    in_service = False

    def __init__(self, *bound: str) -> None:
        self.bound = set(bound)
        self.published: list[str] = []
        self.confirm_seconds = 0.0
        self.confirms = asyncio.Event()
        self.confirms.set()

    async def publisher(self, exchange: str) -> "Broker":
        return self

    async def private_consumer(self, exchange: None, limit: int) -> tuple[str, "Broker"]:
        return "replies", self

    async def with_declared(self, partitions: int, use: Callable[[], Awaitable[None]], *, route: int) -> None:
        """All is declared."""

    async def check(self, exchange: str) -> None:
        """It answers."""

    async def next_batch(self, limit: int) -> Any:
        await asyncio.Event().wait()

    async def publish(self, routing_key: str, body: bytes, **properties: Any) -> None:
        if routing_key not in self.bound:
            raise PublishRefused(routing_key)
        self.published.append(routing_key)
        await self.confirms.wait()
        await asyncio.sleep(self.confirm_seconds)


class Stored:
    """The stored routing, and the home of one order from before the change."""

    def __init__(self, routing: Routing = OLD, *, is_away: bool = False) -> None:
        self._routing = routing
        self._is_away = is_away
        self.asked = 0

    async def is_current(self, routing: Routing) -> bool:
        self._ask()
        return routing == self._routing

    async def homes(self, layout: Layout, order_ids: Sequence[str]) -> Mapping[str, int]:
        self._ask()
        return {order_id: 0 for order_id in order_ids if order_id == "old"} | {"newest": 2}

    def _ask(self) -> None:
        self.asked += 1
        if self._is_away:
            raise DatabaseUnavailable("away")


HOMES = Stored()


@asynccontextmanager
async def dispatching(broker: Broker, stored: Stored = HOMES) -> AsyncIterator[Dispatcher]:
    """A dispatcher that serves."""
    dispatcher = Dispatcher(1, stored=stored)
    serving = asyncio.create_task(dispatcher.serve(broker))  # type: ignore[arg-type]
    await dispatcher.first_connection.wait()
    try:
        yield dispatcher
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


async def sent(dispatcher: Dispatcher, order_id: str) -> Submission:
    """An update that was submitted."""
    destinations = await dispatcher.locate([order_id])
    return dispatcher.submit(update_command(order_id), wants_outcome=False, destinations=destinations)


async def rerouted(dispatcher: Dispatcher, routing: Routing) -> None:
    """Goes another way, once the dispatcher has come to it."""
    dispatcher.reroute(routing)
    for _ in range(5):
        await asyncio.sleep(0)


async def test_after_a_change_orders_stay_and_new_ones_go_to_the_new_partitions_under_new_keys() -> None:
    broker = Broker("p0")
    async with dispatching(broker) as dispatcher:
        assert await (await sent(dispatcher, "old")).confirmed is None
        broker.bound = {"r1.p0", "r1.p1"}
        await rerouted(dispatcher, NEW)
        assert await (await sent(dispatcher, "old")).confirmed is None
        assert await (await sent(dispatcher, "new")).confirmed is None
    assert broker.published == ["p0", "r1.p0", "r1.p1"]


async def test_while_the_number_changes_nothing_is_taken() -> None:
    async with dispatching(Broker("p0")) as dispatcher:
        await rerouted(dispatcher, FENCED)
        with pytest.raises(BrokerUnavailable, match="is being changed"):
            await sent(dispatcher, "old")


async def test_what_waits_when_the_number_changes_is_refused_and_what_is_sent_is_unknown() -> None:
    broker = Broker("p0")
    broker.confirms.clear()
    async with dispatching(broker) as dispatcher:
        in_flight = await sent(dispatcher, "old")
        await asyncio.sleep(0)
        waiting = await sent(dispatcher, "old")
        await rerouted(dispatcher, FENCED)
        for submission in (in_flight, waiting):
            assert isinstance(await submission.confirmed, BrokerUnavailable)
    assert broker.published == ["p0"]


async def test_who_missed_the_change_cannot_publish() -> None:
    broker = Broker("p0")
    async with dispatching(broker) as dispatcher:
        broker.bound = {"r1.p0", "r1.p1"}
        assert isinstance(await (await sent(dispatcher, "old")).confirmed, PublishRefused)
    assert broker.published == []


async def test_a_partition_that_was_found_before_the_change_is_not_used_after_it() -> None:
    broker = Broker("p0", "r1.p0", "r1.p1")
    async with dispatching(broker) as dispatcher:
        found = await dispatcher.locate(["new"])
        await rerouted(dispatcher, NEW)
        with pytest.raises(BrokerUnavailable, match="is being changed"):
            dispatcher.submit(create_command("new"), wants_outcome=False, destinations=found)
    assert broker.published == []


async def test_without_an_answer_of_the_database_nothing_is_guessed() -> None:
    async with dispatching(Broker("r1.p0", "r1.p1"), Stored(is_away=True)) as dispatcher:
        await rerouted(dispatcher, NEW)
        with pytest.raises(BrokerUnavailable, match="away"):
            await sent(dispatcher, "new")


async def test_before_the_first_change_no_home_is_looked_up() -> None:
    stored = Stored()
    async with dispatching(Broker("p0"), stored) as dispatcher:
        await sent(dispatcher, "any")
    assert stored.asked == 0


async def test_an_order_that_was_created_after_a_change_that_is_not_known_here_yet_is_refused() -> None:
    async with dispatching(Broker("r1.p0", "r1.p1")) as dispatcher:
        await rerouted(dispatcher, NEW)
        with pytest.raises(BrokerUnavailable, match="is being changed"):
            await sent(dispatcher, "newest")


async def test_between_two_routings_nothing_is_taken() -> None:
    async with dispatching(Broker("p0", "r1.p0", "r1.p1")) as dispatcher:
        await rerouted(dispatcher, FENCED)
        dispatcher.reroute(NEW)
        with pytest.raises(BrokerUnavailable, match="is being changed"):
            await sent(dispatcher, "new")


LATE = "the confirm came late, and the routing cannot be read: away"


@pytest.mark.parametrize(
    ("confirm_seconds", "stored", "refusal"),
    [
        (0.49, Stored(NEW), None),
        (0.51, Stored(OLD), None),
        (0.51, Stored(NEW), "the number of partitions is being changed"),
        (0.51, Stored(FENCED), "the number of partitions is being changed"),
        (0.51, Stored(is_away=True), LATE),
    ],
    ids=["quick", "late and still so", "late and changed", "late and fenced", "late and unknown"],
)
def test_a_message_whose_confirm_is_late_counts_only_if_the_routing_is_still_the_same(
    confirm_seconds: float, stored: Stored, refusal: str | None
) -> None:
    async def simulation() -> None:
        broker = Broker("p0")
        broker.confirm_seconds = confirm_seconds
        async with dispatching(broker, stored) as dispatcher:
            first = await sent(dispatcher, "any")
            await asyncio.sleep(0)
            second = await sent(dispatcher, "any")
            for submission in (first, second):
                error = await submission.confirmed
                assert (str(error) if error else None) == refusal
        assert len(broker.published) == (1 if refusal else 2), "what is behind a refused one is refused"

    simulate(simulation())
