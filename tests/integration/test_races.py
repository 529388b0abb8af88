"""Everybody at once: one effect for each update id, one winner for each version."""

import asyncio
from collections import Counter
from uuid import uuid4

import pytest

from callers import Answer, Caller, many_lives
from fixtures import Spine, StartService
from listeners import examine


@pytest.fixture(scope="module")
async def spine(module_spine: Spine) -> Spine:
    return module_spine


def new_order(order_id: str, merchant_id: str = "m-1") -> dict[str, object]:
    return {
        "order_id": order_id,
        "merchant_id": merchant_id,
        "customer": {"name": "Ada", "contact_ref": "crm-1"},
    }


def outcomes(answers: list[Answer]) -> Counter[str]:
    return Counter(answer.body.get("outcome") or answer.body["type"].rsplit("/", 1)[1] for answer in answers)


async def test_the_same_update_sent_20_times_at_once_takes_effect_once(spine: Spine) -> None:
    order_id = uuid4().hex
    await spine.caller.live(order_id, ())
    path, body = f"/v1/orders/{order_id}/updates", {"status": "picked_up"}
    answers = await asyncio.gather(*(spine.caller.insist(path, body, "u-1", order_id) for _ in range(20)))
    assert outcomes(list(answers)) == {"applied": 1, "duplicate": 19}
    assert {answer.status for answer in answers} == {200}
    assert {answer.body["version"] for answer in answers} == {2}
    assert Counter("Idempotent-Replayed" in answer.headers for answer in answers) == {
        True: 19,
        False: 1,
    }
    await examine(spine.environment, spine.caller.acknowledged)


async def test_of_50_writers_racing_on_one_version_one_wins(spine: Spine) -> None:
    order_id = uuid4().hex
    await spine.caller.live(order_id, ("picked_up", "in_transit"))
    path = f"/v1/orders/{order_id}/updates"
    body = {"status": "in_transit", "expected_version": 3}
    answers = await asyncio.gather(*(spine.caller.insist(path, body, f"w-{n}", order_id) for n in range(50)))
    assert outcomes(list(answers)) == {"applied": 1, "version-conflict": 49}
    await examine(spine.environment, spine.caller.acknowledged)


async def test_50_writers_without_an_expected_version_all_get_a_version_of_their_own(spine: Spine) -> None:
    order_id = uuid4().hex
    await spine.caller.live(order_id, ("picked_up",))
    path, body = f"/v1/orders/{order_id}/updates", {"status": "in_transit"}
    answers = await asyncio.gather(*(spine.caller.insist(path, body, f"w-{n}", order_id) for n in range(50)))
    assert sorted(answer.body["version"] for answer in answers) == list(range(3, 53))
    await examine(spine.environment, spine.caller.acknowledged)


async def test_of_two_creates_of_one_id_one_wins_and_the_other_learns_where_the_order_stands(
    spine: Spine,
) -> None:
    order_id = uuid4().hex
    answers = await asyncio.gather(
        spine.caller.insist("/v1/orders", new_order(order_id, "m-1"), "c-1", order_id),
        spine.caller.insist("/v1/orders", new_order(order_id, "m-2"), "c-2", order_id),
    )
    assert outcomes(list(answers)) == {"applied": 1, "order-exists": 1}
    await examine(spine.environment, spine.caller.acknowledged)


async def test_a_create_without_an_id_finds_its_order_again_when_repeated(spine: Spine) -> None:
    body = {"merchant_id": "m-1", "customer": {"name": "Ada", "contact_ref": "crm-1"}}
    first = await spine.caller.post("/v1/orders", body, Idempotency_Key="cart-77")
    again = await spine.caller.post("/v1/orders", body, Idempotency_Key='"cart-77"')
    assert (first.status, again.status) == (201, 201)
    assert again.body == first.body | {"outcome": "duplicate"}
    assert again.headers["Location"] == first.headers["Location"]


async def test_a_repeat_is_answered_as_the_first_time_even_when_the_order_has_moved_on(spine: Spine) -> None:
    order_id = uuid4().hex
    lives = await spine.caller.live(order_id)
    path = f"/v1/orders/{order_id}/updates"
    again = await spine.caller.post(
        path, {"status": "picked_up", "metadata": {"step": 0}}, Idempotency_Key=f"{order_id}.0"
    )
    assert again.body == lives[1].body | {"outcome": "duplicate"}
    refused = await spine.caller.post(
        path, {"status": "delivered", "metadata": {"step": 1}}, Idempotency_Key=f"{order_id}.1"
    )
    same = {"type", "status", "detail", "current_status", "requested_status", "allowed_next", "version"}
    assert {name: refused.body[name] for name in same} == {name: lives[2].body[name] for name in same}


async def test_updates_of_one_order_through_two_replicas_of_ingest(
    spine: Spine, start_service: StartService
) -> None:
    second = await start_service("ingest", **spine.environment)
    async with Caller([spine.ingest.url, second.url]) as caller:
        await many_lives(caller, 30)
        await examine(spine.environment, caller.acknowledged)
