"""Histories: whole where they are short, page by page where they are long."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import chain
from typing import Any

import pytest
from query_stack import START, QueryClient, World, random_world, running_query, store, token

from tracking_query.orders.history_routes import MAX_VERSIONS
from tracking_shared.contracts.messages import history_item

CREATED = {"merchant_id": "m-1", "customer": {"name": "a", "contact_ref": "b"}}
LINK = re.compile(r'<([^>]*)>; rel="next"')


def world_with_long_histories() -> World:
    world = random_world(orders=60, steps=4)
    for order_id, versions in {"full": MAX_VERSIONS, "fuller": MAX_VERSIONS + 1, "busy": 1501}.items():
        world.apply(order_id, "created", START, CREATED)
        world.apply(order_id, "picked_up", START, {})
        for step in range(versions - 2):
            world.apply(order_id, "in_transit", START + timedelta(seconds=step), {})
    return world


WORLD = world_with_long_histories()


@pytest.fixture(scope="module")
async def query(mongodb_url: str) -> AsyncIterator[QueryClient]:
    async with running_query(mongodb_url) as client:
        await store(client.database, WORLD)
        yield client


def items(order_id: str) -> list[dict[str, Any]]:
    return [history_item(event, with_customer=True) for event in WORLD.history(order_id)]


async def pages(query: QueryClient, order_id: str, **params: Any) -> list[list[dict[str, Any]]]:
    """The pages of a history, by the cursor of each."""
    found: list[list[dict[str, Any]]] = []
    while True:
        answer = await query.get(f"/v1/orders/{order_id}/history", params, token=token())
        assert answer.status == 200, answer.body
        assert answer.json["order_id"] == order_id
        found.append(answer.json["items"])
        if "next_cursor" not in answer.json:
            assert "link" not in answer.headers
            return found
        params["cursor"] = answer.json["next_cursor"]


@pytest.mark.parametrize("order_id", ["o-0", "o-1", "o-2", "o-3", "full"])
async def test_up_to_its_bound_a_history_comes_whole_and_oldest_first(
    query: QueryClient, order_id: str
) -> None:
    answer = await query.get(f"/v1/orders/{order_id}/history", token=token())
    assert answer.json == {"order_id": order_id, "items": items(order_id)}
    assert [item["version"] for item in answer.json["items"]] == list(range(1, len(items(order_id)) + 1))


@pytest.mark.parametrize("order_id", ["fuller", "busy"])
async def test_a_longer_history_comes_in_pages(query: QueryClient, order_id: str) -> None:
    found = await pages(query, order_id)
    assert list(chain.from_iterable(found)) == items(order_id)
    assert [len(page) for page in found[:-1]] == [MAX_VERSIONS] * (len(found) - 1)
    assert len(found[-1]) == 1


@pytest.mark.parametrize("limit", [1, 2, 3, 500])
async def test_a_history_comes_in_pages_as_small_as_asked_for(query: QueryClient, limit: int) -> None:
    order_id = max(list(WORLD.orders)[:60], key=lambda order_id: WORLD.orders[order_id]["version"])
    found = await pages(query, order_id, limit=limit)
    assert list(chain.from_iterable(found)) == items(order_id)
    assert all(len(page) == limit for page in found[:-1])
    assert 1 <= len(found[-1]) <= limit


async def test_the_link_leads_from_page_to_page(query: QueryClient) -> None:
    url, found = "/v1/orders/busy/history?limit=400", []
    while url:
        answer = await query.get(url, token=token())
        found += answer.json["items"]
        link = LINK.fullmatch(answer.headers.get("link", ""))
        url = link[1] if link else ""
    assert found == items("busy")


async def test_a_page_goes_on_behind_what_was_seen_while_the_order_moves(mongodb_url: str) -> None:
    world = World()
    world.apply("moving", "created", START, CREATED)
    world.apply("moving", "picked_up", START, {})
    async with running_query(mongodb_url) as query:
        await store(query.database, world)
        path = "/v1/orders/moving/history"
        first = await query.get(path, {"limit": 1}, token=token())
        await query.database.order_events.insert_one(world.apply("moving", "in_transit", START, {}))
        params = {"limit": 2, "cursor": first.json["next_cursor"]}
        rest = await query.get(path, params, token=token())
    assert [item["version"] for item in rest.json["items"]] == [2, 3]
    assert "next_cursor" not in rest.json


async def test_a_cursor_is_for_the_history_of_its_order_alone(query: QueryClient) -> None:
    async def cursor_of(path: str) -> str:
        return str((await query.get(path, {"limit": 1}, token=token())).json["next_cursor"])

    own = await cursor_of("/v1/orders/busy/history")
    for path, cursor in {
        "/v1/orders/full/history": own,
        "/v1/orders": own,
        "/v1/orders/busy/history": await cursor_of("/v1/orders"),
        "/v1/orders/fuller/history": await cursor_of("/v1/orders/full/history"),
    }.items():
        answer = await query.get(path, {"cursor": cursor}, token=token())
        assert (answer.status, answer.slug) == (400, "invalid-cursor"), path


async def test_a_cursor_opens_nothing_to_those_whom_the_order_does_not_concern(query: QueryClient) -> None:
    path = "/v1/orders/busy/history"
    cursor = (await query.get(path, {"limit": 1}, token=token())).json["next_cursor"]
    for params in ({}, {"cursor": cursor}):
        answer = await query.get(path, params, token=token(merchants=["m-other"]))
        assert (answer.status, answer.slug) == (404, "order-not-found")
    assert (await query.get(path, {"cursor": cursor}, token=token(merchants=["m-1"]))).status == 200


async def test_a_page_is_read_by_the_index_of_the_history(query: QueryClient) -> None:
    asked = {"order_id": "busy", "version": {"$gt": 3, "$lte": 9}}
    assert "order_version" in str(await query.database.order_events.find(asked).explain())
