"""The API of webhooks: who may do what, what is refused, and what is never shown."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from query_stack import QueryClient, World, running_query, store, token
from webhook_stack import WebhookWorld, receiver, until

from database_roles import beyond_role
from tracking_shared.contracts.timestamps import format_time, now
from wire_tap import tap_database

URL = "https://hooks.example.com/in"
MANAGE = {"scope": "webhooks:manage"}
MERCHANT = token(sub="shop", merchants=["m-1"], **MANAGE)
OTHER = token(sub="rival", merchants=["m-2"], **MANAGE)
BOTH = token(sub="carrier", merchants=["m-1", "m-2"], **MANAGE)
ADMIN = token(sub="root-operator", scope="orders:admin", merchants=[])


@pytest.fixture
async def query(mongodb_url: str) -> AsyncIterator[QueryClient]:
    async with running_query(mongodb_url, webhook_allow_networks="127.0.0.0/8") as client:
        await store(client.database, World())
        yield client


@pytest.fixture
def world(query: QueryClient) -> WebhookWorld:
    return WebhookWorld(query.database)


async def create(query: QueryClient, bearer: str = MERCHANT, url: str = URL, **fields: Any) -> dict[str, Any]:
    answer = await query.send("POST", "/v1/webhooks", {"url": url, **fields}, token=bearer)
    assert answer.status == 201, answer.body
    assert answer.headers["location"] == f"/v1/webhooks/{answer.json['id']}"
    found: dict[str, Any] = answer.json
    return found


async def stored(query: QueryClient, webhook_id: str) -> Any:
    return await query.database.webhooks.find_one({"_id": webhook_id})


async def test_a_new_webhook_shows_its_secret_this_once(query: QueryClient) -> None:
    made = await create(query, description="Shop", filter={"merchant_id": ["m-1"], "type": ["order.created"]})
    secret = made.pop("secret")
    read = await query.get(f"/v1/webhooks/{made['id']}", token=MERCHANT)
    listed = await query.get("/v1/webhooks", token=MERCHANT)

    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", secret)
    assert read.json == made
    assert listed.json == {"items": [made], "next_cursor": None}
    assert made["state"] == "active"
    assert made["pending"] == 0
    assert made["last_attempt"] is None
    assert secret.encode() not in read.body + listed.body
    assert secret.removeprefix("whsec_") not in str(await stored(query, made["id"]))


@pytest.mark.parametrize(
    ("bearer", "status"),
    [
        (None, 401),
        (token(merchants=["m-1"]), 403),
        (token(merchants=["m-1"], scope="orders:read orders:write"), 403),
        (token(merchants=[], orders=["o-1"], **MANAGE), 403),
        (token(merchants=[], **MANAGE), 403),
    ],
)
async def test_without_the_scope_or_merchants_nothing_is_allowed(
    query: QueryClient, bearer: str | None, status: int
) -> None:
    made = await create(query)
    one = f"/v1/webhooks/{made['id']}"
    answers = [
        await query.send("POST", "/v1/webhooks", {"url": URL}, token=bearer),
        await query.get("/v1/webhooks", token=bearer),
        await query.get(one, token=bearer),
        await query.get(f"{one}/attempts", token=bearer),
        await query.send("PATCH", one, {"description": "x"}, token=bearer),
        await query.send("DELETE", one, token=bearer),
        *[
            await query.send("POST", f"{one}/{act}", body, token=bearer)
            for act, body in (("test", None), ("rotate-secret", None), ("enable", None), ("replay", {}))
        ],
    ]

    assert {answer.status for answer in answers} == {status}


async def test_a_webhook_of_another_merchant_does_not_exist(query: QueryClient) -> None:
    made = await create(query, filter={"merchant_id": ["m-1"]})
    of_both = await create(query, BOTH)
    one = f"/v1/webhooks/{made['id']}"
    missing = await query.get("/v1/webhooks/wh_unknown", token=OTHER)
    answers = [
        await query.get(one, token=OTHER),
        await query.get(f"{one}/attempts", token=OTHER),
        await query.send("PATCH", one, {"description": "x"}, token=OTHER),
        await query.send("DELETE", one, token=OTHER),
        await query.send("POST", f"{one}/test", token=OTHER),
        await query.send("POST", f"{one}/rotate-secret", token=OTHER),
        await query.send("POST", f"{one}/enable", token=OTHER),
        await query.send("POST", f"{one}/replay", {"from": "2026-01-01T00:00:00Z"}, token=OTHER),
    ]

    assert {answer.status for answer in answers} == {404} == {missing.status}
    assert (await query.get("/v1/webhooks", token=OTHER)).json["items"] == []
    # Who reaches only a part of what it gets, does not see it either.
    assert (await query.get(f"/v1/webhooks/{of_both['id']}", token=MERCHANT)).status == 404
    for bearer in (BOTH, ADMIN):
        ids = [item["id"] for item in (await query.get("/v1/webhooks", token=bearer)).json["items"]]
        assert sorted(ids) == sorted([of_both["id"], made["id"]])


async def test_an_administrator_without_merchants_changes_a_filter_and_extends_nothing(
    query: QueryClient,
) -> None:
    made = await create(query)
    one = f"/v1/webhooks/{made['id']}"
    changed = await query.send("PATCH", one, {"filter": {"type": ["order.created"]}}, token=ADMIN)
    kept = await stored(query, made["id"])
    named = await query.send("PATCH", one, {"filter": {"merchant_id": ["m-1", "m-2"]}}, token=ADMIN)

    assert (changed.status, changed.json["filter"]) == (200, {"type": ["order.created"]})
    assert (kept["grant"]["merchants"], kept["grant"]["sub"]) == (["m-1"], "shop")
    assert (named.status, named.json["created_by"]) == (200, "root-operator")
    assert (await stored(query, made["id"]))["grant"]["merchants"] == ["m-1", "m-2"]
    assert (await query.get(one, token=MERCHANT)).status == 404  # it gets more than this token reaches


async def test_a_webhook_gets_no_more_than_its_token_reaches(query: QueryClient) -> None:
    made = await create(query, filter={"merchant_id": ["m-1", "m-2"]})
    narrow = await create(query, BOTH, filter={"merchant_id": ["m-2"]})
    refused = await query.send(
        "POST", "/v1/webhooks", {"url": URL, "filter": {"merchant_id": ["m-2"]}}, token=MERCHANT
    )

    assert (await stored(query, made["id"]))["grant"]["merchants"] == ["m-1"]
    assert (await stored(query, narrow["id"]))["grant"]["merchants"] == ["m-2"]
    assert refused.status == 403


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/url"),
        ({"url": "http://hooks.example.org:99999/"}, "/url"),
        ({"url": "https://10.0.0.1/"}, "/url"),
        ({"url": "https://[::1]/"}, "/url"),
        ({"url": "https://169.254.169.254/latest"}, "/url"),
        ({"url": "https://a:b@hooks.example.com/"}, "/url"),
        ({"url": "ftp://hooks.example.com/"}, "/url"),
        ({"url": URL, "secret": "mine"}, "/secret"),
        ({"url": URL, "filter": {"merchant": ["m-1"]}}, "/filter/merchant"),
        ({"url": URL, "filter": {"merchant_id": []}}, "/filter/merchant_id"),
        ({"url": URL, "filter": {"merchant_id": ["?"]}}, "/filter/merchant_id/0"),
        ({"url": URL, "filter": {"status": ["flying"]}}, "/filter/status"),
        ({"url": URL, "filter": {"type": ["order.sold"]}}, "/filter/type/0"),
        ({"url": URL, "description": "a\0b"}, "/description"),
        ({"url": URL, "description": "x" * 201}, "/description"),
    ],
)
async def test_a_bad_body_is_refused_with_its_place(query: QueryClient, body: Any, pointer: str) -> None:
    answer = await query.send("POST", "/v1/webhooks", body, token=MERCHANT)

    assert answer.status == 422, answer.body
    assert [error["pointer"] for error in answer.json["errors"]] == [pointer]


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        (b"", "malformed-json"),
        (b"{", "malformed-json"),
        (b'{"url":"https://a.example/","url":"https://b.example/"}', "malformed-json"),
        (b"[" * 100_000, "payload-too-large"),
        (b"[" * 10_000, "malformed-json"),
        (b'{"url":"' + b"\xff" + b'"}', "malformed-json"),
    ],
)
async def test_what_is_no_json_is_refused(query: QueryClient, body: bytes, slug: str) -> None:
    answer = await query.send("POST", "/v1/webhooks", body, token=MERCHANT)

    assert answer.json["type"] == f"/problems/{slug}"


async def test_a_repeated_request_finds_the_webhook_and_shows_no_secret(query: QueryClient) -> None:
    key = {"Idempotency-Key": "shop-hook"}
    first = await query.send("POST", "/v1/webhooks", {"url": URL}, token=MERCHANT, headers=key)
    again = await query.send("POST", "/v1/webhooks", {"url": URL}, token=MERCHANT, headers=key)
    other = await query.send("POST", "/v1/webhooks", {"url": URL + "2"}, token=MERCHANT, headers=key)
    of_other = await query.send("POST", "/v1/webhooks", {"url": URL}, token=OTHER, headers=key)

    assert (first.status, again.status, other.status, of_other.status) == (201, 201, 422, 201)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json == {name: value for name, value in first.json.items() if name != "secret"}
    assert of_other.json["id"] != first.json["id"]
    assert await query.database.webhook_secrets.count_documents({"webhook_id": first.json["id"]}) == 1


async def test_a_change_is_seen_by_its_sender(query: QueryClient) -> None:
    made = await create(query)
    one = f"/v1/webhooks/{made['id']}"
    before = (await stored(query, made["id"]))["fence"]
    changed = await query.send(
        "PATCH",
        one,
        {"url": URL + "2", "filter": {"status": ["delivered"]}, "description": None},
        token=MERCHANT,
    )
    empty = await query.send("PATCH", one, {}, token=MERCHANT)
    bad = await query.send("PATCH", one, {"url": "https://127.1.1.1.1.1.1/ x"}, token=MERCHANT)

    assert changed.status == 200
    assert (changed.json["url"], changed.json["filter"]) == (URL + "2", {"status": ["delivered"]})
    assert (await stored(query, made["id"]))["fence"] == before + 1
    assert (empty.status, bad.status) == (422, 422)


async def test_a_rotated_secret_signs_for_a_day_beside_the_new_one(query: QueryClient) -> None:
    made = await create(query)
    answer = await query.send("POST", f"/v1/webhooks/{made['id']}/rotate-secret", token=MERCHANT)
    keys = await query.database.webhook_secrets.find({"webhook_id": made["id"]}).to_list()

    assert answer.status == 200
    assert answer.json["secret"] != made["secret"]
    untils = sorted(key["until"] for key in keys if key["until"] is not None)
    assert len(keys) == 2
    assert len(untils) == 1
    assert timedelta(hours=23.9) < untils[0] - now() < timedelta(hours=24.1)


async def test_of_two_rotations_at_the_same_time_neither_ends_the_key_of_the_other(
    query: QueryClient,
) -> None:
    made = await create(query)
    later = {
        "_id": "later",
        "webhook_id": made["id"],
        "key": b"k",
        "created_at": now() + timedelta(seconds=9),
    }
    await query.database.webhook_secrets.insert_one(later | {"until": None})  # type: ignore[arg-type]

    answer = await query.send("POST", f"/v1/webhooks/{made['id']}/rotate-secret", token=MERCHANT)

    assert answer.status == 200
    keys = await query.database.webhook_secrets.find({"webhook_id": made["id"]}).to_list()
    assert [key["until"] is None for key in sorted(keys, key=lambda key: key["created_at"])] == [
        False,
        True,
        True,
    ]


async def test_a_deleted_webhook_leaves_nothing(query: QueryClient) -> None:
    made = await create(query)
    one = f"/v1/webhooks/{made['id']}"

    assert (await query.send("DELETE", one, token=MERCHANT)).status == 204
    assert (await query.get(one, token=MERCHANT)).status == 404
    for collection in ("webhooks", "webhook_secrets", "webhook_attempts"):
        assert await query.database.raw[collection].count_documents({}) == 0


async def test_a_webhook_begins_behind_a_cursor_or_now(query: QueryClient, world: WebhookWorld) -> None:
    start = (await query.get("/v1/events", {"limit": 1}, token=ADMIN)).json["cursor"]
    await world.add("a", "b", "a")
    from_now = await create(query)
    from_start = await create(query, after=start)
    await world.add("a")
    answers = [
        (await query.get(f"/v1/webhooks/{made['id']}", token=MERCHANT)).json
        for made in (from_now, from_start)
    ]
    bad = await query.send("POST", "/v1/webhooks", {"url": URL, "after": "AAAA"}, token=MERCHANT)

    assert [answer["pending"] for answer in answers] == [1, 4]
    assert [answer["pending_exact"] for answer in answers] == [True, True]
    assert bad.json["type"] == "/problems/invalid-cursor"


async def test_a_replay_goes_back_and_never_forward(query: QueryClient, world: WebhookWorld) -> None:
    start = (await query.get("/v1/events", {"limit": 1}, token=ADMIN)).json["cursor"]
    await world.add("a", "b", "a")
    made = await create(query)
    one = f"/v1/webhooks/{made['id']}/replay"
    pending = []
    for body in ({"after": start}, {"after": made["cursor"]}):
        answer = await query.send("POST", one, body, token=MERCHANT)
        assert answer.status == 202
        pending.append(answer.json["pending"])
    by_time = await create(query)
    answer = await query.send(
        "POST", f"/v1/webhooks/{by_time['id']}/replay", {"from": "2020-01-01T00:00:00Z"}, token=MERCHANT
    )
    later = await create(query)
    future = format_time(now() + timedelta(days=1))
    unmoved = await query.send("POST", f"/v1/webhooks/{later['id']}/replay", {"from": future}, token=MERCHANT)

    assert pending == [3, 3]
    assert answer.json["pending"] == 3
    assert unmoved.json["pending"] == 0


async def test_a_replay_names_one_place(query: QueryClient) -> None:
    made = await create(query)
    one = f"/v1/webhooks/{made['id']}/replay"
    for body in ({}, {"after": made["cursor"], "from": "2026-01-01T00:00:00Z"}, {"from": "yesterday"}):
        assert (await query.send("POST", one, body, token=MERCHANT)).status == 422


async def test_a_replay_gives_a_delayed_order_its_earlier_versions_again(
    query: QueryClient, world: WebhookWorld
) -> None:
    await world.add("a", "a", "a")
    made = await create(query)
    delayed = {
        "order_id": "a",
        "partition": world.world.events[0]["partition"],
        "version": 3,
        "failures": 4,
        "since": now(),
        "next_at": now() + timedelta(hours=1),
    }
    await query.database.webhooks.update_one({"_id": made["id"]}, {"$set": {"delayed": [delayed]}})
    before = (await query.get(f"/v1/webhooks/{made['id']}", token=MERCHANT)).json
    await query.send(
        "POST", f"/v1/webhooks/{made['id']}/replay", {"from": "2020-01-01T00:00:00Z"}, token=MERCHANT
    )

    assert (before["pending"], before["delayed_orders"]) == (1, 1)
    assert (await stored(query, made["id"]))["delayed"][0]["version"] == 1


async def test_enabling_goes_on_where_it_stood_under_the_new_token(query: QueryClient) -> None:
    made = await create(query)
    seqs = (await stored(query, made["id"]))["seqs"]
    failed = {"state": "disabled", "reason": "failed-too-long", "failures": 99, "failing_since": now()}
    await query.database.webhooks.update_one({"_id": made["id"]}, {"$set": failed})
    renewed = token(sub="shop-2", merchants=["m-1"], jti="t-2", iat=1_700_000_000, **MANAGE)
    answer = await query.send("POST", f"/v1/webhooks/{made['id']}/enable", token=renewed)
    after = await stored(query, made["id"])

    assert (answer.status, answer.json["state"], answer.json["reason"]) == (200, "active", None)
    assert (after["seqs"], after["failures"], after["failing_since"]) == (seqs, 0, None)
    assert after["grant"]["merchants"] == ["m-1"]
    assert (after["grant"]["sub"], after["grant"]["token_id"]) == ("shop-2", "t-2")


async def test_the_list_has_pages(query: QueryClient) -> None:
    ids = [(await create(query))["id"] for _ in range(5)]
    found: list[str] = []
    params: dict[str, Any] = {"limit": 2}
    while True:
        page = await query.get("/v1/webhooks", params, token=MERCHANT)
        found += [item["id"] for item in page.json["items"]]
        if page.json["next_cursor"] is None:
            break
        assert "link" in page.headers
        params["cursor"] = page.json["next_cursor"]

    assert sorted(found) == sorted(ids)
    assert (await query.get("/v1/webhooks", {"cursor": "x"}, token=MERCHANT)).status == 400


async def test_administrative_acts_are_in_the_audit_trail_without_the_path_or_the_secret(
    query: QueryClient,
) -> None:
    made = await create(query, url="https://hooks.example.com/t0ken?key=s3cret")
    one = f"/v1/webhooks/{made['id']}"
    await query.send("PATCH", one, {"description": "x"}, token=MERCHANT)
    await query.send("POST", f"{one}/rotate-secret", token=MERCHANT)
    await query.send("DELETE", one, token=MERCHANT)
    trail = (await query.get("/v1/audit", token=ADMIN)).json["items"]

    assert [entry["action"] for entry in trail] == [
        "webhook.deleted",
        "webhook.secret_rotated",
        "webhook.changed",
        "webhook.created",
    ]
    assert {entry["subject"] for entry in trail} == {made["id"]}
    assert trail[-1]["details"] == {"host": "hooks.example.com", "merchants": ["m-1"]}


async def test_a_test_delivery_is_made_and_told(query: QueryClient, world: WebhookWorld) -> None:
    async with receiver() as hook:
        made = await create(query, url=hook.url)
        await world.start_sender()

        async def is_taken() -> bool:
            return (await stored(query, made["id"]))["sender"] is not None

        await until(is_taken)
        answer = await query.send("POST", f"/v1/webhooks/{made['id']}/test", token=MERCHANT)
        attempts = await query.get(f"/v1/webhooks/{made['id']}/attempts", token=MERCHANT)

        async def is_shown() -> bool:
            read = await query.get(f"/v1/webhooks/{made['id']}", token=MERCHANT)
            return bool(read.json["last_attempt"] == answer.json)

        await until(is_shown)
        await world.close()

    assert (answer.status, answer.json["outcome"], answer.json["status"]) == (200, "delivered", 204)
    assert attempts.json["items"] == [answer.json]
    assert hook.requests[0].event["type"] == "webhook.test"
    assert hook.requests[0].headers["webhook-id"] == answer.json["event_id"]


async def test_query_keeps_to_its_role_in_the_database(mongodb_url: str) -> None:
    async with tap_database(mongodb_url) as tap, running_query(tap.url) as client:
        await store(client.database, World())
        tap.commands.clear()
        made = await create(client)
        one = f"/v1/webhooks/{made['id']}"
        for act in ("rotate-secret", "enable"):
            await client.send("POST", f"{one}/{act}", token=MERCHANT)
        await client.send("POST", f"{one}/replay", {"from": "2026-01-01T00:00:00Z"}, token=MERCHANT)
        await client.get("/v1/webhooks", token=MERCHANT)
        await client.get(f"{one}/attempts", token=MERCHANT)
        await client.send("DELETE", one, token=MERCHANT)
        found = beyond_role("query", tap.commands)

    assert found == set()


async def test_nothing_of_a_secret_or_an_address_is_logged(
    query: QueryClient, caplog: pytest.LogCaptureFixture
) -> None:
    made = await create(query, url="https://hooks.example.com/t0ken")
    await query.send("POST", f"/v1/webhooks/{made['id']}/rotate-secret", token=MERCHANT)

    assert made["secret"] not in caplog.text
    assert "t0ken" not in caplog.text
