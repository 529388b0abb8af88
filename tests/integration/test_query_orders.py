"""Single orders: as they stand, as they stood, for whom; the outcomes of updates."""

import secrets
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from query_stack import (
    START,
    QueryClient,
    random_world,
    running_query,
    store,
    store_update,
    token,
)

from answers import Answer
from tracking_shared.contracts.documents import project
from tracking_shared.contracts.messages import order_view
from tracking_shared.contracts.timestamps import format_time
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

WORLD = random_world(orders=60, steps=4)


@pytest.fixture(scope="module")
async def query(mongodb_url: str) -> AsyncIterator[QueryClient]:
    async with running_query(mongodb_url) as client:
        await store(client.database, WORLD)
        yield client


def view(order: Any, *, with_customer: bool = True) -> dict[str, Any]:
    return order_view(order, DEFAULT_WORKFLOW, with_customer=with_customer)


async def test_an_order_is_shown_as_it_stands(query: QueryClient) -> None:
    for order in list(WORLD.orders.values())[:10]:
        answer = await query.get(f"/v1/orders/{order['_id']}", token=token())
        assert answer.status == 200
        assert answer.json == view(order)


@pytest.mark.parametrize("order_id", ["o-none", "-bad", "a b", "x" * 65, "%00", "$where", "o-1%0A"])
async def test_an_order_that_cannot_be_is_not_found(query: QueryClient, order_id: str) -> None:
    for path in (f"/v1/orders/{order_id}", f"/v1/orders/{order_id}/history"):
        answer = await query.get(path, token=token())
        assert (answer.status, answer.slug) == (404, "order-not-found")
    past = await query.get(f"/v1/orders/{order_id}", {"at": format_time(START)}, token=token())
    assert past.slug == "order-not-found"


def entitlements() -> list[tuple[dict[str, Any], bool, bool]]:
    """Claims, whether o-1 exists for them, whether they see its customer."""
    merchant = WORLD.orders["o-1"]["merchant_id"]
    other = "m-other"
    return [
        ({"merchants": [merchant]}, True, True),
        ({"merchants": [other, merchant]}, True, True),
        ({"merchants": [other]}, False, False),
        ({"merchants": []}, False, False),
        ({"merchants": ["*"]}, True, True),
        ({"merchants": [], "orders": ["o-1"]}, True, False),
        ({"merchants": ["*"], "orders": ["o-1"]}, True, False),
        ({"merchants": [merchant], "orders": ["o-1", "o-2"]}, True, False),
        ({"merchants": [merchant], "orders": ["o-2"]}, False, False),
        ({"merchants": [other], "orders": ["o-1"]}, False, False),
        ({"merchants": [], "orders": []}, False, False),
        ({"merchants": [], "scope": "orders:admin"}, True, True),
    ]


@pytest.mark.parametrize(("claims", "exists", "customer"), entitlements())
async def test_an_order_exists_only_for_those_entitled(
    query: QueryClient, claims: dict[str, Any], exists: bool, customer: bool
) -> None:
    caller = token(**claims)
    now = await query.get("/v1/orders/o-1", token=caller)
    then = await query.get("/v1/orders/o-1", {"at": "2030-01-01T00:00:00Z"}, token=caller)
    history = await query.get("/v1/orders/o-1/history", token=caller)
    listed = await query.get("/v1/orders", {"limit": 500}, token=caller)
    log = await query.get("/v1/events", {"limit": 1000}, token=caller)
    expected = view(WORLD.orders["o-1"], with_customer=customer)
    assert [answer.status for answer in (now, then, history)] == [200 if exists else 404] * 3
    assert [item for item in listed.json["items"] if item["order_id"] == "o-1"] == [expected] * exists
    events = [event for event in log.json["events"] if event["subject"] == "o-1"]
    assert len(events) == len(WORLD.history("o-1")) * exists
    assert all(("customer" in event["data"]) is customer for event in events)
    if exists:
        assert now.json == then.json == expected


@pytest.mark.parametrize(
    ("claims", "status", "slug"),
    [
        ({"scope": "orders:write"}, 403, "forbidden"),
        ({"scope": ""}, 403, "forbidden"),
        ({"exp": 1}, 401, "unauthenticated"),
        ({"sub": "no\ngood"}, 401, "unauthenticated"),
        ({"scope": {"orders:read": True}}, 401, "unauthenticated"),
    ],
)
async def test_a_token_that_may_not_read_is_refused(
    query: QueryClient, claims: dict[str, Any], status: int, slug: str
) -> None:
    for path in (
        "/v1/orders/o-1",
        "/v1/orders?bad=1",
        "/v1/orders/o-1/history",
        "/v1/events",
    ):
        answer = await query.get(path, token=token(**claims))
        assert (answer.status, answer.slug) == (status, slug)
        error = 'insufficient_scope", scope="orders:read"' if status == 403 else 'invalid_token"'
        assert answer.headers["www-authenticate"] == (
            f'Bearer realm="tracking", error="{error}, error_description="{answer.json["detail"]}"'
        )
    missing = await query.get("/v1/orders/o-1")
    assert missing.slug == "unauthenticated"
    assert missing.headers["www-authenticate"] == 'Bearer realm="tracking"'


