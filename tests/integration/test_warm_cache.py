"""An order-state that remembers its orders, when they are not any more what it remembers."""

from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import ClientSession

from builders import create_command, update_command
from callers import Caller, eventually
from fixtures import StartService
from listeners import examine, listening
from tracking.devstack.service_process import ServiceProcess
from tracking_order_state.adapters.store import Store
from tracking_order_state.domain.decisions import Decisions
from tracking_order_state.domain.order_cache import OrderCache
from tracking_order_state.domain.partition import PartitionPosition
from tracking_order_state.errors import Fenced
from tracking_order_state.processing.batch_processor import BatchProcessor
from tracking_order_state.processing.stages import PartitionBatch, PartitionState, ReceivedBatch
from tracking_shared.contracts.commands import AnyCommand
from tracking_shared.contracts.layout import Layout
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.storage.database import Database, DatabaseUnavailable, open_database
from wire_tap import tap_database

PARTITIONS = 2


async def cached_bytes(order_state: ServiceProcess) -> float:
    """How much the process says that it remembers."""
    async with ClientSession() as session, session.get(f"{order_state.url}/metrics") as response:
        lines = (await response.text()).splitlines()
    [line] = [line for line in lines if line.startswith("tracking_order_cache_bytes ")]
    return float(line.rsplit(" ", 1)[1])


async def step(caller: Caller, environment: dict[str, str], orders: Sequence[str], status: str) -> None:
    """Takes each order to this status, and returns when all are there."""

    async def are_there() -> bool:
        async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
            return await database.orders.count_documents({"status": status}) == len(orders)

    for order_id in orders:
        path, update_id = f"/v1/orders/{order_id}/updates", f"{order_id}.{status}"
        answer = await caller.insist(path, {"status": status}, update_id, order_id)
        assert answer.status in (200, 202)
    await eventually(are_there)


async def test_frozen_while_another_one_changed_its_orders_it_decides_nothing_from_memory(
    service_environment: dict[str, str], start_service: StartService
) -> None:
    broker_url = service_environment["AMQP_URL"]
    service_environment |= {"PARTITIONS": str(PARTITIONS), "REBALANCE_SECONDS": "2"}
    service_environment["AMQP_URL"] = f"{broker_url}?heartbeat=1"  # of the services: the test may be busy
    async with listening(broker_url, PARTITIONS) as announced:
        ingest = await start_service("ingest")
        frozen = await start_service("order_state")
        orders = [uuid4().hex for _ in range(8)]
        async with Caller([ingest.url]) as caller:
            for order_id in orders:
                await caller.live(order_id, ["picked_up"])
            assert await cached_bytes(frozen) > len(orders) * 1000
            other = await start_service("order_state", REPLICA_ORDINAL="1", REPLICA_COUNT="2")
            frozen.pause()
            await step(caller, service_environment, orders, "in_transit")
            frozen.resume()
            await other.stop()
            # It remembers them as picked up, from where none can be delivered.
            await step(caller, service_environment, orders, "delivered")
        await examine(service_environment, caller.acknowledged, announced)


# Without a broker.


async def nothing() -> None:
    """The deliveries are ours."""


class ForgetfulStore(Store):
    """Loses the answer of a commit."""

    loses = ""
    """`before`: the commit with it; `after`: the answer alone."""

    async def commit(
        self, positions: Sequence[PartitionPosition], decisions: Sequence[Decisions]
    ) -> list[PartitionPosition]:
        loses, self.loses = self.loses, ""
        if loses == "before":
            raise DatabaseUnavailable("lost")
        after = await super().commit(positions, decisions)
        if loses:
            raise DatabaseUnavailable("lost")
        return after


class Worker:
    """An order-state on one partition."""

    def __init__(self, database: Database) -> None:
        self.store = ForgetfulStore(database)
        self.cache = OrderCache(10**6)
        self.processor = BatchProcessor(
            self.store,
            None,  # type: ignore[arg-type]
            DEFAULT_WORKFLOW,
            Layout((1,)),
            10,
            cache=self.cache,
        )
        self.partition = PartitionState(0, nothing)

    async def decide(self, *commands: AnyCommand) -> list[tuple[str | None, int | None, bool]]:
        """Problem, version and whether it is a repeat, of each."""
        self.partition.begin_batch()
        received = ReceivedBatch([PartitionBatch(self.partition, commands=commands)])
        [result] = (await self.processor.commit(received)).results
        return [
            (one["problem"] and one["problem"]["slug"], one["version"], one["replayed"])
            for one in result.outcomes
            if one is not None
        ]


@pytest.fixture
async def database(mongodb_url: str, database_name: str) -> AsyncIterator[Database]:
    """One with a partition."""
    async with open_database(mongodb_url, database_name) as database:
        await database.prepare(1)
        yield database


