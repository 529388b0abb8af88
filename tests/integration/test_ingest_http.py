"""What callers of ingest can rely on: statuses, headers, bodies, and a clear problem for everything bad."""

import time
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import ClientSession

from callers import Caller, token
from fixtures import Spine, StartService

ORDER: dict[str, Any] = {"merchant_id": "m-1", "customer": {"name": "Ada", "contact_ref": "crm-1"}}


@pytest.fixture(scope="module")
async def spine(module_spine: Spine) -> Spine:
    return module_spine


def slug(body: Any) -> str:
    return str(body["type"]).removeprefix("/problems/")


async def test_create_and_update_answer_with_the_result(spine: Spine) -> None:
    order_id = uuid4().hex
    created = await spine.caller.post(
        "/v1/orders",
        ORDER | {"order_id": order_id, "metadata": {"channel": "web"}},
        bearer=token(sub="shop", source_type="system"),
    )
    assert created.status == 201
    assert created.headers["Location"] == f"/v1/orders/{order_id}"
    assert set(created.body) == {"update_id", "order_id", "outcome", "version", "order"}
    order = created.body["order"]
    assert order["updated_at"] == order["created_at"]
    assert order | {"created_at": "", "updated_at": ""} == {
        "order_id": order_id,
        "merchant_id": "m-1",
        "reference": None,
        "customer": {"name": "Ada", "contact_ref": "crm-1"},
        "status": "created",
        "version": 1,
        "active": True,
        "created_at": "",
        "updated_at": "",
        "due_at": None,
        "eta": None,
        "overdue": False,
        "source": {"type": "system", "id": "shop"},
        "metadata": {"channel": "web"},
        "allowed_next": ["picked_up", "cancelled"],
    }
    moved = await spine.caller.post(
        f"/v1/orders/{order_id}/updates",
        {"status": "cancelled", "occurred_at": "2026-03-01T10:00:00+02:00"},
        bearer=token(sub="dora", source_type="driver"),
    )
    assert moved.status == 200
    assert moved.body["order"]["source"] == {"type": "driver", "id": "dora"}
    assert (moved.body["order"]["active"], moved.body["order"]["allowed_next"]) == (False, [])


async def test_a_create_says_when_the_order_is_due(spine: Spine) -> None:
    order_id = uuid4().hex
    due = ORDER | {"order_id": order_id, "due_at": "2027-03-01T10:00:00.5+02:00"}
    created = await spine.caller.post("/v1/orders", due, Idempotency_Key="k")
    moved = await spine.caller.post(f"/v1/orders/{order_id}/updates", {"status": "picked_up"})
    for answer in (created, moved):
        order = answer.body["order"]
        assert (order["due_at"], order["eta"], order["overdue"]) == ("2027-03-01T08:00:00.500Z", None, False)
    again = await spine.caller.post("/v1/orders", due, Idempotency_Key="k")
    assert (again.status, again.body["outcome"]) == (201, "duplicate")
    other = await spine.caller.post("/v1/orders", ORDER | {"order_id": order_id}, Idempotency_Key="k")
    assert other.body["type"] == "/problems/idempotency-key-reused"
    refused = await spine.caller.post("/v1/orders", ORDER | {"due_at": "2027-03-01T10:00:00"})
    assert [error["pointer"] for error in refused.body["errors"]] == ["/due_at"]


async def test_respond_async_is_accepted_with_the_place_of_the_outcome(spine: Spine) -> None:
    order_id = uuid4().hex
    answer = await spine.caller.post(
        "/v1/orders", ORDER | {"order_id": order_id}, Prefer="respond-async", Idempotency_Key="k"
    )
    assert answer.status == 202
    assert answer.body == {"update_id": "k", "order_id": order_id, "outcome": "accepted"}
    assert answer.headers["Location"] == f"/v1/updates/{order_id}/k"
    assert answer.headers["Preference-Applied"] == "respond-async"


async def test_when_the_wait_runs_out_the_answer_is_accepted(
    own_spine: Spine, start_service: StartService
) -> None:
    await own_spine.order_state.stop()
    started = time.monotonic()
    answer = await own_spine.caller.post("/v1/orders", ORDER, Prefer="wait=1")
    assert answer.status == 202
    assert 0.9 < time.monotonic() - started < 3


async def test_who_will_not_wait_is_answered_accepted_at_once(own_spine: Spine) -> None:
    await own_spine.order_state.stop()
    started = time.monotonic()
    answer = await own_spine.caller.post("/v1/orders", ORDER, Prefer="wait=0")
    assert (answer.status, answer.body["outcome"]) == (202, "accepted")
    assert "Preference-Applied" not in answer.headers
    assert time.monotonic() - started < 1


