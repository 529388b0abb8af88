"""Early updates, held in the database: by whichever owner, until what they wait for comes or time is over."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from builders import create_command, update_command
from owners import Owner
from shelf import HOLD_SECONDS, HOLDING
from tracking.upkeep.check import check_records
from tracking.upkeep.held_updates import list_held
from tracking.upkeep.record_reader import read_partitions
from tracking_order_state import metrics
from tracking_order_state.adapters import held_updates
from tracking_order_state.adapters.due_orders import EndedHolds
from tracking_order_state.domain.holding import MAX_HELD_PER_ORDER, MAX_WAITING_PER_SENDER
from tracking_order_state.errors import Fenced
from tracking_order_state.processing.due_sweep import DueSweep, holds_any
from tracking_shared.contracts.commands import AnyCommand, Source
from tracking_shared.contracts.identifiers import content_update_id
from tracking_shared.contracts.timestamps import now
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW, Workflow
from tracking_shared.storage.database import Database, open_database

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


class HoldingOwner(Owner):
    """One whose workflow holds early updates, unless it is another."""

    def __init__(self, database: Database, *, workflow: Workflow = HOLDING, **others: Any) -> None:
        super().__init__(database, workflow=workflow, **others)

    async def outcome_names(self, *commands: AnyCommand) -> list[str]:
        """Outcome, or problem, of each."""
        return [
            one["problem"]["slug"] if one["problem"] else one["outcome"] + " again" * one["replayed"]
            for one in await self.outcomes(*commands)
        ]


class Clock(EndedHolds):
    """Judges by a clock that is ahead."""

    ahead = timedelta(seconds=HOLD_SECONDS) + SECOND

    async def time(self) -> datetime:
        return await super().time() + self.ahead


def sweep_of(owner: HoldingOwner, ended: EndedHolds) -> DueSweep:
    step = owner.processor.steps.end_held
    return DueSweep(owner, ended, step, metrics.HELD_SWEEP_AGE, holds_any)  # type: ignore[arg-type]


@pytest.fixture
async def database(mongodb_url: str, database_name: str) -> AsyncIterator[Database]:
    """One with a partition."""
    async with open_database(mongodb_url, database_name) as database:
        await database.prepare(1)
        yield database


def update(status: str, order_id: str = "o-1", **fields: Any) -> AnyCommand:
    return update_command(order_id, status, **({"update_id": status} | fields))


async def steps(database: Database, order_id: str = "o-1") -> list[str]:
    found = database.order_events.find({"order_id": order_id}).sort("version", 1)
    return [event["update_id"] async for event in found]


async def held_count(database: Database) -> int:
    """As the partition says and as it is."""
    [partition] = await read_partitions(database)
    found = await database.held.count_documents({})
    assert partition.get("held", 0) == found
    return found


async def faults(database: Database) -> list[str]:
    found = await check_records(database, await read_partitions(database), HOLDING)
    return found.examples


EARLY = [update("delivered"), update("in_transit"), update("picked_up")]


@pytest.mark.parametrize("cache_bytes", [0, 10**6])
async def test_what_one_owner_holds_the_next_one_releases(database: Database, cache_bytes: int) -> None:
    first, second = (HoldingOwner(database, cache_bytes=cache_bytes) for _ in range(2))
    assert await first.outcome_names(*EARLY) == ["held"] * 3
    assert await first.outcome_names(*EARLY) == ["held again"] * 3
    assert await held_count(database) == 3
    await second.processor.claim(second.partition)
    with pytest.raises(Fenced):
        await first.outcome_names(create_command(update_id="created"))
    assert await second.outcome_names(create_command(update_id="created")) == ["applied"]
    assert await steps(database) == ["created", "picked_up", "in_transit", "delivered"]
    assert await held_count(database) == 0
    assert await database.updates.count_documents({}) == 0
    assert await second.outcome_names(*EARLY) == ["applied again"] * 3
    assert await faults(database) == []


@pytest.mark.parametrize("clock_ahead", [-HOUR, timedelta(), HOUR])
async def test_the_time_is_over_by_the_clock_of_the_database_whatever_that_of_an_owner(
    database: Database, clock_ahead: timedelta
) -> None:
    owner, clock = HoldingOwner(database, clock_ahead=clock_ahead), Clock(database)
    sweep = sweep_of(owner, clock)
    await owner.outcome_names(create_command(), update("delivered"), update("picked_up", "o-2"))
    clock.ahead = timedelta(seconds=HOLD_SECONDS) - 30 * SECOND
    await sweep.look()
    assert await held_count(database) == 2
    clock.ahead = Clock.ahead
    await sweep.look()
    assert await held_count(database) == 0
    refused = {one["order_id"]: one async for one in database.updates.find({})}
    assert {name: one["problem"] and one["problem"]["slug"] for name, one in refused.items()} == {
        "o-1": "invalid-transition",
        "o-2": "order-not-found",
    }
    assert "expires_at" in refused["o-2"]
    assert await owner.outcome_names(update("delivered")) == ["invalid-transition"]
    assert sweep.age_seconds() < 30
    assert await faults(database) == []


async def test_of_two_owners_who_found_that_its_time_is_over_one_decides_it(database: Database) -> None:
    old, new = HoldingOwner(database), HoldingOwner(database)
    await old.outcome_names(update("picked_up"))
    clock = Clock(database)
    found = await clock.find(0, await clock.time(), 10)
    await new.processor.claim(new.partition)
    with pytest.raises(Fenced):
        await sweep_of(old, clock).record(old.consumer, found, await clock.time())
    assert await sweep_of(new, clock).record(new.consumer, found, await clock.time()) == 1
    assert await sweep_of(new, clock).record(new.consumer, found, await clock.time()) == 0


async def test_an_update_that_our_own_code_fails_on_holds_up_no_other_and_its_sender_is_not_logged(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    owner = HoldingOwner(database)
    sender = Source(type="driver", id="dora@example.com")
    await owner.outcome_names(*(update("picked_up", f"o-{number}", source=sender) for number in range(3)))
    await database.held.update_one({"order_id": "o-1"}, {"$set": {"command": "not a command"}})
    sweep = sweep_of(owner, Clock(database))
    for _ in range(2):
        await sweep.look()
    assert [one["order_id"] async for one in database.held.find({})] == ["o-1"]
    assert await held_count(database) == 1
    assert "o-1/picked_up is due, and it cannot be recorded" in caplog.text
    assert "example.com" not in caplog.text


async def test_where_nothing_is_held_nothing_is_asked(database: Database) -> None:
    class Asked(EndedHolds):
        async def time(self) -> datetime:
            raise AssertionError("asked")

    owner = HoldingOwner(database, workflow=DEFAULT_WORKFLOW)
    assert await owner.outcome_names(update("picked_up"), create_command()) == ["order-not-found", "applied"]
    assert not await sweep_of(owner, Asked(database)).look()
    [partition] = await read_partitions(database)
    assert "held" not in partition


async def test_bounds_of_an_order_and_of_a_sender(database: Database) -> None:
    owner = HoldingOwner(database)
    some = [update("in_transit", update_id=f"u{n}") for n in range(MAX_HELD_PER_ORDER + 1)]
    assert await owner.outcome_names(*some[:20]) == ["held"] * 20
    assert await owner.outcome_names(*some[20:]) == ["held"] * 12 + ["order-not-found"]
    assert await owner.outcome_names(create_command(), update("picked_up")) == ["applied"] * 2
    assert len(await steps(database)) == 2 + MAX_HELD_PER_ORDER
    invented = [update("picked_up", uuid4().hex) for _ in range(MAX_WAITING_PER_SENDER + 1)]
    assert set(await owner.outcome_names(*invented[:-1])) == {"held"}
    assert await owner.outcome_names(invented[-1]) == ["order-not-found"]
    assert await held_count(database) == MAX_WAITING_PER_SENDER
    sweep = sweep_of(owner, Clock(database))
    await sweep.look()
    assert await held_count(database) == 0
    assert await owner.outcome_names(update("picked_up", uuid4().hex)) == ["held"]
    assert await faults(database) == []


async def test_a_batch_whose_orders_wait_with_too_much_is_divided(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_updates, "MAX_HELD_PER_BATCH", 5)
    owner = HoldingOwner(database)
    ids = [uuid4().hex for _ in range(6)]
    for order_id in ids:
        await owner.outcome_names(update("picked_up", order_id), update("in_transit", order_id))
    assert await owner.outcome_names(*(create_command(order_id) for order_id in ids)) == ["applied"] * 6
    assert {len(await steps(database, order_id)) for order_id in ids} == {3}
    assert await held_count(database) == 0
    assert await database.parked.count_documents({}) == 0


async def test_a_refusal_makes_way_for_a_held_update(database: Database) -> None:
    early = update("picked_up", update_id=content_update_id(b"picked up"))
    assert await HoldingOwner(database, workflow=DEFAULT_WORKFLOW).outcome_names(early) == ["order-not-found"]
    owner = HoldingOwner(database)
    assert await owner.outcome_names(early) == ["held"]
    assert await database.updates.count_documents({}) == 0
    assert await owner.outcome_names(create_command()) == ["applied"]
    assert await owner.outcome_names(early) == ["applied again"]


async def test_what_an_earlier_release_has_applied_meanwhile_is_not_applied_again(database: Database) -> None:
    owner = HoldingOwner(database)
    await owner.outcome_names(create_command(update_id="created"), update("in_transit"))
    [held] = await database.held.find({}).to_list()
    await database.held.delete_many({})  # an earlier release does not know the collection
    await database.partitions.update_many({}, {"$unset": {"held": ""}})
    earlier = HoldingOwner(database, workflow=DEFAULT_WORKFLOW)
    await earlier.outcome_names(update("picked_up"), update("in_transit"))
    await database.held.insert_one(held)
    await database.partitions.update_many({}, {"$set": {"held": 1}})
    owner = HoldingOwner(database)
    assert await owner.outcome_names(update("in_transit", update_id="again")) == ["applied"]
    assert await steps(database) == ["created", "picked_up", "in_transit", "again"]
    assert await held_count(database) == 0


async def test_the_check_finds_what_is_wrong_with_held_updates(database: Database) -> None:
    owner = HoldingOwner(database)
    await owner.outcome_names(create_command("o-2"), update("picked_up"), update("delivered", "o-2"))
    assert await faults(database) == []
    past = now() - HOUR
    await database.held.update_one({"order_id": "o-1"}, {"$set": {"until": past}})
    assert await faults(database) == [f"update o-1/picked_up is held, though its time was over at {past}"]
    await database.held.delete_one({"order_id": "o-1"})
    assert await faults(database) == ["partition 0: 1 updates are held, it says 2"]
    await database.partitions.update_one({"_id": 0}, {"$set": {"held": 1}})
    [held] = await database.held.find({}).to_list()
    event = await database.order_events.find_one({})
    assert event is not None
    await database.held.replace_one(
        {"_id": held["_id"]}, {**held, "update_id": event["update_id"], "source": event["source"]}
    )
    assert await faults(database) == [f"update o-2/{event['update_id']} is held, and has an outcome"]


async def test_an_operator_sees_what_is_held(database: Database, mongodb_url: str) -> None:
    owner = HoldingOwner(database)
    await owner.outcome_names(update("picked_up", metadata={"secret": "s3cret"}), update("in_transit", "o-2"))
    lines = [line async for line in list_held(mongodb_url, database.raw.name, 1)]
    assert lines[0] == "2 held updates"
    assert lines[1].startswith("o-1  update picked_up  picked_up  of dora  since ")
    assert lines[2] == "and 1 more; --limit shows up to 10,000"
    assert "s3cret" not in "".join(lines)
