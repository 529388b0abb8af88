"""The list of orders: every filter, sort and page equals what plain Python finds in all orders."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from list_oracle import (
    CLOSED_BEFORE_A_CHECKPOINT,
    CLOSED_FROM_A_CHANGE,
    EVERYTHING,
    GRANTS,
    SORTS,
    WORLD,
    expected,
    filters,
)
from query_stack import (
    CONTACTS,
    MERCHANTS,
    START,
    QueryClient,
    World,
    running_query,
    store,
    token,
    token_of,
)

from property_examples import max_examples
from tracking_shared.contracts.access import Grant, sees_customer


@pytest.fixture(scope="module")
async def query(mongodb_url: str) -> AsyncIterator[QueryClient]:
    async with running_query(mongodb_url) as client:
        await store(client.database, WORLD)
        yield client


@example(pairs=CLOSED_FROM_A_CHANGE, sort=SORTS[0], grant=EVERYTHING, limit=500)
@example(pairs=CLOSED_BEFORE_A_CHECKPOINT, sort=SORTS[0], grant=EVERYTHING, limit=500)
@max_examples(150)
@given(pairs=filters(), sort=st.sampled_from(SORTS), grant=GRANTS, limit=st.integers(1, 500))
async def test_a_list_holds_what_a_plain_filter_finds(
    query: QueryClient, pairs: list[tuple[str, str]], sort: str, grant: Grant, limit: int
) -> None:
    answer = await query.get("/v1/orders", [*pairs, ("sort", sort), ("limit", limit)], token=token_of(grant))
    if any(name == "customer_ref" for name, _ in pairs) and not sees_customer(grant):
        assert answer.slug == "forbidden"
        return
    wanted = expected(WORLD, pairs, grant, sort)
    assert answer.json["items"] == wanted[:limit]
    assert (answer.json["next_cursor"] is not None) is (len(wanted) > limit)


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("limit", [1, 7, 99, 500])
async def test_pages_hold_every_order_once(query: QueryClient, sort: str, limit: int) -> None:
    pairs = [("sort", sort)] + [("merchant_id", merchant) for merchant in MERCHANTS[: 1 if limit == 1 else 5]]
    pages = await query.all_pages("/v1/orders", [*pairs, ("limit", limit)], "items", token=token())
    assert pages == expected(WORLD, pairs, Grant(merchants=frozenset({"*"})), sort)


async def test_the_link_leads_to_the_next_page(query: QueryClient) -> None:
    params = [("status", "delivered"), ("status", "cancelled"), ("customer_ref", CONTACTS[3]), ("limit", "2")]
    pages, answer = [], await query.get("/v1/orders", params, token=token())
    while link := answer.headers.get("link"):
        assert link.endswith('>; rel="next"')
        pages += answer.json["items"]
        answer = await query.get(link[1:].partition(">")[0].replace("+", "%20"), token=token())
    assert answer.json["next_cursor"] is None
    assert pages + answer.json["items"] == expected(
        WORLD, params[:3], Grant(merchants=frozenset({"*"})), "-created_at"
    )


async def test_a_cursor_belongs_to_its_filter(query: QueryClient) -> None:
    params = [("status", "delivered"), ("status", "cancelled"), ("limit", "5")]
    cursor = (await query.get("/v1/orders", params, token=token())).json["next_cursor"]
    same = [("limit", "9"), ("status", "cancelled"), ("status", "delivered"), ("cursor", cursor)]
    assert (await query.get("/v1/orders", same, token=token())).status == 200
    for foreign in (
        [],
        [("status", "delivered")],
        [*params, ("sort", "created_at")],
        [*params, ("active", "false")],
    ):
        answer = await query.get("/v1/orders", [*foreign, ("cursor", cursor)], token=token())
        assert (answer.status, answer.slug) == (400, "invalid-cursor")


@pytest.mark.parametrize("cursor", ["", "x", "AAAA", "ä", "a" * 5000, "e30", "=", "A" * 24, "\0", "..%2f"])
async def test_a_forged_cursor_is_refused(query: QueryClient, cursor: str) -> None:
    answer = await query.get("/v1/orders", {"cursor": cursor}, token=token())
    assert (answer.status, answer.slug) == (400, "invalid-cursor")


async def test_a_changed_cursor_is_refused(query: QueryClient) -> None:
    cursor: str = (await query.get("/v1/orders", {"limit": 1}, token=token())).json["next_cursor"]
    for index in range(len(cursor) - 1):
        changed = cursor[:index] + ("A" if cursor[index] != "A" else "B") + cursor[index + 1 :]
        answer = await query.get("/v1/orders", {"cursor": changed}, token=token())
        assert answer.slug == "invalid-cursor", index


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"limit": "0"}, "/query/limit"),
        ({"limit": "501"}, "/query/limit"),
        ({"limit": "-1"}, "/query/limit"),
        ({"limit": "1e2"}, "/query/limit"),
        ({"limit": "1_0"}, "/query/limit"),
        ({"limit": " 5"}, "/query/limit"),
        ({"limit": "٣"}, "/query/limit"),
        ({"limit": "9" * 5000}, "/query/limit"),
        ({"limit": ""}, "/query/limit"),
        ([("limit", "1"), ("limit", "2")], "/query/limit"),
        ({"sort": "status"}, "/query/sort"),
        ({"sort": "$natural"}, "/query/sort"),
        ({"active": "yes"}, "/query/active"),
        ({"active": "1"}, "/query/active"),
        ([("active", "true")] * 2, "/query/active"),
        ({"status": "lost"}, "/query/status"),
        ({"status": ""}, "/query/status"),
        ({"status": "s" * 33}, "/query/status/0"),
        ([("status", "created")] * 101, "/query/status"),
        ([("merchant_id", "m-1"), ("merchant_id", "m 2")], "/query/merchant_id/1"),
        ({"merchant_id": '{"$ne": 1}'}, "/query/merchant_id/0"),
        ({"merchant_id[$ne]": "1"}, "/query/merchant_id[$ne]"),
        ({"merchant_id": "m-1\n"}, "/query/merchant_id/0"),
        ({"customer_ref": ""}, "/query/customer_ref"),
        ({"customer_ref": "a\0b"}, "/query/customer_ref"),
        ({"customer_ref": "a\nb"}, "/query/customer_ref"),
        ({"customer_ref": "a" * 129}, "/query/customer_ref"),
        ([("customer_ref", "a"), ("customer_ref", "b")], "/query/customer_ref"),
        ({"created_from": "2026-02-30T00:00:00Z"}, "/query/created_from"),
        ({"created_to": "2026-01-01"}, "/query/created_to"),
        ({"updated_from": "1767225600"}, "/query/updated_from"),
        ({"updated_to": "0001-01-01T00:00:00+23:59"}, "/query/updated_to"),
        (
            {"created_from": "2026-01-02T00:00:00Z", "created_to": "2026-01-01T00:00:00Z"},
            "/query/created_to",
        ),
        ({"closed_from": "2026-01-02T00:00:00Z", "closed_to": "2026-01-01T00:00:00Z"}, "/query/closed_to"),
        ({"page": "2"}, "/query/page"),
        ({"$where": "1"}, "/query/$where"),
        ({"order_id": "o-1"}, "/query/order_id"),
    ],
)
async def test_a_bad_parameter_is_named(query: QueryClient, params: Any, pointer: str) -> None:
    answer = await query.get("/v1/orders", params, token=token())
    assert (answer.status, answer.slug) == (422, "validation-failed")
    assert [error["pointer"] for error in answer.json["errors"]] == [pointer]


async def test_many_bad_parameters_make_a_short_problem(query: QueryClient) -> None:
    answer = await query.get("/v1/orders", [(f"p{number}", "x") for number in range(500)], token=token())
    assert answer.slug == "validation-failed"
    assert len(answer.json["errors"]) == 20


async def test_hostile_values_are_only_values(query: QueryClient) -> None:
    for value in ('{"$gt": ""}', "$where", "'; return true; //", "[$ne]", "%00", "💥", "../../etc"):
        answer = await query.get("/v1/orders", {"customer_ref": value}, token=token())
        assert answer.json == {"items": [], "next_cursor": None}


async def test_a_list_over_many_orders_answers(mongodb_url: str) -> None:
    world = World()
    for number in range(12_000):
        at = START + timedelta(seconds=number // 2)
        world.apply(
            f"o-{number}",
            "created",
            at,
            {
                "merchant_id": MERCHANTS[number % 5],
                "customer": {"name": "n" * 100, "contact_ref": "c"},
                "due_at": at + timedelta(days=1),
            },
        )
    async with running_query(mongodb_url) as query:
        await store(query.database, world)
        for sort in SORTS:
            found = await query.all_pages(
                "/v1/orders",
                [("sort", sort), ("limit", 500), ("merchant_id", "m-1")],
                "items",
                token=token(),
            )
            assert len({order["order_id"] for order in found}) == len(found) == 2400
        assert len((await query.get("/v1/orders", {"limit": 500}, token=token())).json["items"]) == 500


async def test_orders_that_no_other_page_holds_are_found_at_equal_times(mongodb_url: str) -> None:
    world = World()
    for number in range(50):
        world.apply(
            f"o-{number}",
            "created",
            START,
            {"merchant_id": "m", "customer": {"name": "n", "contact_ref": "c"}, "due_at": START},
        )
    async with running_query(mongodb_url) as query:
        await store(query.database, world)
        for sort in SORTS:
            found = await query.all_pages(
                "/v1/orders", [("sort", sort), ("limit", 3)], "items", token=token()
            )
            assert {order["order_id"] for order in found} == set(world.orders)
            assert len(found) == 50