async def test_who_does_not_say_how_long_waits_three_seconds(own_spine: Spine) -> None:
    await own_spine.order_state.stop()
    started = time.monotonic()
    answer = await own_spine.caller.post("/v1/orders", ORDER)
    assert answer.status == 202
    assert 2.9 < time.monotonic() - started < 6


async def test_with_a_wait_beside_respond_async_the_outcome_is_awaited_that_long(own_spine: Spine) -> None:
    decided = await own_spine.caller.post("/v1/orders", ORDER, Prefer="respond-async, wait=5")
    assert decided.status == 201
    assert "Preference-Applied" not in decided.headers
    await own_spine.order_state.stop()
    started = time.monotonic()
    accepted = await own_spine.caller.post("/v1/orders", ORDER, Prefer="respond-async;x=y, wait=1")
    assert (accepted.status, accepted.headers["Preference-Applied"]) == (202, "respond-async")
    assert 0.9 < time.monotonic() - started < 3


async def test_the_same_key_with_another_body_is_refused(spine: Spine) -> None:
    order_id = uuid4().hex
    await spine.caller.live(order_id, ())
    path = f"/v1/orders/{order_id}/updates"
    await spine.caller.post(path, {"status": "picked_up"}, Idempotency_Key="k")
    answer = await spine.caller.post(path, {"status": "cancelled"}, Idempotency_Key="k")
    assert (answer.status, slug(answer.body)) == (422, "idempotency-key-reused")
    assert answer.body["update_id"] == "k"


DEEP = {"a": {"b": {"c": {"d": {}}}}}
BAD_BODIES: dict[str, tuple[Any, int, str, str]] = {
    "no JSON": ("{", 400, "malformed-json", ""),
    "an empty body": ("", 400, "malformed-json", ""),
    "a list": ("[1]", 422, "validation-failed", ""),
    "an unknown field": (ORDER | {"x": 1}, 422, "validation-failed", "/x"),
    "no merchant": ({"customer": ORDER["customer"]}, 422, "validation-failed", "/merchant_id"),
    "a bad order id": (ORDER | {"order_id": "-a"}, 422, "validation-failed", "/order_id"),
    "a long order id": (ORDER | {"order_id": "a" * 65}, 422, "validation-failed", "/order_id"),
    "an order id with a line end": (ORDER | {"order_id": "a\n"}, 422, "validation-failed", "/order_id"),
    "a control character": (
        ORDER | {"customer": {"name": "a\x00", "contact_ref": "c"}},
        422,
        "validation-failed",
        "/customer/name",
    ),
    "an empty contact": (
        ORDER | {"customer": {"name": "a", "contact_ref": ""}},
        422,
        "validation-failed",
        "/customer/contact_ref",
    ),
    "a time without offset": (
        ORDER | {"occurred_at": "2026-01-01T00:00:00"},
        422,
        "validation-failed",
        "/occurred_at",
    ),
    "seconds as text": (ORDER | {"occurred_at": "1700000000"}, 422, "validation-failed", "/occurred_at"),
    "a time to come": (
        ORDER | {"occurred_at": "2199-01-01T00:00:00Z"},
        422,
        "validation-failed",
        "/occurred_at",
    ),
    "metadata as a list": (ORDER | {"metadata": []}, 422, "validation-failed", "/metadata"),
    "metadata with an operator": (ORDER | {"metadata": {"$set": 1}}, 422, "validation-failed", "/metadata"),
    "metadata with a dot": (ORDER | {"metadata": {"a": {"b.c": 1}}}, 422, "validation-failed", "/metadata"),
    "metadata too deep": (ORDER | {"metadata": DEEP}, 422, "validation-failed", "/metadata"),
    "metadata too large": (ORDER | {"metadata": {"a": "x" * 4096}}, 422, "validation-failed", "/metadata"),
    "33 keys": (ORDER | {"metadata": {str(n): n for n in range(33)}}, 422, "validation-failed", "/metadata"),
    "a number beyond 64 bits": (ORDER | {"metadata": {"a": 2**63}}, 422, "validation-failed", "/metadata"),
    "not a number": (
        '{"merchant_id":"m","customer":{"name":"a","contact_ref":"b"},"metadata":{"a":NaN}}',
        400,
        "malformed-json",
        "",
    ),
    "half a surrogate": (
        '{"merchant_id":"m","customer":{"name":"\\ud800","contact_ref":"b"}}',
        400,
        "malformed-json",
        "",
    ),
    "no UTF-8": (
        b'{"merchant_id":"m","customer":{"name":"\xff","contact_ref":"b"}}',
        400,
        "malformed-json",
        "",
    ),
    "too large": (ORDER | {"metadata": {"a": "x" * 70_000}}, 413, "payload-too-large", ""),
}


