"""What decides, and what callers are told for good, never stands on a read from before an acknowledged
commit: not where a secondary would answer, nor a primary that was just elected.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from secrets import token_hex
from time import perf_counter
from typing import Any

import pytest
from notifier_stack import StartService, eventually, ids, new_order, notifier_stage, raw_client, subscribed
from query_stack import PARTITIONS as QUERY_PARTITIONS
from query_stack import random_world, running_query, store, token

from builders import create_command, update_command
from tracking_order_state.adapters import ownership
from tracking_order_state.adapters.store import Store
from tracking_order_state.domain.decisions import Decisions
from tracking_order_state.domain.partition import PartitionPosition
from tracking_order_state.errors import Fenced, Unwritable
from tracking_order_state.processing.batch_processor import BatchProcessor
from tracking_order_state.processing.stages import (
    CommittedBatch,
    PartitionBatch,
    PartitionState,
    ReceivedBatch,
)
from tracking_shared.auth.revocations import RevocationList, revoke_token
from tracking_shared.contracts.commands import AnyCommand
from tracking_shared.contracts.layout import Layout
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.storage.database import Database, open_database
from tracking_shared.storage.reads import newest_partitions
from wire_tap import WireTap, tap_database

Outcomes = list[tuple[str | None, int | None]]


async def nothing() -> None:
    """The deliveries are ours."""


class FailingStore(Store):
    """Some updates cannot be written."""

    async def commit(
        self, positions: Sequence[PartitionPosition], decisions: Sequence[Decisions]
    ) -> list[PartitionPosition]:
        if any(event["update_id"] == "unwritable" for one in decisions for event in one.events):
            raise Unwritable("121")
        return await super().commit(positions, decisions)


class Decider:
    """An order-state without a broker, on one partition."""

    def __init__(self, database: Database, **options: Any) -> None:
        self.store = FailingStore(database, **options)
        self.processor = BatchProcessor(self.store, None, DEFAULT_WORKFLOW, Layout((1,)), 10)  # type: ignore[arg-type]
        self.partition = PartitionState(0, nothing)
        self.committed: CommittedBatch | None = None

    async def decide(self, *commands: AnyCommand) -> Outcomes:
        """The problem or version that each comes to; ("parked", None) for one that is parked."""
        self.partition.begin_batch()
        received = ReceivedBatch([PartitionBatch(self.partition, commands=commands)])
        self.committed = await self.processor.commit(received)
        return [_told(outcome) for outcome in self.committed.results[0].outcomes]


def _told(outcome: Any) -> tuple[str | None, int | None]:
    if outcome is None:
        return "parked", None
    return outcome["problem"] and outcome["problem"]["slug"], outcome["version"]


@asynccontextmanager
async def deciding(url: str, name: str, **options: Any) -> AsyncIterator[tuple[WireTap, Decider]]:
    """An order-state whose reads go through a tap."""
    async with tap_database(url) as tap, open_database(tap.url, name) as database:
        await database.prepare(1)
        yield tap, Decider(database, **options)


@pytest.mark.parametrize("option", ["", "&readPreference=secondaryPreferred"])
async def test_an_update_finds_the_order_that_was_acknowledged_just_before(
    mongodb_url: str, database_name: str, option: str
) -> None:
    async with deciding(mongodb_url + option, database_name) as (tap, order_state):
        await tap.fall_behind(database_name)
        assert await order_state.decide(create_command("o-1")) == [(None, 1)]
        picked_up = update_command("o-1", update_id="u-1")
        assert await order_state.decide(picked_up) == [(None, 2)]
        assert await order_state.decide(picked_up, update_command("o-1", "in_transit")) == [
            (None, 2),
            (None, 3),
        ]


async def test_whoever_takes_over_sees_what_the_worker_before_has_committed(
    mongodb_url: str, database_name: str
) -> None:
    async with deciding(mongodb_url, database_name) as (tap, first):
        await tap.fall_behind(database_name)
        await first.decide(create_command("o-1"), update_command("o-1", update_id="u-1"))
        async with open_database(tap.url, database_name) as database:
            second = Decider(database)
            assert await second.decide(update_command("o-1", update_id="u-1"), update_command("o-1")) == [
                (None, 2),
                ("invalid-transition", None),
            ]


async def test_what_is_parked_is_found_where_it_was_just_put(mongodb_url: str, database_name: str) -> None:
    async with deciding(mongodb_url, database_name) as (tap, order_state):
        await tap.fall_behind(database_name)
        failing = create_command("o-1", update_id="unwritable")
        following = update_command("o-1", update_id="u-1")
        assert await order_state.decide(failing) == [("parked", None)]
        assert await order_state.decide(following, failing, following) == [("parked", None)] * 3
        assert order_state.partition.position is not None
        assert order_state.partition.position.parked_orders["o-1"].size == 2


async def test_a_commit_whose_answer_came_too_late_is_found_and_nothing_is_given_up(
    mongodb_url: str, database_name: str
) -> None:
    async with deciding(mongodb_url, database_name, commit_seconds=0.3) as (tap, order_state):
        await order_state.decide(create_command("o-1"))
        await tap.fall_behind(database_name)
        tap.late_seconds["commitTransaction"] = 0.6
        assert await order_state.decide(update_command("o-1")) == [(None, 2)]
        tap.late_seconds.clear()
        assert await order_state.decide(update_command("o-1", "in_transit")) == [(None, 3)]


async def test_a_commit_of_its_own_that_comes_late_is_not_taken_for_another_worker(
    mongodb_url: str, database_name: str
) -> None:
    async with deciding(mongodb_url, database_name) as (_, order_state):
        await order_state.decide(create_command("o-1"))
        before = order_state.partition.position
        await order_state.decide(update_command("o-1"))
        order_state.partition.position = before  # as if the commit had been applied after that was read
        assert await order_state.decide(update_command("o-1", "in_transit")) == [(None, 3)]
        assert order_state.committed is not None
        assert order_state.committed.may_be_unpublished == [True]


async def test_a_claim_is_made_where_the_majority_lags_by_longer_than_the_first_attempt(
    mongodb_url: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "FIRST_CLAIM_SECONDS", 0.2)
    async with deciding(mongodb_url, database_name) as (tap, order_state):
        tap.late_seconds["findAndModify"] = 0.5
        position = await order_state.store.claim(0)
        assert position.commits == 2  # the first one was applied, too
        assert await order_state.decide(create_command("o-1")) == [(None, 1)]
        assert [command["killSessions"] for command in tap.commands if "killSessions" in command] == []


async def test_a_transaction_in_the_way_of_a_claim_is_ended_soon(
    mongodb_url: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "FIRST_CLAIM_SECONDS", 0.2)
    async with deciding(mongodb_url, database_name) as (tap, frozen):
        await frozen.decide(create_command("o-1"))
        tap.held["commitTransaction"] = asyncio.Event()
        within = asyncio.create_task(frozen.decide(update_command("o-1")))
        async with open_database(mongodb_url, database_name) as database:
            await eventually(lambda: any("commitTransaction" in one for one in tap.commands))
            started = perf_counter()
            assert await Decider(database).decide(update_command("o-1")) == [(None, 2)]
            assert perf_counter() - started < 3
        tap.held.pop("commitTransaction").set()
        with pytest.raises(Fenced):
            await within


async def test_a_good_cursor_is_good_and_nothing_behind_it_is_left_out(mongodb_url: str) -> None:
    world, name = random_world(orders=3, steps=2), f"test_query_{token_hex(6)}"
    async with tap_database(mongodb_url) as tap, running_query(tap.url, name) as query:
        await query.database.prepare(QUERY_PARTITIONS)
        older = await tap.older_state(name)
        await store(query.database, world)
        first = await query.get("/v1/events", {"limit": 4}, token=token())
        tap.behind = older
        rest = await query.get("/v1/events", {"after": first.json["cursor"]}, token=token())
        assert rest.status == 200, rest.body
        found = [event["id"] for answer in (first, rest) for event in answer.json["events"]]
        assert sorted(found) == sorted(f"{event['order_id']}:{event['version']}" for event in world.events)

        waited = await query.get("/v1/events", {"after": rest.json["cursor"], "wait": 1}, token=token())
        assert (waited.status, waited.json["events"]) == (200, [])


async def test_clients_of_a_notifier_keep_their_log_and_miss_nothing_in_a_snapshot(
    start_service: StartService, service_environment: dict[str, str]
) -> None:
    order, name = new_order(), service_environment["MONGODB_DATABASE"]
    async with (
        tap_database(service_environment["MONGODB_URL"]) as tap,
        notifier_stage(start_service, service_environment, MONGODB_URL=tap.url) as stage,
        subscribed(stage.url, stage.token()) as client,
    ):
        older = await tap.older_state(name)
        await stage.stub.commit((order, "acme", "created"))
        cursor = (await client.receive())["cursor"]
        tap.behind = older
        seen = len(tap.commands)

        def looks() -> int:
            return sum(command.get("find") == "partitions" for command in tap.commands[seen:])

        await eventually(lambda: looks() >= 4)
        async with raw_client(stage.url) as newcomer:
            await newcomer.send(type="subscribe", token=stage.token())
            snapshot, _ = await newcomer.until("live")
            assert [shown["order_id"] for shown in snapshot["orders"]] == [order]
        async with raw_client(stage.url) as returning:
            await returning.send(type="subscribe", token=stage.token(), after=cursor)
            assert [message["type"] for message in await returning.until("live")] == ["live"]
        await stage.stub.commit((order, "acme", "picked_up"), announce=False)
        await stage.stub.commit((order, "acme", "in_transit"))
        assert ids(await client.events(2)) == [f"{order}:2", f"{order}:3"]


async def test_what_was_seen_to_be_revoked_stays_so(mongodb_url: str, database_name: str) -> None:
    async with tap_database(mongodb_url) as tap, open_database(tap.url, database_name) as database:
        await database.prepare(1)
        revocations = RevocationList(database)
        await revoke_token(database, "stolen")
        older = await tap.older_state(database_name)
        await revoke_token(database, "stolen-too")
        assert await revocations.look()
        tap.behind = older
        assert not await revocations.look()
        assert revocations.known.token_ids == {"stolen", "stolen-too"}


async def test_a_linearizable_read_asks_for_one_document(mongodb_url: str, database_name: str) -> None:
    # Of more than one, MongoDB promises nothing.
    async with tap_database(mongodb_url) as tap, open_database(tap.url, database_name) as database:
        await database.prepare(QUERY_PARTITIONS)
        async with database.client.start_session() as session:
            assert len(await newest_partitions(database, session)) == QUERY_PARTITIONS
        levels = [(each.get("readConcern", {}).get("level"), each) for each in tap.commands]
        asked = [each["filter"] for level, each in levels if level == "linearizable"]
        assert asked == [{"_id": number} for number in range(QUERY_PARTITIONS)]