async def test_an_order_is_shown_as_it_stood_then(query: QueryClient) -> None:
    for order_id in ("o-0", "o-1", "o-2"):
        history = WORLD.history(order_id)
        times = {
            event["recorded_at"] + timedelta(milliseconds=step) for event in history for step in (-1, 0, 1)
        }
        for at in times:
            past = [event for event in history if event["recorded_at"] <= at]
            answer = await query.get(f"/v1/orders/{order_id}", {"at": format_time(at)}, token=token())
            if past:
                assert answer.json == view(project(past[-1]))
            else:
                assert answer.slug == "order-not-found"


async def test_an_unchanged_order_is_not_sent_again(query: QueryClient) -> None:
    first = await query.get("/v1/orders/o-5", token=token())
    tag = first.headers["etag"]
    assert tag.startswith('"')
    for header in (tag, "*", f'"other", {tag}', f"W/{tag}", f'"a","b" , {tag} ,"c"'):
        again = await query.get("/v1/orders/o-5", token=token(), headers={"If-None-Match": header})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    for header in ('"other"', tag.strip('"'), ""):
        full = await query.get("/v1/orders/o-5", token=token(), headers={"If-None-Match": header})
        assert (full.status, full.body) == (200, first.body)


async def test_an_order_that_is_not_there_is_not_unchanged(query: QueryClient) -> None:
    answer = await query.get("/v1/orders/o-none", token=token(), headers={"If-None-Match": "*"})
    assert (answer.status, answer.slug) == (404, "order-not-found")


@pytest.mark.parametrize("offset", ["Z", "+02:00", " 02:00", "%2B02:00", "%2b02:00", "-02:00"])
async def test_the_plus_of_an_offset_need_not_be_escaped(query: QueryClient, offset: str) -> None:
    for time in ("2030-01-01T00:00:00", "2030-01-01T00:00:00.123"):
        answer = await query.get(f"/v1/orders/o-1?at={time}{offset}", token=token())
        assert answer.status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/v1/orders?created_from=2020-01-01T00:00:00+02:00&created_to=2030-01-01T00:00:00+02:00",
        "/v1/orders?updated_from=2020-01-01T00:00:00+02:00&updated_to=2030-01-01T00:00:00+02:00",
        "/v1/reports/refusals?from=2026-01-01T00:00:00+02:00&to=2026-01-02T00:00:00+02:00",
        "/v1/audit?from=2026-01-01T00:00:00+02:00&to=2026-01-02T00:00:00+02:00",
    ],
)
async def test_a_plus_may_stand_as_it_is_in_every_time(query: QueryClient, path: str) -> None:
    assert (await query.get(path, token=token(scope="orders:admin"))).status == 200


async def test_the_entity_tag_differs_by_version_and_by_what_is_shown(query: QueryClient) -> None:
    order = next(order for order in WORLD.orders.values() if order["version"] > 2)
    path = f"/v1/orders/{order['_id']}"
    tags = {(await query.get(path, token=token())).headers["etag"]}
    tags.add((await query.get(path, token=token(orders=[order["_id"]]))).headers["etag"])
    created = {"at": format_time(order["created_at"] - timedelta(0))}
    tags.add((await query.get(path, created, token=token())).headers["etag"])
    assert len(tags) == 3


@pytest.mark.parametrize(
    ("path", "params", "pointer"),
    [
        ("/v1/orders/o-1", {"at": "yesterday"}, "/query/at"),
        ("/v1/orders/o-1", {"at": "2026-01-01T00:00:00"}, "/query/at"),
        ("/v1/orders/o-1", {"at": "1700000000"}, "/query/at"),
        ("/v1/orders/o-1", {"at": "9999-12-31T23:59:59-23:59"}, "/query/at"),
        ("/v1/orders/o-1", {"at": "\0"}, "/query/at"),
        ("/v1/orders/o-1", {"at[$gt]": "2026-01-01T00:00:00Z"}, "/query/at[$gt]"),
        ("/v1/orders/o-1", [("at", "2026-01-01T00:00:00Z")] * 2, "/query/at"),
        ("/v1/orders/o-1", {"limit": "1"}, "/query/limit"),
        ("/v1/orders/o-1/history", {"limit": "501"}, "/query/limit"),
        ("/v1/updates/o-1/u-1", {"x/y~z": "1"}, "/query/x~1y~0z"),
    ],
)
async def test_a_bad_parameter_is_named(query: QueryClient, path: str, params: Any, pointer: str) -> None:
    answer = await query.get(path, params, token=token())
    assert (answer.status, answer.slug) == (422, "validation-failed")
    assert [error["pointer"] for error in answer.json["errors"]] == [pointer]


