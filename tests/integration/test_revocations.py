"""Revoked tokens stop serving, within the stated time, and only they."""

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from notifier_stack import StartService, eventually, ids, new_order, notifier_stage, raw_client, subscribed
from query_stack import PARTITIONS, running_query
from query_stack import token as query_token

from tracking.devstack.database_node import DatabaseNode
from tracking_shared.auth.revocations import (
    LOOK_SECONDS,
    MAX_REVOCATIONS,
    RevocationList,
    Revocations,
    TooManyRevocations,
    revoke_subject,
    revoke_token,
)
from tracking_shared.contracts.timestamps import now
from tracking_shared.storage.database import DatabaseUnavailable, open_database

BOUND_SECONDS = LOOK_SECONDS + 8
"""A busy machine has a look late, and ends the streams late."""


async def test_open_streams_of_revoked_tokens_end_in_time_and_others_do_not(
    start_service: StartService, service_environment: dict[str, str]
) -> None:
    order = new_order()
    async with notifier_stage(start_service, service_environment) as stage:
        stolen, kept = stage.token(jti="stolen", iat=time.time()), stage.token(jti="kept", iat=time.time())
        database = stage.stub.database
        async with subscribed(stage.url, stolen) as of_stolen, subscribed(stage.url, kept) as of_kept:
            await revoke_token(database, "stolen")
            code, reason, messages = await of_stolen.closed(seconds=BOUND_SECONDS)
            assert (code, reason) == (4401, "revoked")
            assert messages[-1]["problem"]["type"] == "/problems/unauthenticated"
            await stage.stub.commit((order, "acme", "created"))
            assert ids(await of_kept.events(1)) == [f"{order}:1"]

            async with raw_client(stage.url) as again:
                await again.send(type="subscribe", token=stolen)
                assert (await again.closed())[:2] == (4401, "revoked")
            await of_kept.send(type="refresh", token=stolen)
            assert (await of_kept.receive())["problem"]["detail"] == "The token has been revoked."

            await revoke_subject(database, "tester", issued_before=now() + timedelta(seconds=1))
            assert (await of_kept.closed(seconds=BOUND_SECONDS))[:2] == (4401, "revoked")
        async with (
            subscribed(stage.url, stage.token(iat=time.time() + 2)),
            subscribed(stage.url, stage.token(sub="another")),
        ):
            assert await stage.metric("tracking_stream_connections") == 2


async def test_what_was_revoked_of_a_subject_stays_revoked(mongodb_url: str, database_name: str) -> None:
    late, early = now(), now() - timedelta(hours=1)
    async with open_database(mongodb_url, database_name) as database:
        for issued_before in (late, early):
            await revoke_subject(database, "driver-7", issued_before=issued_before)
        document = await database.revocations.find_one({})
        assert document is not None
        assert document["issued_before"] == late


async def test_query_refuses_revoked_tokens(mongodb_url: str) -> None:
    stolen, kept = query_token(jti="stolen"), query_token(jti="kept")
    async with running_query(mongodb_url) as client:
        await client.database.prepare(PARTITIONS)
        assert (await client.get("/v1/orders", token=stolen)).status == 200
        await revoke_token(client.database, "stolen")

        async def refused() -> bool:
            return (await client.get("/v1/orders", token=stolen)).status == 401

        await eventually(refused, seconds=BOUND_SECONDS)
        answer = await client.get("/v1/orders", token=stolen)
        assert (answer.slug, answer.json["detail"]) == ("unauthenticated", "The token has been revoked.")
        assert (await client.get("/v1/orders", token=kept)).status == 200


async def test_what_is_known_holds_while_the_database_is_away(
    start_database: Callable[[], Awaitable[DatabaseNode]],
) -> None:
    node = await start_database()
    async with open_database(node.url, "tracking") as database:
        await database.prepare(1)
        revocations = RevocationList(database)
        await revoke_token(database, "stolen")
        assert await revocations.look()
        await node.kill()
        with pytest.raises(DatabaseUnavailable):
            await revocations.look()
        assert revocations.known.token_ids == {"stolen"}
        await node.start()
        assert not await revocations.look()
        await revoke_token(database, "stolen-too")
        assert await revocations.look()
        assert revocations.known.token_ids == {"stolen", "stolen-too"}


async def test_revoking_again_replaces_and_a_dropped_database_revokes_nothing(
    mongodb_url: str, database_name: str
) -> None:
    early, late = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)
    async with open_database(mongodb_url, database_name) as database:
        await database.prepare(1)
        revocations = RevocationList(database)
        assert not await revocations.look()
        for issued_before in (early, late):
            await revoke_subject(database, "ann", issued_before=issued_before, until=late)
        assert await revocations.look()
        assert revocations.known == Revocations(issued_before={"ann": late.timestamp()})
        assert not await revocations.look()
        await database.client.drop_database(database_name)
        assert await revocations.look()
        assert revocations.known == Revocations()


async def test_the_list_is_bounded(mongodb_url: str, database_name: str) -> None:
    async with open_database(mongodb_url, database_name) as database:
        await database.prepare(1)
        await database.raw["revocations"].insert_many(
            {"_id": f"jti/{number}", "token_id": f"{number}", "subject": None, "issued_before": None}
            for number in range(MAX_REVOCATIONS)
        )
        with pytest.raises(TooManyRevocations):
            await revoke_token(database, "one-more")
