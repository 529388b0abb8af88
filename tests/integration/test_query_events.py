"""The event log: from any position, with any filter, it is the whole log without what does not match."""

import random
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from query_stack import (
    MERCHANTS,
    PARTITIONS,
    START,
    QueryClient,
    random_world,
    running_query,
    store,
    token,
    token_of,
)

from positions import position_of
from property_examples import max_examples
from tracking_query.log.log_page import LogPage
from tracking_query.log.log_search import LogFilter, read_log
from tracking_shared.contracts.access import Grant, reaches, readable_orders, sees_customer
from tracking_shared.contracts.cursors import Position, encode_cursor
from tracking_shared.contracts.documents import EventDocument
from tracking_shared.contracts.messages import cloud_event, without_customer
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

WORLD = random_world(orders=200, steps=4, seed=11)
EVERYTHING = Grant(merchants=frozenset({"*"}))


@pytest.fixture(scope="module")
async def query(mongodb_url: str) -> AsyncIterator[QueryClient]:
    async with running_query(mongodb_url) as client:
        await store(client.database, WORLD)
        yield client


@pytest.fixture(scope="module")
async def epoch(query: QueryClient) -> str:
    answer = await query.get("/v1/events", {"limit": 1}, token=token())
    return (await position_of(query.database, answer.json["cursor"])).epoch


