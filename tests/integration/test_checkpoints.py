"""Checkpoints: recorded at any status, once, in the sequence of versions, and nothing else changes."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from callers import Answer, token
from fixtures import Spine, StartService
from listeners import examine
from reading import get

TO_THE_END = ("picked_up", "in_transit", "delivered")


@pytest.fixture(scope="module")
async def spine(module_spine: Spine) -> Spine:
    return module_spine


async def checkpoint(spine: Spine, order_id: str, body: Any = None, **headers: str) -> Answer:
    return await spine.caller.post(
        f"/v1/orders/{order_id}/checkpoints", {"kind": "note"} | (body or {}), **headers
    )


async def a_life(spine: Spine, steps: tuple[str, ...] = TO_THE_END) -> str:
    order_id = uuid4().hex
    await spine.caller.live(order_id, steps)
    return order_id


async def test_a_checkpoint_on_a_final_order_is_answered_as_an_update_is(spine: Spine) -> None:
    order_id = await a_life(spine)
    body = {
        "kind": "proof_added",
        "message": "Signed by\nA. Lovelace",
        "eta": "2026-03-02T10:00:00+01:00",
        "due_at": "2026-03-02T12:00:00Z",
        "occurred_at": "2026-03-02T09:39:58.123+01:00",
        "metadata": {"photo": "p-1"},
        "expected_version": 4,
    }
    answer = await checkpoint(spine, order_id, body, Idempotency_Key="c-1")
    assert (answer.status, answer.body["outcome"], answer.body["version"]) == (200, "applied", 5)
    order = answer.body["order"]
    assert (order["status"], order["active"], order["version"]) == ("delivered", False, 5)
    assert order["metadata"] == {"step": 2}, "that of a checkpoint belongs to the checkpoint alone"
    times = ("2026-03-02T09:00:00.000Z", "2026-03-02T12:00:00.000Z", False)
    assert (order["eta"], order["due_at"], order["overdue"]) == times
    again = await checkpoint(spine, order_id, body, Idempotency_Key="c-1")
    assert (again.status, again.body) == (200, answer.body | {"outcome": "duplicate"})
    assert again.headers["Idempotent-Replayed"] == "true"
    other = await checkpoint(spine, order_id, body | {"message": "other"}, Idempotency_Key="c-1")
    assert (other.status, other.body["type"]) == (422, "/problems/idempotency-key-reused")
    stale = await checkpoint(spine, order_id, {"expected_version": 4})
    assert (stale.status, stale.body["type"]) == (409, "/problems/version-conflict")
    later = await checkpoint(spine, order_id, {}, Prefer="respond-async")
    assert later.status == 202
    assert later.headers["Location"].startswith(f"/v1/updates/{order_id}/")
    await examine(spine.environment, spine.caller.acknowledged)


async def test_bad_checkpoints_are_refused_before_they_are_sent(spine: Spine) -> None:
    order_id = await a_life(spine, ())
    for body, pointer in (
        ({"kind": "picked_up"}, "/kind"),
        ({"kind": ""}, "/kind"),
        ({"kind": None}, "/kind"),
        ({"message": ""}, "/message"),
        ({"message": " \n "}, "/message"),
        ({"message": "m" * 501}, "/message"),
        ({"message": "\u0007"}, "/message"),
        ({"eta": "tomorrow"}, "/eta"),
        ({"due_at": "2026-03-02T12:00:00"}, "/due_at"),
        ({"status": "picked_up"}, "/status"),
        ({"reason": "none"}, "/reason"),
        ({"expected_version": 0}, "/expected_version"),
    ):
        answer = await checkpoint(spine, order_id, body)
        assert (answer.status, answer.body["type"]) == (422, "/problems/validation-failed"), body
        assert [error["pointer"] for error in answer.body["errors"]] == [pointer]
    longest = await checkpoint(spine, order_id, {"message": "ü" * 500, "eta": None})
    assert (longest.status, longest.body["version"]) == (200, 2)
    assert (await checkpoint(spine, uuid4().hex)).body["type"] == "/problems/order-not-found"
    foreign = await checkpoint(spine, order_id, bearer=token(merchants=["m-strange"]))
    assert foreign.body["type"] == "/problems/order-not-found"
    unscoped = await checkpoint(spine, order_id, bearer=token(scope="orders:read orders:correct"))
    assert unscoped.status == 403
    assert 'scope="orders:write"' in unscoped.headers["WWW-Authenticate"]


async def test_the_same_checkpoint_sent_20_times_at_once_takes_effect_once(spine: Spine) -> None:
    order_id = await a_life(spine)
    path, body = f"/v1/orders/{order_id}/checkpoints", {"kind": "delayed", "message": "snow"}
    answers = await asyncio.gather(*(spine.caller.insist(path, body, "u", order_id) for _ in range(20)))
    assert sorted(answer.body["outcome"] for answer in answers) == ["applied"] + ["duplicate"] * 19
    assert {answer.body["version"] for answer in answers} == {5}
    await examine(spine.environment, spine.caller.acknowledged)


async def test_checkpoints_and_steps_of_a_batch_keep_their_order(
    spine: Spine, start_service: StartService
) -> None:
    query = await start_service("query", **spine.environment)
    order_id = await a_life(spine, ())
    of_order = {"order_id": order_id}
    operations = [
        {"op": "checkpoint", "kind": "note", "message": "ring twice", "update_id": "a"} | of_order,
        {"op": "update", "status": "picked_up", "update_id": "b"} | of_order,
        {"op": "checkpoint", "kind": "eaten", "update_id": "c"} | of_order,
        {"op": "checkpoint", "kind": "delivery_attempted", "update_id": "d"} | of_order,
        {"op": "correct", "status": "created", "reason": "wrong parcel", "update_id": "e"} | of_order,
    ]
    answer = await spine.caller.post("/v1/batch", operations, bearer=token(scope="orders:admin"))
    results = answer.body["results"]
    assert [line["outcome"] for line in results] == ["applied", "applied", "rejected", "applied", "applied"]
    assert [line.get("version") for line in results] == [2, 3, None, 4, 5]
    assert results[2]["problem"]["errors"][0]["pointer"] == "/kind"

    history = (await get(query.url, f"/v1/orders/{order_id}/history"))["items"]
    told = [(item["type"], item["status"], item["previous_status"]) for item in history]
    assert told == [
        ("order.created", "created", None),
        ("order.checkpoint_added", "created", "created"),
        ("order.status_changed", "picked_up", "created"),
        ("order.checkpoint_added", "picked_up", "picked_up"),
        ("order.corrected", "created", "picked_up"),
    ]
    extras = ("kind", "message", "reason")
    assert [{name: item[name] for name in extras if name in item} for item in history] == [
        {},
        {"kind": "note", "message": "ring twice"},
        {},
        {"kind": "delivery_attempted"},
        {"reason": "wrong parcel"},
    ]
    events = (await get(query.url, f"/v1/events?order_id={order_id}"))["events"]
    assert [event["type"] for event in events] == [kind for kind, _, _ in told]
    assert [{name: event["data"][name] for name in extras if name in event["data"]} for event in events] == [
        {name: item[name] for name in extras if name in item} for item in history
    ]
    for item in history:
        past = await get(query.url, f"/v1/orders/{order_id}?at={item['recorded_at']}")
        assert past["version"] >= item["version"]
    outcomes = (await get(query.url, f"/v1/orders/{order_id}/updates"))["items"]
    asked = {one["update_id"]: (one["requested_status"], one.get("kind")) for one in outcomes}
    assert asked["d"] == ("", "delivery_attempted")
    assert (asked["b"], asked["e"]) == (("picked_up", None), ("created", None))
    await examine(spine.environment, spine.caller.acknowledged)


async def test_an_order_does_not_grow_with_its_checkpoints(spine: Spine, start_service: StartService) -> None:
    query = await start_service("query", **spine.environment)
    order_id = await a_life(spine, ("picked_up",))
    before = await get(query.url, f"/v1/orders/{order_id}")
    large = {"op": "checkpoint", "kind": "note", "order_id": order_id, "metadata": {"photo": "x" * 4000}}
    for _ in range(4):
        answer = await spine.caller.post("/v1/batch", [large] * 250, Prefer="wait=10")
        assert {line["outcome"] for line in answer.body["results"]} == {"applied"}
    after = await get(query.url, f"/v1/orders/{order_id}")
    assert (after["version"], after["metadata"]) == (1002, before["metadata"])
    first = await get(query.url, f"/v1/orders/{order_id}/history?limit=500")
    second = await get(query.url, f"/v1/orders/{order_id}/history?limit=500&cursor={first['next_cursor']}")
    assert [item["version"] for item in second["items"]] == list(range(501, 1001))
    await examine(spine.environment, spine.caller.acknowledged)
