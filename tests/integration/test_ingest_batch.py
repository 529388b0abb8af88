"""What callers of a batch can rely on: an answer for each operation, its id, and one effect of a repeat."""

from typing import Any
from uuid import uuid4

import pytest

from callers import token
from fixtures import Spine

MEMBERS = {"type", "title", "status", "detail", "instance", "trace_id", "update_id"}
"""Of every problem with an update whose id is known."""


@pytest.fixture(scope="module")
async def spine(module_spine: Spine) -> Spine:
    return module_spine


def create(order_id: str | None = None, **fields: Any) -> dict[str, Any]:
    customer = {"name": "Ada", "contact_ref": "crm-1"}
    order = {} if order_id is None else {"order_id": order_id}
    return {"op": "create", "merchant_id": "m-1", "customer": customer} | order | fields


def update(order_id: str, status: str, **fields: Any) -> dict[str, Any]:
    return {"op": "update", "order_id": order_id, "status": status} | fields


def told(results: list[Any], *names: str) -> list[Any]:
    return [tuple(line.get(name) for name in names) for line in results]


async def test_the_same_update_id_twice_in_a_batch_has_one_effect(spine: Spine) -> None:
    order_id = uuid4().hex
    batch = [
        create(order_id),
        update(order_id, "picked_up", update_id="u"),
        update(order_id, "picked_up", update_id="u"),
        update(order_id, "cancelled", update_id="u"),
    ]
    answer = await spine.caller.post("/v1/batch", batch)
    results = answer.body["results"]
    assert told(results[:3], "outcome", "version") == [("applied", 1), ("applied", 2), ("duplicate", 2)]
    assert results[3]["problem"]["type"] == "/problems/idempotency-key-reused"


async def test_a_batch_that_is_repeated_with_its_key_has_no_second_effect(spine: Spine) -> None:
    order_id, key = uuid4().hex, uuid4().hex
    batch = [
        create(order_id),
        update(order_id, "picked_up"),
        update(order_id, "delivered"),
        update(order_id, "in_transit", update_id="own"),
        create(),
    ]
    first = (await spine.caller.post("/v1/batch", batch, Idempotency_Key=key)).body["results"]
    again = (await spine.caller.post("/v1/batch", batch, Idempotency_Key=key)).body["results"]
    ids = [f"{key}:0", f"{key}:1", f"{key}:2", "own", f"{key}:4"]
    assert told(first, "update_id") == told(again, "update_id") == [(each,) for each in ids]
    assert told(first, "outcome") == [(o,) for o in ("applied", "applied", "rejected", "applied", "applied")]
    assert told(again, "outcome") == [
        (o,) for o in ("duplicate", "duplicate", "rejected", "duplicate", "duplicate")
    ]
    assert told(first, "order_id", "version") == told(again, "order_id", "version")


async def test_a_batch_without_a_key_makes_ids_of_its_own(spine: Spine) -> None:
    order_id = uuid4().hex
    batch = [create(order_id), update(order_id, "picked_up")]
    first = (await spine.caller.post("/v1/batch", batch)).body["results"]
    assert len({line["update_id"] for line in first}) == 2


async def test_a_key_of_a_batch_that_leaves_no_room_for_its_places_is_refused(spine: Spine) -> None:
    longest = "k" * 60
    taken = await spine.caller.post("/v1/batch", [create()], Idempotency_Key=longest)
    assert taken.status == 200
    answer = await spine.caller.post("/v1/batch", [create()], Idempotency_Key=longest + "k")
    assert (answer.status, answer.body["type"]) == (422, "/problems/validation-failed")
    assert [error["pointer"] for error in answer.body["errors"]] == ["/headers/idempotency-key"]


async def test_every_problem_of_a_batch_is_whole_and_names_its_update(spine: Spine) -> None:
    order_id = uuid4().hex
    refused_by_ingest = [
        update(order_id, "teleported", update_id="u-status"),
        create(order_id, update_id="u-merchant") | {"merchant_id": "m-2"},
        update("elsewhere", "picked_up", update_id="u-elsewhere"),
        update(order_id, "picked_up", update_id="u-field", colour="red"),
    ]
    unnamed = [update(order_id, "teleported")]
    decided = [update(order_id, "picked_up", update_id="u-none")]
    batch = refused_by_ingest + decided + unnamed
    narrow = token(merchants=["m-1"], orders=[order_id])
    answer = await spine.caller.post("/v1/batch", batch, bearer=narrow)
    results = answer.body["results"]
    assert [line["outcome"] for line in results] == ["rejected"] * len(batch)
    for line in results:
        problem = line["problem"]
        assert problem.keys() >= MEMBERS, problem
        assert (problem["instance"], problem["trace_id"]) == ("/v1/batch", answer.headers["Trace-Id"])
        assert problem["update_id"] == line["update_id"]
    sent = [operation["update_id"] for operation in refused_by_ingest + decided]
    assert told(results, "update_id")[:-1] == [(each,) for each in sent]


async def test_a_bad_operation_echoes_its_ids_as_far_as_they_can_be_read(spine: Spine) -> None:
    order_id = uuid4().hex
    cases = [
        (update(order_id, "picked_up", update_id="u", x=1), "u", order_id),
        ({"op": "sing", "order_id": order_id, "update_id": "u"}, "u", order_id),
        ({"op": "update", "order_id": "a b", "update_id": "u", "status": "created"}, "u", None),
        ({"op": "update", "order_id": order_id, "update_id": 7, "status": "created"}, None, order_id),
        ({}, None, None),
        (7, None, None),
    ]
    answer = await spine.caller.post("/v1/batch", [case[0] for case in cases])
    results = answer.body["results"]
    assert told(results, "index", "update_id", "order_id") == [
        (index, *case[1:]) for index, case in enumerate(cases)
    ]
    named = ["update_id" in line["problem"] for line in results]
    assert named == [case[1] is not None for case in cases]