async def test_a_bad_body_gets_a_clear_problem(spine: Spine) -> None:
    for name, (body, status, problem, pointer) in BAD_BODIES.items():
        answer = await spine.caller.post("/v1/orders", body, Idempotency_Key="k")
        assert (answer.status, slug(answer.body)) == (status, problem), name
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert {"title", "status", "detail", "instance", "trace_id", "update_id"} <= set(answer.body), name
        if problem == "validation-failed":
            assert [error["pointer"] for error in answer.body["errors"]] == [pointer], name


async def test_any_subject_of_an_issuer_is_the_source_of_its_updates(spine: Spine) -> None:
    for subject in ("auth0|5f7c8ec7c33c6c004bbafe82", "ann@example.com", "=cmd|' /C calc'!A0", "ü" * 255):
        bearer = token(sub=subject)
        created = await spine.caller.post("/v1/orders", ORDER, bearer=bearer, Idempotency_Key="k")
        assert (created.status, created.body["order"]["source"]["id"]) == (201, subject)
        again = await spine.caller.post("/v1/orders", ORDER, bearer=bearer, Idempotency_Key="k")
        assert (again.headers["Idempotent-Replayed"], again.body["order"]) == ("true", created.body["order"])
        path = f"/v1/orders/{created.body['order_id']}/updates"
        picked_up = await spine.caller.post(path, {"status": "picked_up"}, bearer=bearer)
        assert picked_up.body["order"]["source"]["id"] == subject


async def test_bad_requests_get_a_clear_problem(spine: Spine) -> None:
    post = spine.caller.post
    past = token(exp=time.time() - 1)
    reader = token(scope="orders:read")
    foreign = token(merchants=["m-2"])
    listed = token(scope={"orders:write": True})
    unnarrowed = token(orders=None)
    cases = [
        (await post("/v1/orders", ORDER, Content_Type="text/plain"), 415, "unsupported-media-type"),
        (await post("/v1/orders", ORDER, Idempotency_Key="a b"), 422, "validation-failed"),
        (await post("/v1/orders", ORDER, bearer="nonsense"), 401, "unauthenticated"),
        (await post("/v1/orders", ORDER, bearer=past), 401, "unauthenticated"),
        (await post("/v1/orders", ORDER, bearer=listed), 401, "unauthenticated"),
        (await post("/v1/orders", ORDER, bearer=unnarrowed), 401, "unauthenticated"),
        (await post("/v1/orders", ORDER, bearer=reader), 403, "forbidden"),
        (await post("/v1/orders", ORDER, bearer=foreign), 403, "forbidden"),
        (await post("/v1/nothing", ORDER), 404, "not-found"),
        (await post("/v1/orders/unknown/updates", {"status": "picked_up"}), 404, "order-not-found"),
        (await post("/v1/orders/a%00b/updates", {"status": "picked_up"}), 404, "order-not-found"),
        (await post("/v1/orders/o/updates", {"status": "teleported"}), 422, "validation-failed"),
        (
            await post("/v1/orders/o/updates", {"status": "created", "expected_version": "1"}),
            422,
            "validation-failed",
        ),
        (
            await post("/v1/orders/o/updates", {"status": "picked_up", "expected_version": 0}),
            422,
            "validation-failed",
        ),
        (await post("/healthz", ORDER), 405, "method-not-allowed"),
        (await post("/v1/batch", []), 422, "validation-failed"),
        (await post("/v1/batch", {}), 422, "validation-failed"),
        (await post("/v1/batch", "[NaN]"), 400, "malformed-json"),
        (await post("/v1/batch", [{}] * 1001), 422, "validation-failed"),
        (await post("/v1/batch", b"[" + b" " * 1024 * 1024 + b"]"), 413, "payload-too-large"),
    ]
    assert [(answer.status, slug(answer.body)) for answer, _, _ in cases] == [case[1:] for case in cases]
    told = [answer.headers.get("WWW-Authenticate") for answer, _, _ in cases]
    bearer = 'Bearer realm="tracking", error='
    assert told[2:8] == [
        bearer + '"invalid_token", error_description="The token is not valid."',
        bearer + '"invalid_token", error_description="exp: the token has expired."',
        bearer + '"invalid_token", error_description="scope: must be a text with spaces between,'
        ' or a list of texts."',
        bearer + '"invalid_token", error_description="orders: must be a list of at most 1,000 order ids."',
        bearer + '"insufficient_scope", scope="orders:write",'
        ' error_description="The token does not have the scope orders:write."',
        bearer + '"insufficient_scope", scope="orders:write",'
        ' error_description="The token may not create this order for merchant m-1."',
    ]
    assert set(told[:2] + told[8:]) == {None}