PROBLEM = {
    "slug": "invalid-transition",
    "detail": "It cannot.",
    "members": {
        "current_status": "created",
        "requested_status": "delivered",
        "allowed_next": ["picked_up", "cancelled"],
        "version": 3,
    },
}


async def outcome(query: QueryClient, update_id: str, **claims: Any) -> Answer:
    return await query.get(f"/v1/updates/o-1/{update_id}", token=token(**claims))


async def test_the_outcome_of_an_applied_update(query: QueryClient) -> None:
    await store_update(query.database, "o-1", "u-applied", version=2)
    answer = await outcome(query, "u-applied")
    assert answer.json == {
        "update_id": "u-applied",
        "order_id": "o-1",
        "outcome": "applied",
        "version": 2,
        "recorded_at": format_time(START),
    }


async def test_the_outcome_of_a_rejected_update_holds_its_problem(query: QueryClient) -> None:
    await store_update(query.database, "o-1", "u-bad", outcome="rejected", version=3, problem=PROBLEM)
    answer = await outcome(query, "u-bad")
    assert answer.json["problem"] == {
        "type": "/problems/invalid-transition",
        "title": "The order cannot go to this status from where it stands",
        "status": 409,
        "detail": "It cannot.",
        "instance": "/v1/updates/o-1/u-bad",
        "trace_id": answer.headers["Trace-Id"],
        "update_id": "u-bad",
        **PROBLEM["members"],  # type: ignore[dict-item]
    }


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"merchants": ["m-1"]}, 200),
        ({"merchants": ["m-2"]}, 404),
        ({"merchants": [], "orders": ["o-1"]}, 200),
        ({"merchants": [], "orders": ["o-2"]}, 404),
        ({"merchants": [], "sub": "driver-1"}, 200),
        ({"merchants": [], "sub": "driver-2"}, 404),
    ],
)
async def test_an_outcome_is_for_the_sender_and_those_who_reach_the_order(
    query: QueryClient, claims: dict[str, Any], status: int
) -> None:
    name = f"u-{abs(hash(str(claims)))}"
    await store_update(query.database, "o-1", name)
    answer = await outcome(query, name, **claims)
    assert answer.status == status
    if status == 404:
        assert answer.slug == "update-not-found"


@pytest.mark.parametrize(
    ("claims", "status", "slug"),
    [
        ({"sub": "driver-1", "scope": "orders:write"}, 200, ""),
        ({"sub": "driver-1", "scope": "orders:write", "merchants": []}, 200, ""),
        ({"sub": "driver-1", "scope": "orders:write", "merchants": ["m-2"]}, 200, ""),
        ({"sub": "driver-2", "scope": "orders:write"}, 404, "update-not-found"),
        ({"sub": "driver-2", "scope": "orders:write", "merchants": ["m-1"]}, 404, "update-not-found"),
        ({"sub": "driver-1", "scope": ""}, 403, "forbidden"),
        ({"sub": "driver-1", "scope": "orders:writer"}, 403, "forbidden"),
        ({"sub": "driver-1", "scope": "orders:write", "exp": 1}, 401, "unauthenticated"),
    ],
)
async def test_who_may_only_write_may_read_what_became_of_its_own_updates(
    query: QueryClient, claims: dict[str, Any], status: int, slug: str
) -> None:
    name = f"u-{secrets.token_hex(8)}"
    await store_update(query.database, "o-1", name)
    answer = await outcome(query, name, **claims)
    assert answer.status == status
    if slug:
        assert answer.slug == slug
    for path in ("/v1/orders/o-1", "/v1/orders/o-1/updates", "/v1/orders/o-1/history", "/v1/events"):
        assert (await query.get(path, token=token(**claims))).status == (401 if status == 401 else 403)


async def test_an_outcome_without_an_order_is_for_the_sender(query: QueryClient) -> None:
    fields: dict[str, Any] = {"outcome": "rejected", "merchant_id": None, "version": None, "problem": PROBLEM}
    await store_update(query.database, "o-1", "u-nothing", **fields)
    claims: list[tuple[dict[str, Any], int]] = [
        ({"merchants": [], "sub": "driver-1"}, 200),
        ({"merchants": ["m-1", ""]}, 404),
        ({"merchants": [], "orders": ["o-1"]}, 404),
        ({"merchants": ["*"]}, 200),
    ]
    for claim, status in claims:
        assert (await outcome(query, "u-nothing", **claim)).status == status


@pytest.mark.parametrize("path", ["/v1/updates/o-1/u-none", "/v1/updates/-/u", "/v1/updates/o-1/%00"])
async def test_an_unknown_update_is_not_found(query: QueryClient, path: str) -> None:
    answer = await query.get(path, token=token())
    assert (answer.status, answer.slug) == (404, "update-not-found")
