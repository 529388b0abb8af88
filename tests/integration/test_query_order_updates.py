"""What became of the updates of one order, for those who see the order."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from query_stack import START, QueryClient, World, running_query, store, store_update, token

ORDER = "o-1"
REFUSED = {
    "outcome": "rejected",
    "version": None,
    "position": None,
    "problem": {"slug": "invalid-transition", "detail": "No.", "members": {"current_status": "created"}},
    "requested_status": "delivered",
}


def one_order() -> World:
    world = World()
    customer = {"name": "Ada", "contact_ref": "crm-1"}
    world.apply(ORDER, "created", START, {"merchant_id": "m-1", "customer": customer})
    # Their keys begin as those of the order do.
    world.apply("o-10", "created", START, {"merchant_id": "m-1", "customer": customer})
    return world


@pytest.fixture(scope="module")
async def query(mongodb_url: str) -> AsyncIterator[QueryClient]:
    async with running_query(mongodb_url) as client:
        await store(client.database, one_order())
        for number in range(6):
            at = {"recorded_at": START + timedelta(seconds=number)}
            fields = at if number % 2 else REFUSED | at
            await store_update(client.database, ORDER, f"u-{9 - number}", **fields)
        early: dict[str, Any] = {"merchant_id": None, "source": {"type": "driver", "id": "early-bird"}}
        await store_update(
            client.database, ORDER, "u-early", **REFUSED | early | {"recorded_at": START - timedelta(hours=1)}
        )
        await store_update(client.database, "o-10", "u-1")
        yield client


async def ids(query: QueryClient, *, token: str, **parameters: Any) -> list[str]:
    answer = await query.get(f"/v1/orders/{ORDER}/updates", parameters, token=token)
    assert answer.status == 200
    assert answer.json["order_id"] == ORDER
    return [item["update_id"] for item in answer.json["items"]]


async def test_outcomes_of_the_order_alone_are_listed_newest_first(query: QueryClient) -> None:
    assert await ids(query, token=token()) == ["u-4", "u-5", "u-6", "u-7", "u-8", "u-9", "u-early"]


async def test_only_the_refused_or_the_applied_ones_are_listed_where_asked(query: QueryClient) -> None:
    assert await ids(query, token=token(), outcome="rejected") == ["u-5", "u-7", "u-9", "u-early"]
    assert await ids(query, token=token(), outcome="applied") == ["u-4", "u-6", "u-8"]


async def test_a_refusal_says_why_what_was_asked_for_and_by_whom(query: QueryClient) -> None:
    answer = await query.get(
        f"/v1/orders/{ORDER}/updates", {"outcome": "rejected", "limit": 1}, token=token()
    )
    (item,) = answer.json["items"]
    assert item["requested_status"] == "delivered"
    assert item["source"] == {"type": "driver", "id": "driver-1"}
    assert item["problem"]["type"] == "/problems/invalid-transition"
    assert item["problem"]["current_status"] == "created"
    assert item["problem"]["update_id"] == "u-5"
    assert item["problem"]["trace_id"] == answer.headers["Trace-Id"]


async def test_the_newest_so_many_are_given_and_whether_there_are_more(query: QueryClient) -> None:
    for limit, more in ((2, True), (7, False)):
        answer = await query.get(f"/v1/orders/{ORDER}/updates", {"limit": limit}, token=token())
        assert (len(answer.json["items"]), answer.json["more"]) == (limit, more)


async def test_what_was_sent_before_there_was_an_order_is_its_senders(query: QueryClient) -> None:
    assert "u-early" not in await ids(query, token=token(merchants=["m-1"]))
    assert "u-early" in await ids(query, token=token(merchants=["m-1"], sub="early-bird"))


@pytest.mark.parametrize("claims", [{"merchants": ["m-2"]}, {"orders": ["o-10"]}])
async def test_for_those_who_do_not_see_the_order_there_is_none(
    query: QueryClient, claims: dict[str, Any]
) -> None:
    answer = await query.get(f"/v1/orders/{ORDER}/updates", token=token(**claims))
    assert (answer.status, answer.slug) == (404, "order-not-found")


@pytest.mark.parametrize("parameters", [{"limit": 0}, {"limit": 501}, {"outcome": "accepted"}, {"x": 1}])
async def test_parameters_out_of_bounds_are_refused(query: QueryClient, parameters: dict[str, Any]) -> None:
    answer = await query.get(f"/v1/orders/{ORDER}/updates", parameters, token=token())
    assert (answer.status, answer.slug) == (422, "validation-failed")