async def test_who_lacks_the_scope_is_told_with_the_id_of_the_update(spine: Spine) -> None:
    reader = token(scope="orders:read")
    for path, body in (("/v1/orders", ORDER), ("/v1/orders/o/updates", {"status": "picked_up"})):
        named = await spine.caller.post(path, body, bearer=reader, Idempotency_Key="k")
        assert (named.status, slug(named.body), named.body["update_id"]) == (403, "forbidden", "k")
        unnamed = await spine.caller.post(path, body, bearer=reader)
        assert (unnamed.status, "update_id" in unnamed.body) == (403, True)
        nobody = await spine.caller.post(path, body, bearer="nonsense", Idempotency_Key="k k")
        assert (nobody.status, slug(nobody.body)) == (401, "unauthenticated")


async def test_a_version_may_be_written_with_a_point_as_some_libraries_do(spine: Spine) -> None:
    order_id = uuid4().hex
    await spine.caller.post("/v1/orders", ORDER | {"order_id": order_id})
    path = f"/v1/orders/{order_id}/updates"
    beside = await spine.caller.post(path, '{"status": "picked_up", "expected_version": 1.5}')
    assert (beside.status, slug(beside.body)) == (422, "validation-failed")
    answer = await spine.caller.post(path, '{"status": "picked_up", "expected_version": 1.0}')
    assert (answer.status, answer.body["version"]) == (200, 2)


async def test_an_order_of_another_merchant_does_not_exist(spine: Spine) -> None:
    order_id = uuid4().hex
    post = spine.caller.post
    await post("/v1/orders", ORDER | {"order_id": order_id})
    body = {"status": "picked_up"}
    stranger = await post(f"/v1/orders/{order_id}/updates", body, bearer=token(merchants=["m-2"]))
    nobody = await post(
        f"/v1/orders/{order_id}/updates", body, bearer=token(merchants=["m-1"], orders=["other"])
    )
    absent = await post("/v1/orders/absent/updates", body)
    assert [a.status for a in (stranger, nobody, absent)] == [404, 404, 404]
    assert stranger.body["detail"] == f"There is no order {order_id}."
    narrow = await post(f"/v1/orders/{order_id}/updates", body, bearer=token(merchants=[], orders=[order_id]))
    assert narrow.status == 200
    assert "customer" not in narrow.body["order"]
    taken = await post(
        "/v1/orders", ORDER | {"order_id": order_id, "merchant_id": "m-2"}, bearer=token(merchants=["m-2"])
    )
    assert (taken.status, slug(taken.body)) == (409, "order-exists")
    assert "version" not in taken.body


