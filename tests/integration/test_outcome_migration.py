"""The outcomes of applied updates move into their events: in place, while everything runs, side by side with
an order-state of the release before.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from builders import TIME, create_command, update_command
from callers import Answer, Caller, eventually, many_lives
from fixtures import StartService
from listeners import examine, listening
from statements.recording import with_recording
from stored_outcomes import end_grace, make_earlier, stored_outcomes
from tracking.devstack.service_process import PORT_VARIABLES
from tracking.upkeep.checker import find_faults
from tracking.upkeep.record_reader import read_records
from tracking_order_state.adapters import migration
from tracking_order_state.adapters.migration import OutcomeMigration
from tracking_order_state.adapters.store import Store
from tracking_order_state.domain.batch import decide_batch
from tracking_order_state.domain.decisions import Known
from tracking_shared.contracts.commands import AnyCommand, Outcome
from tracking_shared.contracts.documents import applied_outcome
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.storage.database import Database, open_database

PARTITIONS = "4"
HERE = str(Path(__file__).parent.parent)
ORDERS = 12


@pytest.fixture
def environment(service_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for module in ("faulty_order_state", "earlier_order_state"):
        monkeypatch.setitem(PORT_VARIABLES, module, "ORDER_STATE_PORT")
    service_environment |= {
        "PARTITIONS": PARTITIONS,
        "PYTHONPATH": with_recording(HERE),
        "REBALANCE_SECONDS": "2",
    }
    return service_environment


@pytest.fixture
async def database(environment: dict[str, str]) -> AsyncIterator[Database]:
    """A database that the release before has set up."""
    async with open_database(environment["MONGODB_URL"], environment["MONGODB_DATABASE"]) as database:
        await database.prepare(int(PARTITIONS))
        await make_earlier(database)
        yield database


async def repeated(caller: Caller) -> list[Answer]:
    """The answers to updates that were applied before."""
    applied = [told for told in caller.acknowledged if told.outcome == "applied" and told.version == 2]
    return [
        await caller.insist(
            f"/v1/orders/{told.order_id}/updates",
            {"status": "picked_up", "metadata": {"step": 0}},
            told.update_id,
            told.order_id,
        )
        for told in applied
    ]


def are_replays(answers: list[Answer]) -> bool:
    told = {(answer.status, answer.body["outcome"], answer.body["version"]) for answer in answers}
    return told == {(200, "duplicate", 2)}


async def is_migrated(database: Database) -> bool:
    form = await database.form_of_outcomes()
    return form is not None and form["migrated"]


async def test_killed_in_the_middle_it_goes_on_where_it_stood_and_reads_answer_all_the_time(
    environment: dict[str, str], database: Database, start_service: StartService
) -> None:
    async with listening(environment["AMQP_URL"], int(PARTITIONS)) as announced:
        ingest = await start_service("ingest")
        earlier = await start_service("earlier_order_state")
        async with Caller([ingest.url]) as caller:
            await many_lives(caller, ORDERS)
            await earlier.stop()
            assert await database.order_events.count_documents({"update_key": {"$exists": True}}) == 0
            before = await stored_outcomes(database)
            await end_grace(database)

            faulty = await start_service("faulty_order_state", FAULT="kill:migrating", wait=False)
            await faulty.process.wait()
            assert find_faults(await read_records(database), caller.acknowledged) == []
            assert await stored_outcomes(database) == before
            migrated = await database.order_events.count_documents({"update_key": {"$exists": True}})
            assert 0 < migrated < await database.order_events.count_documents({})

            await start_service("order_state")
            assert are_replays(await repeated(caller))
            await many_lives(caller, 4)
            await eventually(lambda: is_migrated(database))
            assert are_replays(await repeated(caller))
        await examine(environment, caller.acknowledged, announced)
        assert before.items() <= (await stored_outcomes(database)).items()
        assert await database.updates.count_documents({"outcome": "applied"}) == 0
        assert await database.order_events.count_documents({"update_key": {"$exists": False}}) == 0


async def test_side_by_side_with_the_release_before_each_knows_what_the_other_has_applied(
    environment: dict[str, str], database: Database, start_service: StartService
) -> None:
    async with listening(environment["AMQP_URL"], int(PARTITIONS)) as announced:
        ingest = await start_service("ingest")
        async with Caller([ingest.url]) as caller:
            for module in ("earlier_order_state", "order_state", "earlier_order_state", "order_state"):
                owner = await start_service(module)
                await many_lives(caller, 4)
                assert are_replays(await repeated(caller))
                await owner.stop()
            ordinals = enumerate(("earlier_order_state", "order_state"))
            for ordinal, module in ordinals:
                await start_service(module, REPLICA_ORDINAL=str(ordinal), REPLICA_COUNT="2")
            lives = asyncio.create_task(many_lives(caller, ORDERS))
            assert are_replays(await repeated(caller))
            await lives
            assert are_replays(await repeated(caller))
        await examine(environment, caller.acknowledged, announced)


async def decide(database: Database, commands: list[AnyCommand]) -> list[Outcome | None]:
    """The outcomes of commands, as a worker decides and commits them."""
    store = Store(database)
    position = await store.claim(0)
    decided = decide_batch(
        commands,
        await store.load(commands),
        partition=0,
        seq=position.seq,
        time=TIME,
        workflow=DEFAULT_WORKFLOW,
    )
    await store.commit([position], [decided])
    return decided.outcomes


@pytest.mark.parametrize("chunk", [1, 2, 100])
async def test_an_id_that_an_earlier_release_let_take_effect_twice_is_that_of_the_newest(
    mongodb_url: str, database_name: str, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(migration, "CHUNK_EVENTS", chunk)
    async with open_database(mongodb_url, database_name) as database:
        await database.prepare(1)
        await make_earlier(database)
        create, first = create_command(update_id="c"), update_command(update_id="u")
        second = update_command(status="in_transit", update_id="u")
        orders: dict[str, Any] = {}
        for seq, command in enumerate([create, first, second]):
            known = Known(orders, {}, {})
            made = decide_batch(
                [command],
                known,
                partition=0,
                seq=seq,
                time=TIME + timedelta(days=31 * seq),
                workflow=DEFAULT_WORKFLOW,
            )
            orders |= made.orders
            [event] = made.events
            outcome = applied_outcome(event)
            del event["update_key"], event["fingerprint"]
            await database.order_events.insert_one(event)
            if seq == 2:  # those of the others have expired
                await database.updates.insert_one(outcome)
        await database.orders.insert_many(list(orders.values()))
        await database.partitions.update_one({"_id": 0}, {"$set": {"seq": 3}})
        await database.prepare(1)
        await end_grace(database)

        mover = OutcomeMigration(database)
        while not await mover.step():
            pass

        told = [
            (one and one["outcome"], one and one["version"])
            for one in await decide(database, [create, first, second])
        ]
        assert told == [("applied", 1), ("rejected", None), ("applied", 3)]
        assert await database.updates.count_documents({}) == 0
        assert await database.order_events.count_documents({}) == 3
        await database.client.drop_database(database_name)
