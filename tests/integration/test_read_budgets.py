"""Reads of any size: where each query of a read may take only so long, the read as a whole succeeds.

The database's time is charged on the wire, document by document, to the bound that the service sent.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from query_stack import PARTITIONS, START, World, store

from cursor_budgets import CursorBudgets
from tracking.upkeep.audit import audit_lines
from tracking.upkeep.check import check_records
from tracking.upkeep.record_reader import read_partitions
from tracking_notifier.log.event_log import EventLog
from tracking_notifier.stream.filters import Audience, Filter
from tracking_query.orders.list_query import ListParameters, ListQuery, list_query
from tracking_query.orders.list_reader import PAGE_SECONDS, opened_list
from tracking_query.reports.histories import REPORT_SECONDS, Deadline, RefusedUpdates, read_refused_updates
from tracking_shared.contracts.access import Grant, ReadableOrders
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.storage.audit_trail import Act, Actor, AuditTrail
from tracking_shared.storage.database import OPERATION_TIMEOUT_MS, open_database
from wire_tap import tap_database

ORDERS = 1_200
PAGE = 500
"""Documents that one query may read: their price is less than its bound, that of all is more."""


def moved_orders() -> World:
    """Orders of which one id is the beginning of another, many of the same time."""
    world = World()
    for number in range(ORDERS):
        customer = {"name": "n", "contact_ref": "c"}
        created = {"merchant_id": f"m-{number % 3}", "customer": customer}
        world.apply(f"o-{number}", "created", START + timedelta(seconds=number // 7), created)
    return world


WORLD = moved_orders()


@asynccontextmanager
async def costly_database(
    mongodb_url: str, name: str, *, bound_ms: float, documents: int = PAGE
) -> AsyncIterator[tuple[str, CursorBudgets]]:
    """The address of a database where `documents` documents and a few more cost `bound_ms`."""
    async with open_database(mongodb_url, name) as database:
        await store(database, WORLD)
    async with tap_database(mongodb_url) as tap:
        tap.answer = budgets = CursorBudgets(bound_ms / (1.5 * documents))
        yield tap.url, budgets
    async with open_database(mongodb_url, name) as database:
        await database.client.drop_database(name)


@pytest.mark.parametrize(
    "wanted",
    [
        Filter(active=True),
        Filter(statuses=frozenset({"created", "picked_up"})),
        Filter(merchant_ids=frozenset({"m-0", "m-1", "m-2"})),
        Filter(),
    ],
    ids=["active", "statuses", "merchants", "all"],
)
async def test_a_snapshot_of_many_orders_is_not_bounded_by_the_time_of_one_query(
    mongodb_url: str, database_name: str, wanted: Filter
) -> None:
    audience = Audience(Grant(merchants=frozenset({"*"})), wanted)
    async with (
        costly_database(mongodb_url, database_name, bound_ms=OPERATION_TIMEOUT_MS) as (url, budgets),
        open_database(url, database_name) as database,
    ):
        log = EventLog(database, DEFAULT_WORKFLOW, PARTITIONS, query_orders=PAGE)
        found = [order["_id"] async for page in log.read_snapshot(audience) for order in page]
    assert sorted(found) == sorted(WORLD.orders)
    assert budgets.expired == 0


def whole_list(sort: str, **filters: Any) -> ListQuery:
    return list_query(ListParameters(sort=sort, **filters), ReadableOrders(None, None))  # type: ignore[arg-type]


@pytest.mark.parametrize("filters", [{}, {"active": True}, {"merchant_id": ["m-0", "m-1", "m-2"]}])
@pytest.mark.parametrize("sort", ["-created_at", "created_at", "-updated_at", "updated_at"])
async def test_an_export_of_many_orders_is_not_bounded_by_the_time_of_one_query(
    mongodb_url: str, database_name: str, sort: str, filters: dict[str, Any]
) -> None:
    async with (
        costly_database(mongodb_url, database_name, bound_ms=PAGE_SECONDS * 1000) as (url, budgets),
        open_database(url, database_name) as database,
        opened_list(database, whole_list(sort, **filters), page=PAGE) as orders,
    ):
        found: list[str] = []
        while chunk := await orders.next():
            found += [order["_id"] for order in chunk]
    field = sort.removeprefix("-")
    in_order = sorted(
        WORLD.orders.values(),
        key=lambda order: (order[field], order["_id"]),  # type: ignore[literal-required]
        reverse=sort.startswith("-"),
    )
    assert found == [order["_id"] for order in in_order]
    assert budgets.expired == 0


async def test_all_queries_of_an_export_ask_for_the_same_moment(mongodb_url: str, database_name: str) -> None:
    async with (
        costly_database(mongodb_url, database_name, bound_ms=PAGE_SECONDS * 1000) as (url, _),
        tap_database(url) as tap,
        open_database(tap.url, database_name) as database,
        opened_list(database, whole_list("updated_at"), page=PAGE) as orders,
    ):
        while await orders.next():
            pass
    concerns = [
        command["readConcern"]
        for command in tap.commands
        if "orders" in (command.get("find"), command.get("aggregate"))
    ]
    assert [concern["level"] for concern in concerns] == ["snapshot"] * 3
    assert len({concern["atClusterTime"] for concern in concerns[1:]}) == 1


async def test_an_export_by_the_time_of_creation_holds_each_order_once_whatever_is_written(
    mongodb_url: str, database_name: str
) -> None:
    async with (
        costly_database(mongodb_url, database_name, bound_ms=PAGE_SECONDS * 1000) as (url, _),
        open_database(url, database_name) as database,
        opened_list(database, whole_list("created_at"), page=PAGE) as orders,
    ):
        found: list[str] = []
        while chunk := await orders.next():
            found += [order["_id"] for order in chunk]
            for order_id in ("o-3", "o-600", "o-1100"):
                later = START + timedelta(days=len(found))
                await database.orders.update_one({"_id": order_id}, {"$set": {"updated_at": later}})
    assert sorted(found) == sorted(WORLD.orders)


@pytest.mark.parametrize("spread", [1, 40, ORDERS], ids=["apart", "in groups", "all at once"])
async def test_refusals_of_a_report_are_read_by_pages_also_where_many_have_one_time(
    mongodb_url: str, database_name: str, spread: int
) -> None:
    taken: list[str] = []
    async with (
        costly_database(
            mongodb_url,
            database_name,
            bound_ms=REPORT_SECONDS * 1000,
            documents=2 * ORDERS if spread == ORDERS else PAGE,
        ) as (url, budgets),
        open_database(url, database_name) as database,
    ):
        documents: list[Any] = [
            {
                "_id": f"o/{number}",
                "outcome": "rejected",
                "recorded_at": START + timedelta(seconds=number // spread),
            }
            for number in range(ORDERS)
        ]
        await database.updates.insert_many(documents)
        await read_refused_updates(
            database,
            RefusedUpdates(START, START + timedelta(days=1), []),
            Deadline(),
            lambda update: taken.append(update["_id"]),
            page=PAGE // 2,
        )
    assert sorted(taken) == sorted(document["_id"] for document in documents)
    assert budgets.expired == 0


async def test_an_examination_of_many_events_is_not_bounded_by_the_time_of_one_query(
    mongodb_url: str, database_name: str
) -> None:
    async with (
        costly_database(mongodb_url, database_name, bound_ms=OPERATION_TIMEOUT_MS) as (url, budgets),
        open_database(url, database_name) as database,
    ):
        outcomes: list[Any] = [
            {"_id": f"o/{number}", "outcome": "rejected", "position": None} for number in range(ORDERS)
        ]
        await database.updates.insert_many(outcomes)
        findings = await check_records(database, await read_partitions(database), DEFAULT_WORKFLOW, page=PAGE)
    assert (findings.orders, findings.events, findings.outcomes) == (ORDERS, ORDERS, ORDERS)
    assert budgets.expired == 0


async def test_the_audit_trail_is_printed_whatever_its_length(mongodb_url: str, database_name: str) -> None:
    async with costly_database(mongodb_url, database_name, bound_ms=OPERATION_TIMEOUT_MS, documents=10) as (
        url,
        budgets,
    ):
        async with open_database(mongodb_url, database_name) as database:
            trail = AuditTrail(database, 400)
            for number in range(30):
                await trail.record(Actor("ann", "api"), Act("orders.exported", f"orders-{number}", {}))
        lines = [line async for line in audit_lines(url, database_name, None, as_json=False, page=10)]
    assert len(lines) == 30
    assert budgets.expired == 0
