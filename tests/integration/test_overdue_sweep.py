"""The sweep: a due time that passes is recorded once, whoever finds it, how often, and by whichever clock."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from builders import create_command, update_command
from callers import Caller, eventually
from fixtures import StartService
from listeners import examine, listening
from owners import Owner
from statements.recording import with_recording
from tracking.devstack.service_process import PORT_VARIABLES
from tracking_order_state import metrics
from tracking_order_state.adapters.due_orders import DueOrders
from tracking_order_state.errors import Fault, Fenced
from tracking_order_state.processing import due_sweep
from tracking_order_state.processing.due_sweep import DueSweep
from tracking_shared.contracts.documents import EventDocument
from tracking_shared.contracts.timestamps import format_time, now
from tracking_shared.storage.database import Database, open_database

HOUR = timedelta(hours=1)
PARTITIONS = 2
HERE = str(Path(__file__).parent.parent)


class Clock(DueOrders):
    """Judges due times by a clock that is wrong."""

    ahead = timedelta()

    async def time(self) -> datetime:
        return await super().time() + self.ahead


def sweep_of(owner: Owner, due_orders: DueOrders) -> DueSweep:
    steps = owner.processor.steps
    return DueSweep(owner, due_orders, steps.mark_overdue, metrics.OVERDUE_SWEEP_AGE)  # type: ignore[arg-type]


async def record(database: Database, owner: Owner, found: Sequence[str]) -> int | Fault:
    """Has the owner record of these orders that they are due."""
    return await sweep_of(owner, DueOrders(database)).record(owner.consumer, found, now())


@pytest.fixture
async def database(mongodb_url: str, database_name: str) -> AsyncIterator[Database]:
    """One with a partition."""
    async with open_database(mongodb_url, database_name) as database:
        await database.prepare(1)
        yield database


async def overdue_events(database: Database, **conditions: Any) -> list[EventDocument]:
    found = database.order_events.find({"type": "order.overdue"} | conditions)
    return await found.sort("_id", 1).to_list()


async def test_what_is_due_is_found_and_recorded_and_what_is_not_is_left(database: Database) -> None:
    owner, other = Owner(database), Owner(database)
    sweep = sweep_of(owner, DueOrders(database))
    assert not await sweep.look()  # nothing is owned
    past, future = now() - HOUR, now() + HOUR
    await owner.decide(
        create_command("o-1", due_at=past), create_command("o-2", due_at=future), create_command("o-3")
    )
    for _ in range(2):
        assert not await sweep.look()
        assert [event["order_id"] for event in await overdue_events(database)] == ["o-1"]
    assert sweep.age_seconds() < 30
    stored = {order["_id"]: order async for order in database.orders.find({})}
    assert [stored[name].get("overdue", False) for name in sorted(stored)] == [True, False, False]
    assert ["due_key" in stored[name] for name in sorted(stored)] == [False, True, False]
    # The cache is in step, and so is whoever reads everything anew.
    assert await owner.decide(update_command("o-1")) == [(None, 3)]
    assert await other.decide(update_command("o-1", "in_transit")) == [(None, 4)]


@pytest.mark.parametrize("first", ["delivery", "due time"])
async def test_overdue_and_delivery_in_the_same_second_are_one_after_the_other(
    database: Database, first: str
) -> None:
    owner = Owner(database)
    await owner.decide(create_command("o-1", due_at=now()), update_command("o-1"))
    await owner.decide(update_command("o-1", "in_transit"))
    found = await DueOrders(database).find(0, now() + HOUR, 10)
    assert found == ["o-1"]
    if first == "delivery":
        await owner.decide(update_command("o-1", "delivered"))
    assert await record(database, owner, found) == (first == "due time")
    if first == "due time":
        await owner.decide(update_command("o-1", "delivered"))
    events = await overdue_events(database)
    assert len(events) == (first == "due time")
    order = await database.orders.find_one({"_id": "o-1"})
    assert order is not None
    assert (order["status"], order.get("overdue"), order["version"]) == ("delivered", None, 4 + len(events))
    assert "due_key" not in order


async def test_of_two_owners_who_found_the_same_order_one_records_it(database: Database) -> None:
    old, new = Owner(database), Owner(database)
    await old.decide(create_command("o-1", due_at=now()))
    found = await DueOrders(database).find(0, now() + HOUR, 10)
    await new.processor.claim(new.partition)
    with pytest.raises(Fenced):
        await record(database, old, found)
    assert await record(database, new, found) == 1
    assert await record(database, new, found) == 0
    assert len(await overdue_events(database)) == 1


async def test_a_judging_clock_an_hour_ahead_that_steps_back_brings_no_second_event(
    database: Database,
) -> None:
    owner = Owner(database)
    clock = Clock(database)
    sweep = sweep_of(owner, clock)
    await owner.decide(create_command("o-1", due_at=now() + HOUR / 2), create_command("o-2", due_at=now()))
    for ahead in (HOUR, timedelta(), -HOUR, HOUR):
        clock.ahead = ahead
        await sweep.look()
        events = await overdue_events(database)
        assert sorted(event["order_id"] for event in events) == ["o-1", "o-2"]


async def test_the_clock_of_a_worker_marks_nothing_early_and_recorded_time_never_runs_backwards(
    database: Database,
) -> None:
    owner = Owner(database, clock_ahead=HOUR)
    sweep = sweep_of(owner, DueOrders(database))
    await owner.decide(create_command("o-1", due_at=now() + HOUR / 2))
    await sweep.look()
    assert await overdue_events(database) == []
    owner.clock_ahead = -HOUR
    await owner.decide(create_command("o-2", due_at=now() - 2 * HOUR))
    await sweep.look()
    [event] = await overdue_events(database)
    assert event["order_id"] == "o-2"
    times = [event["recorded_at"] async for event in database.order_events.find({}).sort("_id", 1)]
    assert times == sorted(times)


async def test_an_order_that_our_own_code_fails_on_holds_up_no_other(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = Owner(database)
    sweep = sweep_of(owner, DueOrders(database))
    await owner.decide(*(create_command(f"o-{number}", due_at=now() - HOUR) for number in range(3)))
    # Something that the schema does not allow, as a faulty migration would leave it.
    await database.orders.update_one({"_id": "o-1"}, {"$unset": {"metadata": ""}})
    for _ in range(3):
        await sweep.look()
    assert [event["order_id"] for event in await overdue_events(database)] == ["o-0", "o-2"]
    assert await owner.decide(update_command("o-2")) == [(None, 3)]


async def test_a_backlog_is_worked_off_in_small_transactions(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due_sweep, "LOOK_ORDERS", 30)
    monkeypatch.setattr(due_sweep, "MARKED_ORDERS", 10)
    owner = Owner(database)
    sweep = sweep_of(owner, DueOrders(database))
    await owner.decide(*(create_command(uuid4().hex, due_at=now() - HOUR) for _ in range(65)))
    before = owner.partition.position
    assert before is not None
    looks = 1
    while await sweep.look():
        looks += 1
    after = owner.partition.position
    assert after is not None
    assert looks == 3
    assert after.seq - before.seq == 65
    assert after.commits - before.commits == 7
    assert len(await overdue_events(database)) == 65


# With real processes.


def order(order_id: str, due_at: datetime) -> dict[str, Any]:
    return {
        "order_id": order_id,
        "merchant_id": "m-1",
        "customer": {"name": "Ada", "contact_ref": "crm-1"},
        "due_at": format_time(due_at),
    }


async def test_owners_that_are_frozen_and_wake_up_again_bring_no_second_event(
    service_environment: dict[str, str], start_service: StartService
) -> None:
    service_environment["AMQP_URL"] += "?heartbeat=1"
    service_environment |= {"PARTITIONS": str(PARTITIONS), "REBALANCE_SECONDS": "2"}
    async with listening(service_environment["AMQP_URL"], PARTITIONS) as announced:
        ingest = await start_service("ingest")
        frozen = await start_service("order_state")
        async with Caller([ingest.url]) as caller:
            due_at = now() + timedelta(seconds=6)
            ids = [uuid4().hex for _ in range(40)]
            for order_id in ids:
                await caller.insist("/v1/orders", order(order_id, due_at), f"{order_id}.c", order_id)
            await start_service("order_state", REPLICA_ORDINAL="1", REPLICA_COUNT="2")
            frozen.pause()
            async with open_database(
                service_environment["MONGODB_URL"], service_environment["MONGODB_DATABASE"]
            ) as database:

                async def all_are_overdue() -> bool:
                    return await database.orders.count_documents({"overdue": True}) == len(ids)

                await eventually(all_are_overdue)
                frozen.resume()
                late = uuid4().hex
                await caller.insist("/v1/orders", order(late, now()), f"{late}.c", late)
                ids.append(late)
                await eventually(all_are_overdue)
                events = await overdue_events(database)
            assert sorted(event["order_id"] for event in events) == sorted(ids)
        await examine(service_environment, caller.acknowledged, announced)


@pytest.mark.parametrize("step", ["before-commit", "committed", "after-commit"])
async def test_killed_while_it_records_a_passed_due_time(
    step: str,
    service_environment: dict[str, str],
    start_service: StartService,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(PORT_VARIABLES, "faulty_order_state", "ORDER_STATE_PORT")
    service_environment["AMQP_URL"] += "?heartbeat=1"
    service_environment |= {"PARTITIONS": "1", "PYTHONPATH": with_recording(HERE)}
    names = (service_environment["MONGODB_URL"], service_environment["MONGODB_DATABASE"])
    async with open_database(*names) as database:
        await database.prepare(1)
        order_id = uuid4().hex
        await Owner(database).decide(create_command(order_id, due_at=now() - HOUR))
        faulty = await start_service("faulty_order_state", FAULT=f"kill:{step}")
        await asyncio.wait_for(faulty.process.wait(), 60)
        await start_service("order_state")

        async def is_overdue() -> bool:
            return await database.orders.count_documents({"overdue": True}) == 1

        await eventually(is_overdue)
        assert [event["version"] for event in await overdue_events(database)] == [2]
    await examine(service_environment, [])


BACKLOG = 3_000


async def test_a_backlog_holds_up_no_update(
    service_environment: dict[str, str], start_service: StartService
) -> None:
    service_environment |= {"PARTITIONS": "1"}
    names = (service_environment["MONGODB_URL"], service_environment["MONGODB_DATABASE"])
    async with open_database(*names) as database, listening(service_environment["AMQP_URL"], 1) as announced:
        await database.prepare(1)
        owner = Owner(database)
        for _ in range(BACKLOG // 500):
            await owner.decide(*(create_command(uuid4().hex, due_at=now() - HOUR) for _ in range(500)))
        ingest = await start_service("ingest")
        await start_service("order_state")
        slowest = 0.0

        async def all_are_overdue() -> bool:
            return await database.orders.count_documents({"overdue": True}) >= BACKLOG

        async with Caller([ingest.url]) as caller:
            waiting = asyncio.create_task(eventually(all_are_overdue))
            while not waiting.done():
                began = time.monotonic()
                await caller.live(uuid4().hex, ["picked_up"])
                slowest = max(slowest, time.monotonic() - began)
            await waiting
        assert slowest < 5.0  # of two requests, also on a busy machine
        assert len(await overdue_events(database)) == BACKLOG
        # What was decided before nobody listened was announced to nobody.
        assert {event["type"] for event in announced} >= {"order.overdue", "order.created"}
        await examine(service_environment, caller.acknowledged)