def by_partition(events: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    found = defaultdict(list)
    for event in events:
        found[event["partition"]].append(event)
    return dict(found)


def shown(events: list[EventDocument], grant: Grant = EVERYTHING) -> list[dict[str, Any]]:
    documents = [cloud_event(event, DEFAULT_WORKFLOW) for event in events]
    return documents if sees_customer(grant) else [without_customer(document) for document in documents]


async def read_all(
    query: QueryClient, params: list[tuple[str, Any]], start: list[tuple[str, str]], caller: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """All events to the end of the log, and the answers that they came in."""
    answers: list[dict[str, Any]] = []
    cursor = start
    while not answers or answers[-1]["has_more"]:
        answer = await query.get("/v1/events", [*params, *cursor], token=caller)
        assert answer.status == 200, answer.body
        answers.append(answer.json)
        assert not answer.json["has_more"] or [("after", answer.json["cursor"])] != cursor
        cursor = [("after", answer.json["cursor"])]
    return [event for answer in answers for event in answer["events"]], answers


@pytest.mark.parametrize("limit", [1, 3, 100, 1000])
async def test_the_whole_log_comes_page_by_page(query: QueryClient, epoch: str, limit: int) -> None:
    start = (
        [("after", encode_cursor(Position(epoch, tuple(seq // 2 for seq in WORLD.seqs))))]
        if limit == 1
        else []
    )
    events, answers = await read_all(query, [("limit", limit)], start, token())
    first = [seq // 2 if limit == 1 else 0 for seq in WORLD.seqs]
    wanted = shown([event for event in WORLD.events if event["seq"] > first[event["partition"]]])
    assert by_partition(events) == by_partition(wanted)
    assert all(len(answer["events"]) == limit for answer in answers[:-1])
    end = await position_of(query.database, answers[-1]["cursor"])
    assert end == Position(epoch, tuple(WORLD.seqs))


FILTERS = st.fixed_dictionaries(
    {
        "merchant_id": st.lists(st.sampled_from([*MERCHANTS, "m-other"]), max_size=2),
        "order_id": st.one_of(st.just([]), st.lists(st.sampled_from([*WORLD.orders, "o-none"]), max_size=5)),
        "status": st.lists(st.sampled_from(sorted(DEFAULT_WORKFLOW.statuses)), max_size=2),
    }
)
GRANTS = st.builds(
    Grant,
    merchants=st.one_of(st.just(frozenset({"*"})), st.frozensets(st.sampled_from(MERCHANTS), max_size=3)),
    orders=st.one_of(st.none(), st.none(), st.frozensets(st.sampled_from(list(WORLD.orders)), max_size=30)),
)
POSITIONS = st.tuples(*(st.integers(0, seq) for seq in WORLD.seqs))


@max_examples(60)
@given(asked=FILTERS, grant=GRANTS, page=st.tuples(POSITIONS, st.sampled_from([7, 50, 1000])))
async def test_from_any_position_the_filtered_log_is_the_log_filtered(
    query: QueryClient,
    epoch: str,
    asked: dict[str, list[str]],
    grant: Grant,
    page: tuple[tuple[int, ...], int],
) -> None:
    seqs, limit = page
    params = [(name, value) for name, values in asked.items() for value in values]
    start = [("after", encode_cursor(Position(epoch, seqs)))]
    events, answers = await read_all(query, [*params, ("limit", limit)], start, token_of(grant))
    wanted = [
        event
        for event in WORLD.events
        if event["seq"] > seqs[event["partition"]]
        and reaches(grant, event["order_id"], event["merchant_id"])
        and (not asked["merchant_id"] or event["merchant_id"] in asked["merchant_id"])
        and (not asked["order_id"] or event["order_id"] in asked["order_id"])
        and (not asked["status"] or event["status"] in asked["status"])
    ]
    assert by_partition(events) == by_partition(shown(wanted, grant))
    assert all(len(answer["events"]) == limit for answer in answers[:-1])  # has_more was true for a reason
    assert answers[-1]["events"] or len(answers) == 1
    end = await position_of(query.database, answers[-1]["cursor"])
    assert end == Position(epoch, tuple(WORLD.seqs))


async def test_a_page_of_events_is_in_time_order(query: QueryClient) -> None:
    events, _ = await read_all(query, [("limit", 1000)], [], token())
    times = [event["time"] for event in events]
    assert times == sorted(times)


async def test_new_events_are_found_behind_the_end(mongodb_url: str) -> None:
    world = random_world(orders=30, steps=2, seed=3)
    async with running_query(mongodb_url) as query:
        await store(query.database, world)
        _, answers = await read_all(query, [], [], token())
        event = world.apply(
            "o-new", "created", START, {"merchant_id": "m", "customer": {"name": "a", "contact_ref": "b"}}
        )
        await query.database.order_events.insert_one(event)
        after = [("after", answers[-1]["cursor"])]
        assert (await read_all(query, [], after, token()))[0] == []  # the position is not there yet
        await query.database.partitions.update_one(
            {"_id": event["partition"]}, {"$set": {"seq": event["seq"]}}
        )
        assert (await read_all(query, [], after, token()))[0] == shown([event])


async def test_a_rare_event_in_a_long_log_is_found(mongodb_url: str) -> None:
    world = random_world(orders=1500, steps=4, seed=5)
    rare = random.Random(1).choice(list(world.orders.values()))
    async with running_query(mongodb_url) as query:
        for event in world.events:
            event["merchant_id"] = "m-rare" if event["order_id"] == rare["_id"] else "m-1"
        await store(query.database, world)
        found, answers = await read_all(query, [("merchant_id", "m-rare"), ("limit", 50)], [], token())
        wanted = world.history(rare["_id"])
    assert [event["id"] for event in found] == [
        f"{rare['_id']}:{number + 1}" for number in range(len(wanted))
    ]
    assert len(answers) == 1


async def test_a_search_that_runs_out_of_time_goes_on_with_the_next_page(query: QueryClient) -> None:
    wanted = LogFilter(readable_orders(EVERYTHING, ["m-2"]), frozenset({"cancelled"}))
    found: list[EventDocument] = []
    pages: list[LogPage] = []
    after = None
    while not pages or not pages[-1].at_head:
        pages.append(await read_log(query.database, PARTITIONS, after, wanted, 5, search_seconds=0))
        after = pages[-1].position
        found += pages[-1].events
    matching = [e for e in WORLD.events if e["merchant_id"] == "m-2" and e["status"] == "cancelled"]
    assert by_partition(shown(found)) == by_partition(shown(matching))
    assert any(len(page.events) < 5 for page in pages[:-1])


def cursors(epoch: str) -> list[tuple[str, int, str]]:
    ahead = [*WORLD.seqs[:-1], WORLD.seqs[-1] + 1]
    return [
        (encode_cursor(Position(epoch, tuple(ahead))), 400, "invalid-cursor"),
        (encode_cursor(Position(epoch, (2**40 - 1,) * PARTITIONS)), 400, "invalid-cursor"),
        (encode_cursor(Position(epoch, (0,) * (PARTITIONS + 1))), 400, "invalid-cursor"),
        (encode_cursor(Position(epoch, (0,))), 400, "invalid-cursor"),
        (encode_cursor(Position("another", (0,) * PARTITIONS)), 410, "cursor-expired"),
        ("", 400, "invalid-cursor"),
        ("a", 400, "invalid-cursor"),
        ("e30", 400, "invalid-cursor"),
        ("%00", 400, "invalid-cursor"),
        ("ä" * 10, 400, "invalid-cursor"),
        ("A" * 30_000, 400, "invalid-cursor"),
    ]


async def test_a_position_that_is_not_of_this_log_is_refused(query: QueryClient, epoch: str) -> None:
    for cursor, status, slug in cursors(epoch):
        for extra in ([], [("order_id", "o-1")]):
            answer = await query.get("/v1/events", [("after", cursor), *extra], token=token())
            assert (answer.status, answer.slug) == (status, slug), cursor[:50]


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"limit": "0"}, "/query/limit"),
        ({"limit": "1001"}, "/query/limit"),
        ([("after", "a"), ("after", "b")], "/query/after"),
        ({"status": "lost"}, "/query/status"),
        ({"order_id": "-"}, "/query/order_id/0"),
        ([("order_id", "o")] * 101, "/query/order_id"),
        ({"active": "true"}, "/query/active"),
        ({"cursor": "x"}, "/query/cursor"),
        ({"customer_ref": "x"}, "/query/customer_ref"),
    ],
)
async def test_a_bad_parameter_is_named(query: QueryClient, params: Any, pointer: str) -> None:
    answer = await query.get("/v1/events", params, token=token())
    assert (answer.status, answer.slug) == (422, "validation-failed")
    assert [error["pointer"] for error in answer.json["errors"]] == [pointer]


async def test_a_log_that_is_not_set_up_yet_is_unavailable(mongodb_url: str) -> None:
    async with running_query(mongodb_url) as query:
        answer = await query.get("/v1/events", token=token())
        listed = await query.get("/v1/orders", token=token())
    assert (answer.status, answer.slug) == (503, "database-unavailable")
    assert "retry-after" in answer.headers
    assert listed.json == {"items": [], "next_cursor": None}
