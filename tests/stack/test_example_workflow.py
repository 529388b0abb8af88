"""The example workflow of docs/lifecycle.md through the whole stack: customs, failed attempts, returns."""

import asyncio
from collections.abc import AsyncIterator, Container, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import ClientSession
from command import RunningStack

from callers import eventually
from command_line import run
from tracking_client.live_orders import LiveOrders

WORKFLOW = Path(__file__).resolve().parents[2] / "docs/workflows/cross-border-parcels.json"
ENVIRONMENT = {"WORKFLOW_FILE": str(WORKFLOW)}
SOON, PASSED = "2099-01-01T00:00:00.000Z", "2020-01-01T00:00:00.000Z"


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningStack]:
    """A stack with the workflow of the example."""
    running = RunningStack(tmp_path_factory.mktemp("stack"), **ENVIRONMENT)
    try:
        await running.wait_ready()
        yield running
    finally:
        await running.process.stop()


@pytest.fixture(scope="module")
async def bearer(stack: RunningStack) -> str:
    """A token that may do everything."""
    scopes = "orders:read orders:write orders:correct"
    command = ("token", "--sub", "ann", "--scope", scopes, "--merchants", "*", "--data-dir", str(stack.data))
    finished = await run(*command)
    assert finished.exit_code == 0, finished
    return finished.output.strip()


@asynccontextmanager
async def following(live: LiveOrders, types: list[tuple[str, str]]) -> AsyncIterator[None]:
    """Follows the live orders while the body runs. `types` gets the order id and type of each event."""

    async def follow() -> None:
        async with aclosing(live.events()) as events:
            async for event in events:
                types.append((event["subject"], event["type"]))

    task = asyncio.create_task(follow())
    try:
        await asyncio.wait_for(live.live.wait(), 30)
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def is_in(found: Container[tuple[str, str]], one: tuple[str, str]) -> bool:
    """For `eventually`."""
    return one in found


class Carrier:
    """Reports what happens to the orders of one merchant, and reads it again."""

    def __init__(self, stack: RunningStack, session: ClientSession, merchant: str) -> None:
        self.merchant = merchant
        self._urls = stack.document
        self._session = session

    async def create(self, due_at: str) -> str:
        """A new order's id."""
        customer = {"name": "Ada", "contact_ref": "crm-1"}
        body = {"merchant_id": self.merchant, "customer": customer, "due_at": due_at}
        return str((await self.post("/v1/orders", body, 201))["order_id"])

    async def report(self, order_id: str, statuses: Sequence[str]) -> None:
        """One update after the other."""
        for status in statuses:
            await self.post(f"/v1/orders/{order_id}/updates", {"status": status}, 200)

    async def post(self, path: str, body: Any, status: int) -> Any:
        """What ingest answers, which has this status."""
        async with self._session.post(self._urls["ingest"] + path, json=body) as response:
            answer = await response.json()
            assert response.status == status, answer
            return answer

    async def get(self, path: str) -> Any:
        """What query answers."""
        async with self._session.get(self._urls["query"] + path) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def history(self, order_id: str) -> list[str]:
        """The statuses after each change."""
        return [item["status"] for item in (await self.get(f"/v1/orders/{order_id}/history"))["items"]]


@pytest.fixture
async def carrier(stack: RunningStack, bearer: str) -> AsyncIterator[Carrier]:
    """One with a merchant of this test's own."""
    async with ClientSession(headers={"Authorization": f"Bearer {bearer}"}) as session:
        yield Carrier(stack, session, f"m-{uuid4().hex[:8]}")


async def test_parcels_pass_customs_fail_to_be_delivered_and_return(
    stack: RunningStack, carrier: Carrier, bearer: str
) -> None:
    filter_ = {"merchant_id": [carrier.merchant]}
    live = LiveOrders(stack.document["notifier"], bearer, filter_)
    types: list[tuple[str, str]] = []
    async with following(live, types):
        held, returned, lost = [await carrier.create(due_at) for due_at in (SOON, SOON, PASSED)]
        for order_id in (held, returned, lost):
            await carrier.report(order_id, ("picked_up", "in_transit", "customs_hold"))
        paid = {"kind": "customs_duty_paid", "message": "Paid by the recipient"}
        await carrier.post(f"/v1/orders/{held}/checkpoints", paid, 200)
        attempts = ("in_transit", "out_for_delivery", "delivery_failed", "out_for_delivery", "delivered")
        await carrier.report(held, attempts)
        back = ("return_in_transit", "customs_hold", "return_in_transit", "returned")
        await carrier.report(returned, back)
        await carrier.report(lost, ("in_transit", "lost"))
        found = {"status": "in_transit", "reason": "Found in the depot"}
        corrected = await carrier.post(f"/v1/orders/{lost}/corrections", found, 200)
        assert corrected["order"]["active"]
        await eventually(lambda: is_in(types, (lost, "order.corrected")))
        assert {order_id: order["status"] for order_id, order in live.orders.items()} == {lost: "in_transit"}
        await carrier.report(lost, ("out_for_delivery", "delivered"))

    to_customs = ["created", "picked_up", "in_transit", "customs_hold"]
    assert await carrier.history(held) == [*to_customs, "customs_hold", *attempts]
    assert await carrier.history(returned) == [*to_customs, *back]
    report = f"/v1/reports/punctuality?merchant_id={carrier.merchant}&group_by=merchant"
    (row,) = (await carrier.get(report))["rows"]
    assert (row["on_time"], row["late"], row["without_due_time"]) == (1, 1, 0)
    both = (await carrier.get(f"{report}&status=delivered&status=returned"))["rows"]
    assert sum(row["on_time"] for row in both) == 2
    legs = (await carrier.get(f"/v1/reports/durations?merchant_id={carrier.merchant}"))["rows"]
    assert [leg["count"] for leg in legs if leg["leg_from"] == "delivery_failed"] == [1]
    checked = await run("check", "--data-dir", str(stack.data), environment=ENVIRONMENT)
    assert checked.exit_code == 0, checked


async def test_a_scan_that_comes_before_the_one_it_follows_waits_for_it(carrier: Carrier) -> None:
    order_id = await carrier.create(SOON)
    updates = f"/v1/orders/{order_id}/updates"
    early = await carrier.post(updates, {"status": "customs_hold"}, 202)
    assert early["outcome"] == "held"
    await carrier.report(order_id, ("picked_up", "in_transit"))
    assert await carrier.history(order_id) == ["created", "picked_up", "in_transit", "customs_hold"]
    outcome = await carrier.get(f"/v1/updates/{order_id}/{early['update_id']}")
    assert outcome["outcome"] == "applied"


async def test_what_this_workflow_does_not_allow_is_refused(carrier: Carrier) -> None:
    order_id = await carrier.create(SOON)
    await carrier.report(order_id, ("picked_up", "in_transit"))
    path = f"/v1/orders/{order_id}"
    final = {"status": "delivered", "expected_version": 3}
    refused = await carrier.post(f"{path}/updates", final, 409)
    assert refused["allowed_next"] == ["in_transit", "customs_hold", "out_for_delivery", "lost"]
    unknown = await carrier.post(f"{path}/updates", {"status": "held_at_customs"}, 422)
    assert unknown["errors"][0]["pointer"] == "/status"
    await carrier.post(f"{path}/checkpoints", {"kind": "photo_taken"}, 422)
