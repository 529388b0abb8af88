"""The search of `GET /v1/orders`: any order in reach, by the beginnings of what it is known by."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from list_oracle import GRANTS
from query_stack import START, QueryClient, World, random_world, running_query, store, token, token_of

from property_examples import max_examples
from tracking_order_state.adapters.search_index import SearchIndexer
from tracking_query.orders.search import search, search_stages
from tracking_shared.contracts.access import Grant, reaches, readable_orders, sees_customer
from tracking_shared.contracts.texts import searched_words, words_of_event

WORLD: World = random_world(orders=300, steps=3)
WORLD.apply(
    "o-zoe",
    "created",
    START,
    {"merchant_id": "m-1", "customer": {"name": "Zoë Müller", "contact_ref": "crm:9"}},
)
WORLD.apply("o-zoe", "cancelled", START, {})
NEWEST = {event["order_id"]: event for event in WORLD.events}

SEARCHES = [
    "o-1",
    "O-12",
    "m-2",
    "customer",
    "Customer 1",
    "+49 30 1",
    "driver-3",
    "zoe",
    "MULL zoë",
    "o- m-1",
    "#1001",
    "#100",
    "wh/out/00012",
    "WH/OUT/00012",
    "00012 m-1",
    "zz",
]


@pytest.fixture(scope="module")
async def query(mongodb_url: str) -> AsyncIterator[QueryClient]:
    async with running_query(mongodb_url) as client:
        await store(client.database, WORLD)
        indexer = SearchIndexer(client.database)
        while await indexer.follow():
            pass
        yield client


def matches(order_id: str, text: str, grant: Grant) -> bool:
    order = WORLD.orders[order_id]
    if not reaches(grant, order_id, order["merchant_id"]):
        return False
    if order.get("reference") == text:  # compared beside the index, so by tokens that may not use it, too
        return True
    shown = [order_id, order["merchant_id"]]
    words = words_of_event(NEWEST[order_id]) if sees_customer(grant) else shown
    return all(any(word.startswith(asked) for word in words) for asked in searched_words(text))


@max_examples(60)
@given(text=st.sampled_from(SEARCHES), grant=GRANTS, active=st.sampled_from([None, "true", "false"]))
async def test_a_search_finds_the_orders_in_reach_that_begin_so_and_no_others(
    query: QueryClient, text: str, grant: Grant, active: str | None
) -> None:
    parameters = [("q", text), ("limit", "500"), *([("active", active)] if active else [])]
    answer = await query.get("/v1/orders", parameters, token=token_of(grant))
    assert answer.status == 200, answer.body
    wanted = {
        order_id
        for order_id, order in WORLD.orders.items()
        if matches(order_id, text, grant) and active in (None, str(order["active"]).lower())
    }
    assert {order["order_id"] for order in answer.json["items"]} == wanted
    assert answer.json["search"] == {"complete": True, "behind": 0}


async def test_a_search_goes_on_page_after_page(query: QueryClient) -> None:
    found = await query.all_pages("/v1/orders", [("q", "customer"), ("limit", "70")], "items", token=token())
    assert len(found) == len({order["order_id"] for order in found}) == 300


@pytest.mark.parametrize("text", SEARCHES)
async def test_a_search_is_served_by_the_index(query: QueryClient, text: str) -> None:
    everything = Grant(merchants=frozenset({"*"}))
    pipeline = search_stages(text, readable_orders(everything), everything)
    command = {"aggregate": "order_search", "pipeline": pipeline, "cursor": {}}
    explained = await query.database.raw.command({"explain": command, "verbosity": "queryPlanner"})
    plan = repr(explained["queryPlanner"]["winningPlan"])
    assert "IXSCAN" in plan
    assert "COLLSCAN" not in plan


@pytest.mark.parametrize(
    ("parameters", "accept"),
    [({"q": " "}, "application/json"), ({"q": "x" * 201}, "application/json"), ({"q": "ada"}, "text/csv")],
)
async def test_a_search_that_cannot_be_answered_is_refused(
    query: QueryClient, parameters: dict[str, Any], accept: str
) -> None:
    answer = await query.get("/v1/orders", parameters, token=token(), headers={"Accept": accept})
    assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/query/q")


async def test_a_search_that_finds_too_many_has_the_newest_and_says_that_there_are_more(
    query: QueryClient,
) -> None:
    everything = Grant(merchants=frozenset({"*"}))
    found = await search(query.database, "customer", readable_orders(everything), everything, most=20)
    orders = [order for order in WORLD.orders.values() if order["customer"]["name"].startswith("Customer")]
    orders.sort(key=lambda order: (order["created_at"], order["_id"]), reverse=True)
    assert found.order_ids - {"customer"} == {order["_id"] for order in orders[:20]}
    assert not found.is_complete


async def test_what_the_index_does_not_know_yet_is_counted_and_found_by_its_whole_id(
    mongodb_url: str,
) -> None:
    async with running_query(mongodb_url) as late:
        await store(late.database, WORLD)
        answer = await late.get("/v1/orders", {"q": "o-7"}, token=token())
        assert [order["order_id"] for order in answer.json["items"]] == ["o-7"]
        assert answer.json["search"]["behind"] == len(WORLD.events)
        named = [order_id for order_id, order in WORLD.orders.items() if order.get("reference") == "ä 7"]
        answer = await late.get("/v1/orders", {"q": "ä 7", "limit": "500"}, token=token())
        assert sorted(order["order_id"] for order in answer.json["items"]) == sorted(named)
        assert len(named) > 50


async def test_one_replica_follows_and_another_one_does_not(mongodb_url: str) -> None:
    async with running_query(mongodb_url) as stack:
        await store(stack.database, WORLD)
        assert await SearchIndexer(stack.database).follow() > 0
        assert await SearchIndexer(stack.database).follow() == 0
