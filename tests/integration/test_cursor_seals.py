"""Sealed cursors: who makes the key, who finds it, and that two neighbouring releases get on."""

import asyncio
import secrets
from base64 import urlsafe_b64decode

from notifier_stack import StartService, eventually, new_order, notifier_stage, raw_client, subscribed
from query_stack import PARTITIONS, QueryClient, random_world, running_query, store, token

from positions import position_of
from tracking_shared.auth.cursor_seals import CursorSeals
from tracking_shared.contracts.cursors import (
    CursorSeal,
    InvalidCursor,
    Position,
    decode_cursor,
    encode_cursor,
)
from tracking_shared.contracts.documents import cursor_key_id
from tracking_shared.contracts.timestamps import now
from tracking_shared.storage.database import SEALING_GRACE, Database, open_database

EPOCH = "0123456789ab"


def is_clear(cursor: str) -> bool:
    try:
        decode_cursor(cursor)
    except InvalidCursor:
        return False
    return True


async def prepare_as_before(database: Database) -> None:
    """As the release before this one leaves a new database."""
    await database.raw["settings"].insert_one({"_id": "partitions", "count": PARTITIONS, "epoch": EPOCH})
    for partition in range(PARTITIONS):
        await database.partitions.insert_one(
            {"_id": partition, "seq": 0, "commits": 0, "worker": "", "epoch": EPOCH, "parked": []}
        )


async def test_a_new_installation_seals_at_once_with_one_key_for_all(
    mongodb_url: str, database_name: str
) -> None:
    async with open_database(mongodb_url, database_name) as database:
        await asyncio.gather(*(database.prepare(PARTITIONS) for _ in range(6)))
        keys = await database.raw["settings"].find({"_id": {"$regex": "^cursor_key/"}}).to_list()
        stored = await database.raw["settings"].find_one({"_id": "partitions"})
        assert stored is not None
        assert [key["_id"] for key in keys] == [cursor_key_id(stored["epoch"])]
        assert keys[0]["sealed_from"] <= now()
        position = Position(stored["epoch"], (1, 2, 3, 4))
        one, another = CursorSeals(database), CursorSeals(database)
        await one.learn(position.epoch)
        await another.look_for(None)
        assert one.encode(position) == another.encode(position)
        assert not is_clear(one.encode(position))
        assert another.decode(one.encode(position)) == position


async def test_where_an_earlier_release_began_cursors_stay_clear_for_a_day(
    mongodb_url: str, database_name: str
) -> None:
    async with open_database(mongodb_url, database_name) as database:
        await prepare_as_before(database)
        began = now()
        for _ in range(2):
            await database.prepare(PARTITIONS)
        key = await database.raw["settings"].find_one({"_id": cursor_key_id(EPOCH)})
        assert key is not None
        assert began + SEALING_GRACE <= key["sealed_from"] <= now() + SEALING_GRACE
        seals = CursorSeals(database)
        await seals.learn(EPOCH)
        position = Position(EPOCH, (1, 2, 3, 4))
        assert seals.encode(position) == encode_cursor(position)
        sealed = CursorSeal(EPOCH, key["key"], 0).seal(position.seqs)
        assert seals.decode(sealed) == seals.decode(encode_cursor(position)) == position


async def read(query: QueryClient, after: str) -> tuple[int, str]:
    answer = await query.get("/v1/events", {"after": after, "limit": 1}, token=token())
    return answer.status, answer.json["cursor"] if answer.status == 200 else answer.slug


async def test_the_log_is_read_on_from_sealed_and_clear_cursors(mongodb_url: str) -> None:
    async with running_query(mongodb_url) as query:
        await store(query.database, random_world(4, 4))
        answer = await query.get("/v1/events", {"limit": 3}, token=token())
        cursor = answer.json["cursor"]
        assert not is_clear(cursor)
        position = await position_of(query.database, cursor)
        assert sum(position.seqs) == 3
        assert await read(query, cursor) == await read(query, encode_cursor(position))
        assert len((await read(query, cursor))[1]) == len(cursor)
        elsewhere = CursorSeal(position.epoch, secrets.token_bytes(32), 0).seal(position.seqs)
        assert await read(query, elsewhere) == (410, "cursor-expired")
        changed = cursor[:-2] + ("AA" if cursor[-2:] != "AA" else "BA")
        assert await read(query, changed) == (400, "invalid-cursor")


async def test_a_reader_finds_the_key_that_is_made_while_it_runs(
    mongodb_url: str, database_name: str
) -> None:
    async with running_query(mongodb_url, database_name) as query:
        await prepare_as_before(query.database)
        position = Position(EPOCH, (0,) * PARTITIONS)
        assert await read(query, encode_cursor(position)) == (200, encode_cursor(position))
        await query.database.prepare(PARTITIONS)
        await query.database.raw["settings"].update_one(
            {"_id": cursor_key_id(EPOCH)}, {"$set": {"sealed_from": now()}}
        )

        async def seals() -> bool:
            return not is_clear((await read(query, encode_cursor(position)))[1])

        await eventually(seals)


async def test_the_stream_takes_the_cursors_of_the_log_and_gives_its_own(
    start_service: StartService, service_environment: dict[str, str]
) -> None:
    environment = service_environment
    async with notifier_stage(start_service, environment) as stage:
        await stage.stub.commit((new_order(), "acme", "created"))
        async with subscribed(stage.url, stage.token()) as client:
            [event] = await stage.stub.commit((new_order(), "acme", "created"))
            cursor = (await client.receive())["cursor"]
        position = await position_of(stage.stub.database, cursor)
        assert position.seqs[event["partition"]] == event["seq"]
        content = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        assert content[0] != ord("{")

        seals = CursorSeals(stage.stub.database)
        await seals.look_for(None)
        [missed] = await stage.stub.commit((new_order(), "acme", "created"))
        for after in (cursor, seals.encode(position), encode_cursor(position)):
            async with raw_client(stage.url) as client:
                await client.send(type="subscribe", token=stage.token(), after=after)
                events, live = await client.until("live")
                assert [e["subject"] for e in events["events"]] == [missed["order_id"]]
                assert len(live["cursor"]) == len(cursor)

        elsewhere = CursorSeal(position.epoch, secrets.token_bytes(32), 0).seal(position.seqs)
        async with raw_client(stage.url) as client:
            await client.send(type="subscribe", token=stage.token(), after=elsewhere)
            assert (await client.receive())["reason"] == "epoch-changed"
        async with raw_client(stage.url) as client:
            await client.send(type="subscribe", token=stage.token(), after=cursor[:-4] + "AAAA")
            code, _, messages = await client.closed()
            assert (code, messages[-1]["problem"]["type"]) == (4400, "/problems/invalid-cursor")
