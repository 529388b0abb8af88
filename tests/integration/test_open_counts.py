"""The numbers of open orders and their cursor are of one moment, whatever is committed meanwhile."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
from query_stack import PARTITIONS, START, World, running_query, store, token

from tracking_query.reports import open_counts
from tracking_shared.contracts.access import Grant, readable_orders
from tracking_shared.contracts.documents import EventDocument, project
from tracking_shared.storage.database import Database

ORDERS = 60
LEAST_COUNTED = 4
"""Moments that were counted while orders were committed."""

PATH = "/v1/reports/open-counts"


def steps() -> list[EventDocument]:
    """Orders of two merchants that are created, picked up, and partly closed."""
    world = World()
    for number in range(ORDERS):
        created = {
            "merchant_id": f"m-{number % 2}",
            "customer": {"name": f"Customer {number}", "contact_ref": f"crm-{number}"},
        }
        for step, status in enumerate(("created", "picked_up", "cancelled")[: 1 + number % 3]):
            world.apply(f"o-{number}", status, START + timedelta(seconds=number * 3 + step), created)
    return world.events


async def commit(database: Database, events: list[EventDocument]) -> None:
    """Commits one event after the other, each with its order and position, as order-state does."""
    for event in events:
        order = project(event)
        async with database.client.start_session() as session, await session.start_transaction():
            at = {"_id": event["partition"]}
            await database.partitions.update_one(at, {"$set": {"seq": event["seq"]}}, session=session)
            await database.order_events.insert_one(event, session=session)
            await database.orders.replace_one({"_id": order["_id"]}, order, upsert=True, session=session)


async def test_what_is_counted_and_what_follows_the_cursor_are_everything(mongodb_url: str) -> None:
    events = steps()
    async with running_query(mongodb_url) as query:
        await store(query.database, World())
        committing = asyncio.create_task(commit(query.database, events))
        found: list[tuple[Counter[tuple[str, str]], str]] = []
        while not committing.done() or not found:
            answer = await query.get(PATH, [("group_by", "merchant")], token=token())
            rows = answer.json["rows"]
            counts = Counter({(row["merchant_id"], row["status"]): row["count"] for row in rows})
            found.append((counts, answer.json["cursor"]))
        await committing

        final = Counter(
            (order["merchant_id"], order["status"])
            for order in {event["order_id"]: project(event) for event in events}.values()
            if order["active"]
        )
        for counts, cursor in found:
            page = await query.get("/v1/events", {"after": cursor, "limit": "500"}, token=token())
            for event in page.json["events"]:
                data = event["data"]
                if data["previous_status"] is not None:
                    counts[data["merchant_id"], data["previous_status"]] -= 1
                if data["active"]:
                    counts[data["merchant_id"], data["status"]] += 1
            assert +counts == final
        assert len({cursor for _, cursor in found}) >= LEAST_COUNTED


@pytest.mark.parametrize("grant", [Grant(merchants=frozenset({"*"})), Grant(merchants=frozenset({"m-1"}))])
async def test_they_are_counted_by_an_index(mongodb_url: str, grant: Grant) -> None:
    async with running_query(mongodb_url) as query:
        await query.database.prepare(PARTITIONS)
        pipeline = open_counts.open_counts_stages(readable_orders(grant), by_merchant=True)
        command = {"aggregate": "orders", "pipeline": pipeline, "cursor": {}}
        explained = await query.database.raw.command({"explain": command, "verbosity": "queryPlanner"})
        plan = repr(explained["queryPlanner"]["winningPlan"])
        assert "IXSCAN" in plan
        assert "COLLSCAN" not in plan


async def test_too_many_rows_are_refused_with_advice(
    mongodb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_counts, "MAX_ROWS", 3)
    async with running_query(mongodb_url) as query:
        await store(query.database, World())
        await commit(query.database, steps())
        refused = await query.get(PATH, [("group_by", "merchant")], token=token())
        assert refused.status == 422
        assert refused.json["errors"][0]["pointer"] == "/query/group_by"
        together = await query.get(PATH, token=token())
        assert [row["status"] for row in together.json["rows"]] == ["created", "picked_up"]
