"""The check of a whole database: the same faults as the checker finds, slice by slice."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from itertools import count, islice
from typing import Any

import pytest

from builders import create_command, update_command
from tracking.upkeep.check import MAX_FAULTS, Findings, check_records
from tracking.upkeep.checker import Records
from tracking.upkeep.record_reader import (
    SLICE_EVENTS,
    NoInstallation,
    order_slices,
    outcome_slices,
    read_partitions,
)
from tracking_order_state.domain.batch import decide_batch
from tracking_order_state.domain.decisions import Known
from tracking_shared.contracts.documents import EventDocument, applied_outcome, update_key
from tracking_shared.contracts.identifiers import partition_of
from tracking_shared.contracts.timestamps import now
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.storage.database import UPDATES_TTL_SECONDS, Database, open_database

ORDERS = SLICE_EVENTS  # with three events each: three slices and a bit
PARTITIONS = 2
Slices = Callable[[Database, int], AsyncIterator[Records]]
Seed = Callable[[Database], Awaitable[Any]]


async def _record(database: Database, order_ids: list[str], *, days_ago: float = 0) -> None:
    """Records three updates of each order, the third of them refused, as order-state does."""
    time = now() - timedelta(days=days_ago)
    for partition in await read_partitions(database):
        commands = [
            command
            for order_id in order_ids
            if partition_of(order_id, PARTITIONS) == partition["_id"]
            for command in (
                create_command(order_id),
                update_command(order_id, "picked_up"),
                update_command(order_id, "delivered"),
                update_command(order_id, "cancelled"),
            )
        ]
        decided = decide_batch(
            commands,
            Known({}, {}, {}),
            partition=partition["_id"],
            seq=partition["seq"],
            time=time,
            workflow=DEFAULT_WORKFLOW,
        )
        if not decided.events:
            continue
        await database.orders.insert_many(decided.orders.values())
        await database.order_events.insert_many(decided.events)
        await database.updates.insert_many(decided.refusals.values())
        await database.partitions.update_one(
            {"_id": partition["_id"]}, {"$inc": {"seq": len(decided.events)}}
        )


def _order_id(number: int) -> str:
    return f"o-{number:05}"


@pytest.fixture
async def empty(mongodb_url: str, database_name: str) -> AsyncIterator[Database]:
    """A database that is set up, for two partitions."""
    async with open_database(mongodb_url, database_name) as database:
        await database.prepare(PARTITIONS)
        yield database
        await database.client.drop_database(database_name)


async def _check(database: Database) -> Findings:
    return await check_records(database, await read_partitions(database), DEFAULT_WORKFLOW)


async def test_many_orders_are_read_in_slices_and_each_is_looked_at_once(empty: Database) -> None:
    await _record(empty, [_order_id(number) for number in range(ORDERS)])
    looked: list[int] = []

    findings = await check_records(empty, await read_partitions(empty), DEFAULT_WORKFLOW, looked.append)

    assert findings == Findings(orders=ORDERS, events=3 * ORDERS, outcomes=4 * ORDERS, partitions=PARTITIONS)
    assert sum(looked) == 4 * ORDERS
    assert max(looked) < 2 * SLICE_EVENTS + 2_000


async def _event(database: Database, **where: Any) -> EventDocument:
    event = await database.order_events.find_one(where)
    assert event is not None
    return event


async def _remove_the_last_event_of_the_log(database: Database) -> None:
    last = await database.order_events.find({}).sort("_id", -1).limit(1).next()
    await database.order_events.delete_one({"_id": last["_id"]})


async def _remove_the_outcome(database: Database) -> None:
    event = await _event(database, order_id=_order_id(3))
    await _forget_outcomes(database, {"_id": event["_id"]})


async def _forget_outcomes(database: Database, where: dict[str, Any]) -> None:
    await database.order_events.update_many(where, {"$unset": {"update_key": "", "fingerprint": ""}})


async def _copy_an_outcome(database: Database) -> None:
    await database.updates.insert_one(applied_outcome(await _event(database, order_id=_order_id(1))))


async def _refuse_what_took_effect(database: Database) -> None:
    event = await _event(database, order_id=_order_id(3))
    refused = applied_outcome(event) | {"outcome": "rejected", "position": None, "version": None}
    await database.raw["updates"].insert_one(refused)


async def _remove_order_and_history(database: Database) -> None:
    await _copy_an_outcome(database)
    await database.order_events.delete_many({"order_id": _order_id(1)})
    await database.orders.delete_one({"_id": _order_id(1)})


async def _remove_every_trace_of_an_early_order(database: Database) -> None:
    later = await _event(database, seq=4)  # three events an order: of another one
    order_id = (await _event(database, partition=later["partition"], seq=1))["order_id"]
    await database.order_events.delete_many({"order_id": order_id})
    await database.updates.delete_many({"order_id": order_id})
    await database.orders.delete_one({"_id": order_id})


async def _park_what_has_an_outcome(database: Database) -> None:
    event = await _event(database, order_id=_order_id(3))
    key = update_key(event["order_id"], event["update_id"])
    parked = {"_id": key, "order_id": event["order_id"], "partition": event["partition"], "place": 1}
    await database.raw["parked"].insert_one(parked)


@pytest.mark.parametrize(
    ("seed", "fault"),
    [
        (_remove_every_trace_of_an_early_order, "seqs are not exactly"),
        (lambda db: db.order_events.delete_one({"order_id": _order_id(2), "version": 2}), "versions are"),
        (_remove_the_last_event_of_the_log, "seqs are not exactly"),
        (_remove_order_and_history, "without its event"),
        (lambda db: db.orders.update_one({"_id": _order_id(5)}, {"$set": {"version": 1}}), "not the fold"),
        (lambda db: db.orders.delete_one({"_id": _order_id(5)}), "not the fold"),
        (lambda db: db.orders.update_one({"_id": _order_id(0)}, {"$set": {"status": "x"}}), "not the fold"),
        (
            lambda db: db.order_events.delete_many({"order_id": _order_id(0)}),
            f"{_order_id(0)} has no history",
        ),
        (
            lambda db: db.order_events.delete_many({"order_id": _order_id(5)}),
            f"{_order_id(5)} has no history",
        ),
        (_remove_the_outcome, "has no stored outcome"),
        (
            lambda db: db.updates.update_one({"outcome": "rejected"}, {"$set": {"outcome": "applied"}}),
            "without its event",
        ),
        (lambda db: db.partitions.update_one({"_id": 0}, {"$inc": {"seq": 1}}), "seqs are not exactly"),
        (_refuse_what_took_effect, "is stored as refused, and took effect"),
        (_park_what_has_an_outcome, "is parked, and has an outcome"),
        (_park_what_has_an_outcome, "what is parked is not what its partition says"),
    ],
)
async def test_a_fault_that_is_seeded_into_the_database_is_found(
    empty: Database, seed: Seed, fault: str
) -> None:
    await _record(empty, [_order_id(number) for number in range(6)])
    assert (await _check(empty)).faults == 0

    await seed(empty)

    findings = await _check(empty)
    assert findings.faults == len(findings.examples) > 0
    assert any(fault in example for example in findings.examples), findings.examples


async def test_outcomes_that_are_no_longer_kept_are_not_missed(empty: Database) -> None:
    days_kept = UPDATES_TTL_SECONDS / 86400
    await _record(empty, ["kept"], days_ago=days_kept - 1)
    await _record(empty, ["forgotten"], days_ago=days_kept + 1)
    await _forget_outcomes(empty, {"order_id": "forgotten"})
    assert (await _check(empty)).faults == 0

    await _forget_outcomes(empty, {"order_id": "kept"})
    assert (await _check(empty)).faults == 3


async def test_of_many_faults_a_bounded_number_is_kept_in_words(empty: Database) -> None:
    await _record(empty, [_order_id(number) for number in range(MAX_FAULTS + 5)])
    await empty.orders.delete_many({})

    findings = await _check(empty)

    assert (findings.faults, len(findings.examples)) == (MAX_FAULTS + 5, MAX_FAULTS)


async def test_what_is_applied_during_the_examination_is_told(empty: Database) -> None:
    partitions = await read_partitions(empty)
    await _record(empty, [_order_id(0)])

    assert (await check_records(empty, partitions, DEFAULT_WORKFLOW)).applied_meanwhile == 3


@pytest.mark.parametrize("slices", [order_slices, outcome_slices])
async def test_it_ends_though_orders_come_faster_than_it_reads(empty: Database, slices: Slices) -> None:
    ids = (_order_id(number) for number in count())
    await _record(empty, list(islice(ids, 20)))
    read = 0
    async for _ in slices(empty, 20):
        read += 1
        assert read < 10, "it follows the orders that are added"
        await _record(empty, list(islice(ids, 20)))


async def test_an_id_that_another_one_begins_with_is_read(empty: Database) -> None:
    await _record(empty, ["o-1", "o-10", "o-1-1", "o", "o-100"])
    findings = await _check(empty)
    assert (findings.examples, findings.orders) == ([], 5)


async def test_a_database_without_an_installation_is_not_taken_for_a_sound_one(mongodb_url: str) -> None:
    async with open_database(mongodb_url, "test_nothing") as database:
        with pytest.raises(NoInstallation, match="test_nothing"):
            await read_partitions(database)
