"""Corrections: any status from any, by those who may, in the audit trail; the history stays as it was."""

import asyncio
from uuid import uuid4

import pytest

from callers import Answer, token
from fixtures import Spine, StartService
from listeners import examine
from reading import get

CORRECTOR = token(sub="olga", source_type="operator", scope="orders:read orders:correct")
TO_THE_END = ("picked_up", "in_transit", "delivered")


@pytest.fixture(scope="module")
async def spine(module_spine: Spine) -> Spine:
    return module_spine


async def correct(
    spine: Spine, order_id: str, status: str, *, bearer: str = CORRECTOR, reason: str = "r", **more: object
) -> Answer:
    headers = {name: str(more.pop(name)) for name in ("Idempotency_Key", "If_Match") if name in more}
    body = {"status": status, "reason": reason, **more}
    return await spine.caller.post(f"/v1/orders/{order_id}/corrections", body, bearer=bearer, **headers)


async def a_life(spine: Spine, steps: tuple[str, ...] = TO_THE_END) -> str:
    order_id = uuid4().hex
    await spine.caller.live(order_id, steps)
    return order_id


async def test_who_may_correct(spine: Spine) -> None:
    order_id = await a_life(spine)
    for scope in ("orders:read orders:write", "orders:read"):
        answer = await correct(spine, order_id, "in_transit", bearer=token(scope=scope))
        assert (answer.status, answer.body["type"]) == (403, "/problems/forbidden")
        challenge = 'error="insufficient_scope", scope="orders:correct"'
        assert challenge in answer.headers["WWW-Authenticate"]
    foreign = token(scope="orders:correct", merchants=["m-strange"])
    hidden = await correct(spine, order_id, "in_transit", bearer=foreign)
    assert (hidden.status, hidden.body["type"]) == (404, "/problems/order-not-found")
    unlisted = token(scope="orders:correct", orders=["another"])
    assert (await correct(spine, order_id, "in_transit", bearer=unlisted)).status == 404
    assert (await correct(spine, order_id, "in_transit")).status == 200
    admin = token(scope="orders:admin", merchants=[])
    assert (await correct(spine, order_id, "delivered", bearer=admin)).status == 200
    only = token(sub="only", scope="orders:correct")
    assert (await correct(spine, order_id, "picked_up", bearer=only)).status == 200
    update = {"status": "in_transit"}
    refused = await spine.caller.post(f"/v1/orders/{order_id}/updates", update, bearer=only)
    assert refused.status == 403
    await examine(spine.environment, spine.caller.acknowledged)


async def test_an_order_that_is_corrected_out_of_a_final_status_is_active_again_everywhere(
    own_spine: Spine, start_service: StartService
) -> None:
    query = await start_service("query")
    order_id = await a_life(own_spine)
    assert not (await get(query.url, f"/v1/orders/{order_id}"))["active"]
    answer = await correct(
        own_spine,
        order_id,
        "in_transit",
        reason="Wrong parcel scanned",
        Idempotency_Key="k",
        expected_version=4,
    )
    assert (answer.status, answer.body["version"]) == (200, 5)
    order = answer.body["order"]
    assert (order["status"], order["active"]) == ("in_transit", True)
    assert order["allowed_next"] == ["in_transit", "delivered", "cancelled"]
    assert order["source"] == {"type": "operator", "id": "olga"}
    assert await get(query.url, f"/v1/orders/{order_id}") == order
    listed = (await get(query.url, "/v1/orders?active=true"))["items"]
    assert [one["order_id"] for one in listed] == [order_id]
    again = await correct(
        own_spine,
        order_id,
        "in_transit",
        reason="Wrong parcel scanned",
        Idempotency_Key="k",
        expected_version=4,
    )
    assert (again.status, again.body["outcome"]) == (200, "duplicate")
    path = f"/v1/orders/{order_id}/updates"
    delivered = await own_spine.caller.insist(path, {"status": "delivered"}, "again", order_id)
    assert delivered.body["version"] == 6
    history = (await get(query.url, f"/v1/orders/{order_id}/history"))["items"]
    assert [item["status"] for item in history] == [
        *("created", "picked_up", "in_transit", "delivered", "in_transit", "delivered")
    ], "nothing is rewritten"
    assert (history[4]["type"], history[4]["reason"]) == ("order.corrected", "Wrong parcel scanned")
    past = await get(query.url, f"/v1/orders/{order_id}?at={history[3]['recorded_at']}")
    assert past["status"] == "delivered"
    await examine(own_spine.environment, own_spine.caller.acknowledged)


async def test_a_correction_to_the_present_status_or_to_none_is_refused(spine: Spine) -> None:
    order_id = await a_life(spine)
    same = await correct(spine, order_id, "delivered")
    assert (same.status, same.body["type"]) == (409, "/problems/invalid-transition")
    assert (same.body["current_status"], same.body["requested_status"]) == ("delivered", "delivered")
    for body, pointer in (
        ({"status": "eaten", "reason": "r"}, "/status"),
        ({"status": "created"}, "/reason"),
        ({"status": "created", "reason": " "}, "/reason"),
        ({"status": "created", "reason": "r" * 501}, "/reason"),
        ({"status": "created", "reason": "r", "kind": "note"}, "/kind"),
    ):
        answer = await spine.caller.post(f"/v1/orders/{order_id}/corrections", body, bearer=CORRECTOR)
        assert (answer.status, answer.body["type"]) == (422, "/problems/validation-failed")
        assert [error["pointer"] for error in answer.body["errors"]] == [pointer]
    stale = await correct(spine, order_id, "created", expected_version=3)
    assert (stale.status, stale.body["type"]) == (409, "/problems/version-conflict")
    tag = await correct(spine, order_id, "created", If_Match='"3-0123456789ab"')
    assert (tag.status, tag.body["type"]) == (412, "/problems/precondition-failed")


