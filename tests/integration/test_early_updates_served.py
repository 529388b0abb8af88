"""Early updates through the whole stack: held, shown, released, timed out; across stops and kills."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import ClientSession

from callers import Answer, Caller, eventually, token
from fixtures import StartService
from listeners import examine, listening
from reading import get
from statements.recording import with_recording
from tracking.devstack.service_process import PORT_VARIABLES
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

PARTITIONS = 2
HERE = str(Path(__file__).parent.parent)


@pytest.fixture
def environment(
    service_environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """All services read a workflow file that holds early updates for an hour."""
    monkeypatch.setitem(PORT_VARIABLES, "faulty_order_state", "ORDER_STATE_PORT")
    path = tmp_path / "workflow.json"
    hold_for(path, 3600)
    service_environment["AMQP_URL"] += "?heartbeat=1"
    service_environment |= {
        "PARTITIONS": str(PARTITIONS),
        "WORKFLOW_FILE": str(path),
        "PYTHONPATH": with_recording(HERE),
        "REBALANCE_SECONDS": "2",
    }
    return service_environment


def hold_for(path: Path, seconds: int) -> None:
    table = {status: list(followers) for status, followers in DEFAULT_WORKFLOW.transitions.items()}
    workflow = {"initial": "created", "transitions": table, "hold_early_seconds": seconds}
    path.write_text(json.dumps(workflow))


@pytest.fixture
async def caller(environment: dict[str, str], start_service: StartService) -> AsyncIterator[Caller]:
    """A caller of an ingest; each test starts the order-states that it wants."""
    ingest = await start_service("ingest")
    async with Caller([ingest.url]) as caller:
        yield caller


async def report(caller: Caller, order_id: str, status: str, **more: Any) -> Answer:
    body = {"status": status, **more}
    return await caller.insist(f"/v1/orders/{order_id}/updates", body, f"{order_id}.{status}", order_id)


async def create(caller: Caller, order_id: str) -> Answer:
    body = {"order_id": order_id, "merchant_id": "m-1", "customer": {"name": "Ada", "contact_ref": "crm-1"}}
    return await caller.insist("/v1/orders", body, f"{order_id}.create", order_id)


async def statuses(url: str, order_id: str) -> list[str]:
    return [item["status"] for item in (await get(url, f"/v1/orders/{order_id}/history"))["items"]]


LIFE = ["created", "picked_up", "in_transit", "delivered"]


async def test_held_shown_and_released(
    environment: dict[str, str], caller: Caller, start_service: StartService
) -> None:
    async with listening(environment["AMQP_URL"], PARTITIONS) as announced:
        await start_service("order_state")
        query = await start_service("query")
        order_id = uuid4().hex
        for status, minute in (("delivered", 3), ("in_transit", 2)):
            answer = await report(caller, order_id, status, occurred_at=f"2026-03-01T12:0{minute}:00Z")
            assert answer.status == 202
            where = f"/v1/updates/{order_id}/{order_id}.{status}"
            assert answer.headers["Location"] == where
            named = {"update_id": f"{order_id}.{status}", "order_id": order_id}
            assert answer.body == named | {"outcome": "held"}
            for url, service in ((caller.urls[0], "ingest"), (query.url, "query")):
                outcome = await get(url, where, service=service)  # type: ignore[arg-type]
                assert outcome.pop("recorded_at")
                assert outcome == named | {"outcome": "held", "version": None}
        again = await report(caller, order_id, "in_transit", occurred_at="2026-03-01T12:02:00Z")
        assert (again.status, again.body["outcome"]) == (202, "held")
        assert again.headers["Idempotent-Replayed"] == "true"
        other = await report(caller, order_id, "in_transit")
        assert (other.status, other.body["type"]) == (422, "/problems/idempotency-key-reused")
        assert (await create(caller, order_id)).status == 201
        assert await statuses(query.url, order_id) == ["created"]
        listed = await get(query.url, f"/v1/orders/{order_id}/updates?outcome=held")
        assert [item["requested_status"] for item in listed["items"]] == ["in_transit", "delivered"]
        stranger = token(merchants=["m-strange"], sub="stranger")
        assert (await get_status(query.url, f"/v1/updates/{order_id}/{order_id}.delivered", stranger)) == 404
        reader = token(merchants=["m-1"], sub="reader")
        seen = await get(query.url, f"/v1/updates/{order_id}/{order_id}.delivered", bearer=reader)
        assert seen["outcome"] == "held"
        assert (await report(caller, order_id, "picked_up")).body["version"] == 2
        assert await statuses(query.url, order_id) == LIFE
        outcome = await get(query.url, f"/v1/updates/{order_id}/{order_id}.delivered")
        assert (outcome["outcome"], outcome["version"]) == ("applied", 4)
        listed = await get(query.url, f"/v1/orders/{order_id}/updates")
        assert {item["outcome"] for item in listed["items"]} == {"applied"}
        await examine(environment, caller.acknowledged, announced)


async def get_status(url: str, path: str, bearer: str) -> int:
    headers = {"Authorization": f"Bearer {bearer}"}
    async with ClientSession() as session, session.get(url + path, headers=headers) as response:
        return response.status


async def test_a_batch_in_the_wrong_order(
    environment: dict[str, str], caller: Caller, start_service: StartService
) -> None:
    await start_service("order_state")
    order_id = uuid4().hex
    one = {"order_id": order_id}
    customer = {"name": "Ada", "contact_ref": "crm-1"}
    operations = [
        {"op": "update", **one, "status": "picked_up", "update_id": "u1"},
        {"op": "checkpoint", **one, "kind": "note", "update_id": "n1"},
        {"op": "update", **one, "status": "in_transit", "update_id": "u2", "expected_version": 2},
        {"op": "create", **one, "merchant_id": "m-1", "customer": customer, "update_id": "c1"},
    ]
    for outcomes in (
        ["held", "held", "rejected", "applied"],
        ["duplicate", "duplicate", "rejected", "duplicate"],
    ):
        answer = await caller.post("/v1/batch", operations)
        assert [line["outcome"] for line in answer.body["results"]] == outcomes
    await examine(environment, caller.acknowledged)


async def test_the_time_is_over(
    environment: dict[str, str], caller: Caller, start_service: StartService
) -> None:
    hold_for(Path(environment["WORKFLOW_FILE"]), 1)
    await start_service("order_state")
    query = await start_service("query")
    known, unknown = uuid4().hex, uuid4().hex
    await create(caller, known)
    assert (await report(caller, known, "delivered")).status == 202
    assert (await report(caller, unknown, "picked_up")).status == 202
    for order_id, status, slug in (
        (known, "delivered", "invalid-transition"),
        (unknown, "picked_up", "order-not-found"),
    ):

        async def is_refused(path: str = f"/v1/updates/{order_id}/{order_id}.{status}") -> Any:
            outcome = await get(query.url, path)
            return outcome["outcome"] != "held" and outcome

        outcome = await eventually(is_refused)
        assert (outcome["outcome"], outcome["problem"]["type"]) == ("rejected", f"/problems/{slug}")
    again = await report(caller, known, "delivered")
    assert (again.status, again.headers["Idempotent-Replayed"]) == (409, "true")
    await examine(environment, caller.acknowledged)


async def test_what_is_held_survives_a_restart(
    environment: dict[str, str], caller: Caller, start_service: StartService
) -> None:
    first = await start_service("order_state")
    query = await start_service("query")
    order_id = uuid4().hex
    for status in ("delivered", "picked_up"):
        assert (await report(caller, order_id, status)).status == 202
    await first.stop()
    await start_service("order_state")
    await create(caller, order_id)
    await report(caller, order_id, "in_transit")
    assert await statuses(query.url, order_id) == LIFE
    await examine(environment, caller.acknowledged)


@pytest.mark.parametrize("step", ["before-commit", "in-transaction", "committed", "after-commit"])
async def test_killed_while_it_releases_what_was_held(
    step: str, environment: dict[str, str], caller: Caller, start_service: StartService
) -> None:
    faulty = await start_service("faulty_order_state", FAULT=f"kill:{step}")
    query = await start_service("query")
    order_id = uuid4().hex
    for status in ("delivered", "in_transit", "picked_up"):
        assert (await report(caller, order_id, status)).status == 202
    body = {"order_id": order_id, "merchant_id": "m-1", "customer": {"name": "Ada", "contact_ref": "crm-1"}}
    path, key = "/v1/orders", f"{order_id}.create"
    await caller.post(path, body, Idempotency_Key=key, Prefer="respond-async")
    await faulty.process.wait()
    await start_service("order_state")
    await create(caller, order_id)
    assert await statuses(query.url, order_id) == LIFE
    events = (await get(query.url, "/v1/events"))["events"]
    assert [event["data"]["status"] for event in events] == LIFE
    await examine(environment, caller.acknowledged)
