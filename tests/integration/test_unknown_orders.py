"""Updates of orders that do not exist: their refusals are kept, in a number that no sender can exceed."""

from collections.abc import AsyncIterator

import pytest

from builders import create_command, update_command
from stored_outcomes import stored_outcomes
from tracking_order_state.adapters.outcomes import MAX_UNKNOWN_PER_SENDER, UNKNOWN_LIFE
from tracking_order_state.adapters.store import Store
from tracking_order_state.domain.batch import decide_batch
from tracking_shared.contracts.commands import AnyCommand, Source
from tracking_shared.contracts.identifiers import content_update_id
from tracking_shared.contracts.timestamps import now
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.storage.database import Database, open_database

NOW = now()
"""What expires is removed by the database, so it must not be long ago."""

INVENTOR, HONEST = Source(type="driver", id="inventor"), Source(type="driver", id="honest")


@pytest.fixture
async def database(mongodb_url: str, database_name: str) -> AsyncIterator[Database]:
    async with open_database(mongodb_url, database_name) as database:
        await database.prepare(1)
        yield database
        await database.client.drop_database(database_name)


async def answers(database: Database, commands: list[AnyCommand]) -> list[tuple[str, bool]]:
    """The problem of each command, or that it was applied, and whether that is the stored outcome."""
    store = Store(database)
    position = await store.claim(0)
    known = await store.load(commands)
    decided = decide_batch(
        commands, known, partition=0, seq=position.seq, time=NOW, workflow=DEFAULT_WORKFLOW
    )
    await store.commit([position], [decided])
    return [
        (one["problem"]["slug"] if one["problem"] else one["outcome"], one["replayed"])
        for one in decided.outcomes
        if one
    ]


def invented(start: int, number: int) -> list[AnyCommand]:
    return [update_command(f"no-{n}", update_id="u", source=INVENTOR) for n in range(start, start + number)]


async def test_the_newest_refusals_of_a_sender_are_kept_and_others_lose_none(database: Database) -> None:
    early: list[AnyCommand] = [update_command("not-yet", update_id="u", source=HONEST)]
    assert await answers(database, early) == [("order-not-found", False)]
    for start in range(0, 2 * MAX_UNKNOWN_PER_SENDER, 100):
        await answers(database, invented(start, 100))
    await answers(database, invented(1_000, MAX_UNKNOWN_PER_SENDER + 7))  # more than the bound at once

    kept = [one for one in (await stored_outcomes(database)).values() if one["source"]["id"] == "inventor"]
    assert {one["order_id"] for one in kept} == {f"no-{1_007 + n}" for n in range(MAX_UNKNOWN_PER_SENDER)}
    assert {one["expires_at"] for one in kept} == {NOW + UNKNOWN_LIFE}
    assert await database.unknown_orders.count_documents({}) == 2
    assert await answers(database, early) == [("order-not-found", True)]
    assert await answers(database, invented(1_007, 1)) == [("order-not-found", True)]
    assert await answers(database, invented(1_006, 1)) == [("order-not-found", False)]


async def test_what_is_not_of_its_sender_any_more_stays_when_room_is_made(database: Database) -> None:
    name = content_update_id(b"picked up")
    early = update_command("o-1", update_id=name, source=INVENTOR)
    await answers(database, [early])
    applied = await answers(database, [create_command("o-1", update_id="c"), early])
    assert applied == [("applied", False), ("applied", False)]
    refused = update_command("o-1", "delivered", update_id="late", source=INVENTOR)
    await answers(database, [refused])
    await answers(database, invented(0, MAX_UNKNOWN_PER_SENDER + 1))
    assert await answers(database, [early, refused]) == [("applied", True), ("invalid-transition", True)]
    assert await database.updates.find_one({"_id": "o-1/late", "expires_at": {"$exists": True}}) is None