async def test_every_correction_is_in_the_audit_trail_and_nothing_else(
    own_spine: Spine, start_service: StartService
) -> None:
    query = await start_service("query")
    order_id = await a_life(own_spine)
    await correct(own_spine, order_id, "delivered")
    await correct(own_spine, order_id, "cancelled", reason="Customer refused it", Idempotency_Key="k")
    await correct(own_spine, order_id, "cancelled", reason="Customer refused it", Idempotency_Key="k")
    admin = token(scope="orders:admin")
    page = await get(query.url, "/v1/audit?action=order.corrected", bearer=admin)
    [entry] = page["items"]
    assert entry["actor"] == {"sub": "olga", "via": "api"}
    assert entry["subject"] == order_id
    merchant_id = (await get(query.url, f"/v1/orders/{order_id}"))["merchant_id"]
    assert entry["details"] == {
        "merchant_id": merchant_id,
        "version": 5,
        "from": "delivered",
        "to": "cancelled",
        "reason": "Customer refused it",
        "update_id": "k",
    }
    await examine(own_spine.environment, own_spine.caller.acknowledged)


async def test_in_a_batch_each_operation_is_asked_for_its_own_scope(spine: Spine) -> None:
    order_id = await a_life(spine, ("picked_up",))
    operations = [
        {"op": "correct", "order_id": order_id, "status": "created", "reason": "r"},
        {"op": "update", "order_id": order_id, "status": "in_transit"},
        {"op": "checkpoint", "order_id": order_id, "kind": "note"},
    ]
    by_corrector = await spine.caller.post("/v1/batch", operations, bearer=CORRECTOR)
    outcomes = [line["outcome"] for line in by_corrector.body["results"]]
    assert outcomes == ["applied", "rejected", "rejected"]
    by_driver = await spine.caller.post("/v1/batch", operations[::2])
    [refused, applied] = by_driver.body["results"]
    assert (refused["problem"]["type"], applied["outcome"]) == ("/problems/forbidden", "applied")
    neither = await spine.caller.post("/v1/batch", operations, bearer=token(scope="orders:read"))
    assert neither.status == 403


async def test_the_sender_of_a_correction_may_read_its_outcome(spine: Spine) -> None:
    order_id = await a_life(spine)
    only = token(sub="only", scope="orders:correct")
    await correct(spine, order_id, "created", bearer=only, Idempotency_Key="k")
    outcome = await get(spine.ingest.url, f"/v1/updates/{order_id}/k", bearer=only, service="ingest")
    assert (outcome["outcome"], outcome["version"]) == ("applied", 5)


@pytest.mark.parametrize("guarded", [True, False], ids=["with expected_version", "without"])
async def test_a_correction_that_races_with_a_step_is_decided_in_one_order(
    spine: Spine, *, guarded: bool
) -> None:
    """Whichever comes first, the other is decided on what it left: no version is taken twice."""
    order_ids = await asyncio.gather(*(a_life(spine, ("picked_up", "in_transit")) for _ in range(12)))
    expected = {"expected_version": 3} if guarded else {}

    async def race(order_id: str) -> tuple[Answer, Answer]:
        step, correction = {"status": "delivered"}, {"status": "created", "reason": "r"}
        return await asyncio.gather(
            spine.caller.insist(f"/v1/orders/{order_id}/updates", step | expected, "step", order_id),
            spine.caller.insist(
                f"/v1/orders/{order_id}/corrections",
                correction | expected,
                "correction",
                order_id,
                bearer=CORRECTOR,
            ),
        )

    for step, correction in await asyncio.gather(*map(race, order_ids)):
        applied = [answer.body["version"] for answer in (step, correction) if answer.status == 200]
        if guarded:
            assert applied == [4]
            assert sorted([step.status, correction.status]) == [200, 409]
        elif step.status == 200:
            assert (step.body["version"], correction.body["version"]) == (4, 5)
        else:  # a created order cannot be delivered
            assert step.body["type"] == "/problems/invalid-transition"
            assert applied == [4]
    await examine(spine.environment, spine.caller.acknowledged)


async def test_the_same_correction_sent_20_times_at_once_takes_effect_once(spine: Spine) -> None:
    order_id = await a_life(spine)
    path, body = f"/v1/orders/{order_id}/corrections", {"status": "in_transit", "reason": "r"}
    answers = await asyncio.gather(
        *(spine.caller.insist(path, body, "u", order_id, bearer=CORRECTOR) for _ in range(20))
    )
    assert sorted(answer.body["outcome"] for answer in answers) == ["applied"] + ["duplicate"] * 19
    assert {answer.body["version"] for answer in answers} == {5}
    await examine(spine.environment, spine.caller.acknowledged)