async def test_a_batch_of_known_orders_is_one_transaction_and_nothing_else(
    mongodb_url: str, database_name: str
) -> None:
    async with tap_database(mongodb_url) as tap, open_database(tap.url, database_name) as database:
        await database.prepare(1)
        worker = Worker(database)

        async def commands_of(*batch: AnyCommand) -> list[str]:
            seen = len(tap.commands)
            await worker.decide(*batch)
            named = [f"{name} {one[name]}" for one in tap.commands[seen:] for name in [next(iter(one))]]
            return [name for name in named if not name.startswith(("ismaster", "hello"))]

        transaction = ["update partitions", "insert order_events", "update orders", "commitTransaction 1"]
        await worker.decide(create_command("o-1"))
        assert await commands_of(create_command("o-2"), create_command("o-3")) == transaction
        assert await commands_of(update_command("o-1"), update_command("o-2")) == transaction
        worker.cache.drop(0)
        read = await commands_of(update_command("o-1", "in_transit"), update_command("o-2", "in_transit"))
        assert sorted(read[:2]) == ["find orders", "find updates"]
        assert read[2:] == transaction


@pytest.mark.parametrize(("loses", "is_repeat"), [("before", False), ("after", True)])
async def test_after_an_answer_that_was_lost_it_reads_what_was_committed(
    database: Database, loses: str, is_repeat: bool
) -> None:
    worker = Worker(database)
    await worker.decide(create_command("o-1"), update_command("o-1"))
    worker.store.loses = loses
    assert await worker.decide(update_command("o-1", "in_transit")) == [(None, 3, is_repeat)]
    assert await worker.decide(update_command("o-1", "delivered")) == [(None, 4, False)]


async def test_an_old_update_and_an_old_order_are_recognised_without_having_been_looked_up(
    database: Database,
) -> None:
    worker = Worker(database)
    create, scan = create_command("o-1"), update_command("o-1", "in_transit")
    await worker.decide(create, update_command("o-1"), scan, update_command("o-1", "in_transit"))
    for again, version in ((scan, 3), (create, 1)):
        worker = Worker(database)
        assert await worker.decide(again, create_command(f"after-{version}")) == [
            (None, version, True),
            (None, 1, False),
        ]


Stored = dict[str, list[dict[str, Any]]]


async def stored(database: Database) -> Stored:
    """All documents."""
    names = await database.raw.list_collection_names()
    return {name: await database.raw[name].find().to_list() for name in names}


async def restore(database: Database, documents: Stored) -> None:
    """Sets the database back."""
    for name, kept in documents.items():
        await database.raw[name].delete_many({})
        if kept:
            await database.raw[name].insert_many(kept)


async def test_in_a_database_that_was_restored_under_it_it_decides_on_what_is_there(
    database: Database,
) -> None:
    worker = Worker(database)
    await worker.decide(create_command("o-1"), update_command("o-1"))
    earlier = await stored(database)
    await worker.decide(update_command("o-1", "in_transit"), create_command("o-2"))
    await restore(database, earlier)
    assert await worker.decide(update_command("o-1", "delivered"), update_command("o-2")) == [
        ("invalid-transition", None, False),
        ("order-not-found", None, False),
    ]


async def test_a_restored_database_where_others_made_as_many_commits_is_not_its_own(
    database: Database,
) -> None:
    worker, other = Worker(database), Worker(database)
    await worker.decide(create_command("o-1"), update_command("o-1"))
    earlier = await stored(database)
    for _ in range(3):
        await worker.decide(update_command("o-1", "in_transit") if _ else create_command("o-2"))
    assert worker.partition.position is not None
    await restore(database, earlier)
    while (
        other.partition.position is None
        or other.partition.position.commits < worker.partition.position.commits
    ):
        await other.decide(create_command(uuid4().hex))
    assert other.partition.position.commits == worker.partition.position.commits
    with pytest.raises(Fenced):
        await worker.decide(update_command("o-1", "delivered"))


async def test_a_customer_who_was_erased_by_hand_stays_so(database: Database) -> None:
    worker = Worker(database)
    await worker.decide(create_command("o-1"))
    erased = {"name": "erased", "contact_ref": "erased"}
    async with database.client.start_session() as session, await session.start_transaction():
        await database.orders.update_one({"_id": "o-1"}, {"$set": {"customer": erased}}, session=session)
        await database.order_events.update_many(
            {"order_id": "o-1"}, {"$set": {"customer": erased}}, session=session
        )
        await database.partitions.update_one({"_id": 0}, {"$inc": {"commits": 1}}, session=session)
    assert await worker.decide(update_command("o-1")) == [(None, 2, False)]
    order = await database.orders.find_one({"_id": "o-1"})
    assert order is not None
    assert order["customer"] == erased