async def test_without_a_broker_the_answer_is_503_and_the_repeat_is_safe(
    own_spine: Spine, start_service: StartService
) -> None:
    lonely = await start_service("ingest", wait=False, AMQP_URL="amqp://127.0.0.1:1/")
    own_spine.caller.urls = [lonely.url]
    while True:
        try:
            answer = await own_spine.caller.post("/v1/orders", ORDER, Idempotency_Key="k-503")
            break
        except OSError:  # it is still starting
            continue
    assert (answer.status, slug(answer.body)) == (503, "broker-unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    own_spine.caller.urls = [own_spine.ingest.url]
    assert (await own_spine.caller.post("/v1/orders", ORDER, Idempotency_Key="k-503")).status == 201


ANY_DIGEST = "0123456789ab"


async def test_a_stale_etag_is_not_applied_and_a_current_one_is(spine: Spine) -> None:
    order_id = uuid4().hex
    path = f"/v1/orders/{order_id}/updates"
    await spine.caller.post("/v1/orders", ORDER | {"order_id": order_id})
    stale = await spine.caller.post(
        path, {"status": "cancelled"}, If_Match=f'"2-{ANY_DIGEST}"', Idempotency_Key="k"
    )
    assert (stale.status, slug(stale.body)) == (412, "precondition-failed")
    assert (stale.body["version"], stale.body["expected_version"], stale.body["update_id"]) == (1, 2, "k")
    current = await spine.caller.post(path, {"status": "picked_up"}, If_Match=f'"1-{ANY_DIGEST}"')
    assert (current.status, current.body["version"]) == (200, 2)
    existing = await spine.caller.post(path, {"status": "in_transit"}, If_Match="*")
    assert (existing.status, existing.body["version"]) == (200, 3)
    again = await spine.caller.post(
        path, {"status": "cancelled"}, If_Match=f'"2-{ANY_DIGEST}"', Idempotency_Key="k"
    )
    assert (again.status, slug(again.body)) == (412, "precondition-failed")
    assert again.headers["Idempotent-Replayed"] == "true"


async def test_no_condition_is_ignored(spine: Spine) -> None:
    order_id = uuid4().hex
    await spine.caller.post("/v1/orders", ORDER | {"order_id": order_id})
    path, body = f"/v1/orders/{order_id}/updates", {"status": "cancelled"}
    tag, date = f'"1-{ANY_DIGEST}"', "Thu, 26 Nov 2026 10:00:00 GMT"
    batch = [{"op": "update", "order_id": order_id, "status": "cancelled"}]
    refused = [
        (await spine.caller.post(path, body, If_Match=f"W/{tag}"), 412, "precondition-failed"),
        (await spine.caller.post(path, body, If_Match='"somebody-elses"'), 412, "precondition-failed"),
        (await spine.caller.post(path, body, If_Match=f'{tag}, "2-{ANY_DIGEST}"'), 422, "validation-failed"),
        (await spine.caller.post(path, body, If_Match="1"), 422, "validation-failed"),
        (
            await spine.caller.post(path, body | {"expected_version": 2}, If_Match=tag),
            422,
            "validation-failed",
        ),
        (await spine.caller.post(path, body, If_Unmodified_Since=date), 422, "validation-failed"),
        (await spine.caller.post("/v1/orders", ORDER, If_Match="*"), 422, "validation-failed"),
        (await spine.caller.post("/v1/batch", batch, If_Match=tag), 422, "validation-failed"),
        (await spine.caller.post("/v1/batch", batch, If_Unmodified_Since=date), 422, "validation-failed"),
    ]
    for answer, status, name in refused:
        assert (answer.status, slug(answer.body)) == (status, name), answer.body
    unchanged = await spine.caller.post(path, {"status": "picked_up"}, If_Match=tag)
    assert unchanged.body["version"] == 2


async def test_what_location_names_can_be_read_there_as_query_answers_it(
    spine: Spine, start_service: StartService
) -> None:
    order_id = uuid4().hex
    query = await start_service("query", **spine.environment)
    created = await spine.caller.post(
        "/v1/orders", ORDER | {"order_id": order_id}, Prefer="respond-async", Idempotency_Key="k"
    )
    await spine.caller.post(f"/v1/orders/{order_id}/updates", {"status": "delivered"}, Idempotency_Key="r")
    headers = {"Authorization": f"Bearer {token()}"}
    locations = [created.headers["Location"], f"/v1/updates/{order_id}/r", f"/v1/orders/{order_id}"]
    async with ClientSession(headers=headers) as session:
        for location in locations:
            get = session.get
            async with get(spine.ingest.url + location) as here, get(query.url + location) as there:
                told, known = await here.json(), await there.json()
            for document in (told, known):
                document.get("problem", {}).pop("trace_id", None)
            assert (here.status, told) == (200, known)
            assert here.headers.get("ETag") == there.headers.get("ETag")
        etag = here.headers["ETag"]
        async with session.get(spine.ingest.url + location, headers={"If-None-Match": etag}) as again:
            assert again.status == 304
        for url in (spine.ingest.url, query.url):
            expected = [(etag, 200), ("*", 200), (f"W/{etag}", 412), (f'"1-{ANY_DIGEST}"', 412)]
            for tag, status in [*expected, (f'"other", {etag}', 200), ("", 422), ("unquoted", 422)]:
                async with session.get(url + location, headers={"If-Match": tag}) as conditional:
                    assert conditional.status == status
        async with session.get(f"{spine.ingest.url}{location}?at=2026-01-01T00:00:00Z") as past:
            assert (past.status, slug(await past.json(content_type=None))) == (422, "validation-failed")


async def test_where_query_is_elsewhere_location_says_so(spine: Spine, start_service: StartService) -> None:
    ingest = await start_service(
        "ingest", **spine.environment, PUBLIC_QUERY_URL="https://query.example:8443/tracking/"
    )
    async with Caller([ingest.url]) as caller:
        created = await caller.post("/v1/orders", ORDER)
        taken = await caller.post("/v1/orders", ORDER, Prefer="respond-async", Idempotency_Key="k")
    base = "https://query.example:8443/tracking/v1"
    assert created.headers["Location"] == f"{base}/orders/{created.body['order_id']}"
    assert taken.headers["Location"] == f"{base}/updates/{taken.body['order_id']}/k"
