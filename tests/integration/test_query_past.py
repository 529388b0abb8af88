"""An order at a time: for any history, the fold of what had been recorded by then."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from query_stack import START, QueryClient, World, running_query, token

from property_examples import max_examples
from tracking_shared.contracts.documents import EventDocument
from tracking_shared.contracts.timestamps import format_optional_time, format_time
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

ORDERS = count()
CREATED = {"merchant_id": "m-1", "customer": {"name": "Ada", "contact_ref": "+49"}}
GAPS = st.sampled_from([0, 0, 1, 2, 999, 1000, 86_400_000])
"""Milliseconds from one change to the next; changes of one commit share their time."""


@pytest.fixture(scope="module")
async def query(mongodb_url: str) -> AsyncIterator[QueryClient]:
    async with running_query(mongodb_url) as client:
        await client.database.prepare(4)
        yield client


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[str, str, int]]:
    """A life: steps, checkpoints and corrections with their statuses, and the time between them."""
    status, life = "created", [("step", "created", 0)]
    for _ in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from(["step", "step", "checkpoint", "correction"]))
        if kind == "correction":
            status = draw(st.sampled_from(sorted(DEFAULT_WORKFLOW.statuses - {status})))
        elif kind == "step":
            following = DEFAULT_WORKFLOW.allowed_next(status)
            if not following:
                break
            status = draw(st.sampled_from(following))
        life.append((kind, status, draw(GAPS)))
    return life


def folded(history: list[EventDocument], at: datetime) -> dict[str, Any] | None:
    """What an order is after its changes up to `at`, one after the other, from what each of them said."""
    order: dict[str, Any] | None = None
    for event in history:
        if event["recorded_at"] > at:
            break
        order = order or {"version": 0, "metadata": {}, "created_at": format_time(event["recorded_at"])}
        order |= {
            "version": order["version"] + 1,
            "status": event["status"],
            "updated_at": format_time(event["recorded_at"]),
            "due_at": format_optional_time(event.get("due_at")),
            "eta": format_optional_time(event.get("eta")),
            "overdue": event.get("overdue", False),
            "source": event["source"],
            "metadata": order["metadata"] | ({} if "kind" in event else event["metadata"]),
            "active": DEFAULT_WORKFLOW.is_active(event["status"]),
            "allowed_next": list(DEFAULT_WORKFLOW.allowed_next(event["status"])),
        }
    return order


@max_examples(60)
@given(life=steps(), others=st.lists(st.integers(-2, 2), min_size=1, max_size=2))
async def test_an_order_at_a_time_is_the_fold_of_its_history_up_to_then(
    query: QueryClient, life: list[tuple[str, str, int]], others: list[int]
) -> None:
    world, order_id, now = World(seqs=[next(ORDERS) * 100] * 4), f"o-{next(ORDERS)}", START
    for kind, status, gap in life:
        now += timedelta(milliseconds=gap)
        if kind == "checkpoint":
            world.checkpoint(order_id, now)
        elif kind == "correction":
            world.correct(order_id, status, now)
        else:
            world.apply(order_id, status, now, CREATED)
    await query.database.order_events.insert_many(world.events)
    times = {event["recorded_at"] for event in world.events}
    for at in times | {time + timedelta(milliseconds=other) for time in times for other in others}:
        wanted = folded(world.events, at)
        answer = await query.get(f"/v1/orders/{order_id}", {"at": format_time(at)}, token=token())
        if wanted is None:
            assert answer.slug == "order-not-found"
        else:
            assert answer.json == wanted | {
                "order_id": order_id,
                "merchant_id": "m-1",
                "reference": None,
                "customer": CREATED["customer"],
            }
