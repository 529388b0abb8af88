"""Waiting for the end of the log to move."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from time import monotonic, time
from typing import Any

import pytest
from aiohttp import ClientSession
from query_stack import (
    PARTITIONS,
    SECRET,
    START,
    QueryClient,
    World,
    random_world,
    running_query,
    store,
    token,
)

from answers import Answer
from callers import eventually
from fixtures import StartService
from positions import position_of
from tracking.devstack.database_node import DatabaseNode
from tracking_query.log.log_search import LogFilter
from tracking_query.log.long_polling import MAX_LOOKED_AT
from tracking_shared.contracts.access import ReadableOrders
from tracking_shared.contracts.documents import EventDocument
from tracking_shared.storage.database import Database

EVERYTHING = LogFilter(ReadableOrders(None, None), frozenset())


@pytest.fixture
def world() -> World:
    return random_world(orders=30, steps=2, seed=3)


@pytest.fixture
async def query(mongodb_url: str, world: World) -> AsyncIterator[QueryClient]:
    async with running_query(mongodb_url) as client:
        await store(client.database, world)
        yield client


async def end_of_log(query: QueryClient) -> str:
    answer = await query.get("/v1/events", {"limit": 1000}, token=token())
    assert answer.json["has_more"] is False
    return str(answer.json["cursor"])


def created(world: World, order_id: str, merchant_id: str) -> EventDocument:
    customer = {"name": "a", "contact_ref": "b"}
    return world.apply(order_id, "created", START, {"merchant_id": merchant_id, "customer": customer})


async def commit(database: Database, *events: EventDocument) -> None:
    await database.order_events.insert_many(events)
    for event in events:
        await database.partitions.update_one({"_id": event["partition"]}, {"$max": {"seq": event["seq"]}})


async def waiting(query: QueryClient, number: int = 1) -> None:
    async def has_waiters() -> bool:
        return query.long_polling.waiters == number

    await eventually(has_waiters)


def ask(query: QueryClient, cursor: str, seconds: int, **params: Any) -> asyncio.Task[Answer]:
    asked = {"after": cursor, "wait": seconds, **params}
    return asyncio.create_task(query.get("/v1/events", asked, token=token()))


async def test_the_answer_comes_with_the_next_event(query: QueryClient, world: World) -> None:
    asked = ask(query, await end_of_log(query), 25)
    await waiting(query)
    event = created(world, "o-new", "m-1")
    await commit(query.database, event)
    answer = await asyncio.wait_for(asked, 20)
    assert [event["subject"] for event in answer.json["events"]] == ["o-new"]
    position = await position_of(query.database, answer.json["cursor"])
    assert position.seqs == tuple(world.seqs)


async def test_what_is_there_already_comes_at_once(query: QueryClient) -> None:
    answer = await asyncio.wait_for(query.get("/v1/events?wait=25", token=token()), 20)
    assert len(answer.json["events"]) > 0


@pytest.mark.parametrize("mine", [{"merchant_id": "m-mine", "status": "created"}, {"order_id": "o-mine"}])
async def test_an_event_of_others_does_not_end_the_wait(
    query: QueryClient, world: World, mine: dict[str, str]
) -> None:
    asked = ask(query, await end_of_log(query), 25, **mine)
    await waiting(query)
    await commit(query.database, created(world, "o-theirs", "m-1"))
    by_now = ask(query, await end_of_log(query), 1)
    assert (await by_now).json["events"] == []
    assert not asked.done()
    await commit(query.database, created(world, "o-mine", "m-mine"))
    answer = await asyncio.wait_for(asked, 20)
    assert [event["subject"] for event in answer.json["events"]] == ["o-mine"]


async def test_many_events_at_once_wake_everybody(query: QueryClient, world: World) -> None:
    asked = ask(query, await end_of_log(query), 25, merchant_id="m-mine")
    await waiting(query)
    others = [created(world, f"o-crowd-{number}", "m-1") for number in range(MAX_LOOKED_AT + 1)]
    await commit_many(query.database, [*others, created(world, "o-mine", "m-mine")], world)
    answer = await asyncio.wait_for(asked, 20)
    assert [event["subject"] for event in answer.json["events"]] == ["o-mine"]


async def commit_many(database: Database, events: list[EventDocument], world: World) -> None:
    await database.order_events.insert_many(events)
    for partition, seq in enumerate(world.seqs):
        await database.partitions.update_one({"_id": partition}, {"$set": {"seq": seq}})


async def test_when_the_time_is_up_the_answer_is_as_ever(query: QueryClient) -> None:
    cursor = await end_of_log(query)
    started = monotonic()
    answer = await ask(query, cursor, 1)
    assert answer.json == {"events": [], "cursor": cursor, "has_more": False}
    assert 1 <= monotonic() - started < 20


@pytest.mark.parametrize("wait", ["31", "-1", "1.5", "", "x"])
async def test_a_wait_out_of_bounds_is_refused(query: QueryClient, wait: str) -> None:
    answer = await query.get("/v1/events", {"wait": wait}, token=token())
    assert (answer.status, answer.slug) == (422, "validation-failed")


async def test_all_waiters_share_one_poll(query: QueryClient, world: World) -> None:
    cursor = await end_of_log(query)
    asked = [ask(query, cursor, 25) for _ in range(20)]
    await waiting(query, 20)
    polls = [task for task in asyncio.all_tasks() if "LongPolling._poll" in repr(task.get_coro())]
    assert len(polls) == 1
    await commit(query.database, created(world, "o-new", "m-1"))
    answers = await asyncio.wait_for(asyncio.gather(*asked), 20)
    assert {len(answer.json["events"]) for answer in answers} == {1}

    async def ends() -> bool:
        return polls[0].done()

    await eventually(ends)


async def test_a_wait_ends_in_time_however_often_it_is_woken_for_nothing(
    query: QueryClient, world: World
) -> None:
    asked = ask(query, await end_of_log(query), 2, merchant_id="m-mine", status="cancelled")
    await waiting(query)
    pairs = 0
    async with asyncio.timeout(20):
        while not asked.done():  # their merchant, and their status, but never in one event
            pairs += 1
            mine, other = created(world, f"o-mine-{pairs}", "m-mine"), created(world, f"o-{pairs}-x", "m-1")
            await commit(query.database, mine, other, world.apply(f"o-{pairs}-x", "cancelled", START, {}))
            await asyncio.wait({asked}, timeout=0.25)
    assert (await asked).json["events"] == []


async def test_who_waits_after_all_others_have_gone_is_woken_too(query: QueryClient, world: World) -> None:
    for order_id in ("o-first", "o-second"):
        asked = ask(query, await end_of_log(query), 25)
        await waiting(query)
        await commit(query.database, created(world, order_id, "m-1"))
        answer = await asyncio.wait_for(asked, 20)
        assert [event["subject"] for event in answer.json["events"]] == [order_id]
        await eventually(no_poll)


async def no_poll() -> bool:
    return not any("LongPolling._poll" in repr(task.get_coro()) for task in asyncio.all_tasks())


async def test_what_came_between_the_read_and_the_wait_is_not_missed(
    query: QueryClient, world: World
) -> None:
    end = await position_of(query.database, await end_of_log(query))
    nothing = LogFilter(ReadableOrders(frozenset({"m-none"}), None), frozenset())
    others = asyncio.create_task(query.long_polling.wait(end, nothing, 25))
    seen = asyncio.create_task(query.long_polling.wait(end, EVERYTHING, 25))
    await waiting(query, 2)
    await commit(query.database, created(world, "o-new", "m-1"))
    assert await seen
    async with asyncio.timeout(15):
        assert await query.long_polling.wait(end, EVERYTHING, 25)
    others.cancel()
    await asyncio.gather(others, return_exceptions=True)


async def test_who_waits_too_often_is_refused_and_others_are_told_of_what_happens(
    mongodb_url: str, world: World
) -> None:
    greedy, modest = token(sub="greedy"), token(sub="modest")
    async with running_query(mongodb_url, query_max_waits=4) as query:
        await store(query.database, world)
        cursor = await end_of_log(query)

        def wait(bearer: str) -> "asyncio.Task[Answer]":
            params = {"after": cursor, "wait": 25}
            return asyncio.create_task(query.get("/v1/events", params, token=bearer))

        async with asyncio.timeout(20):
            waits = [wait(greedy), wait(greedy)]
            await waiting(query, 2)
            refused = await wait(greedy)
            assert (refused.status, refused.slug) == (429, "too-many-requests")
            assert int(refused.headers["retry-after"]) > 0
            waits += [wait(modest), wait(modest)]
            await waiting(query, 4)
            assert (await wait(token(sub="another"))).slug == "overloaded"
            await commit(query.database, created(world, "o-greedy-or-not", "m-1"))
            answers = await asyncio.gather(*waits)
        assert [answer.status for answer in answers] == [200] * 4
        assert all(answer.json["events"] for answer in answers)


async def test_a_client_that_leaves_waits_no_longer(query: QueryClient) -> None:
    asked = ask(query, await end_of_log(query), 30)
    await waiting(query)
    asked.cancel()
    async with asyncio.timeout(20):
        await waiting(query, 0)


async def test_a_token_that_ends_while_waiting_sees_nothing_more(query: QueryClient, world: World) -> None:
    params = {"after": await end_of_log(query), "wait": 25}
    expiring = token(exp=int(time()) + 7)
    asked = asyncio.create_task(query.get("/v1/events", params, token=expiring))
    await waiting(query)

    async def has_ended() -> bool:
        return (await query.get("/v1/events", token=expiring)).status == 401

    await eventually(has_ended)
    await commit(query.database, created(world, "o-new", "m-1"))
    answer = await asyncio.wait_for(asked, 20)
    assert (answer.status, answer.slug) == (401, "unauthenticated")


async def test_a_stop_signal_lets_those_who_wait_go(start_service: StartService, query: QueryClient) -> None:
    service = await start_service(
        "query", MONGODB_DATABASE=query.database.raw.name, JWT_SECRET=SECRET, PARTITIONS=str(PARTITIONS)
    )
    url = f"{service.url}/v1/events?wait=30&after={await end_of_log(query)}"
    async with ClientSession(headers={"Authorization": f"Bearer {token()}"}) as session:
        asked = asyncio.create_task(session.get(url))

        async def is_waiting() -> bool:
            async with session.get(f"{service.url}/metrics") as metrics:
                return "tracking_query_waiters 1.0" in await metrics.text()

        await eventually(is_waiting)
        service.process.signal(signal.SIGTERM)
        async with asyncio.timeout(20), await asked as answer:
            assert (await answer.json())["events"] == []
        assert await service.process.wait() == 0


async def test_a_lost_database_ends_the_wait_with_a_problem(
    start_database: Callable[[], Any], world: World
) -> None:
    node: DatabaseNode = await start_database()
    async with running_query(node.url, keep=True) as query:
        await store(query.database, world)
        asked = ask(query, await end_of_log(query), 29)
        await waiting(query)
        await node.kill()
        answer = await asyncio.wait_for(asked, 25)
    assert (answer.status, answer.slug) == (503, "database-unavailable")


async def test_another_log_ends_the_wait_with_a_problem(query: QueryClient) -> None:
    asked = ask(query, await end_of_log(query), 25)
    await waiting(query)
    await query.database.partitions.update_many({}, {"$set": {"epoch": "another"}})
    answer = await asyncio.wait_for(asked, 20)
    assert (answer.status, answer.slug) == (410, "cursor-expired")
