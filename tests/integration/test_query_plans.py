"""Every list is served by an index: the database is asked how it would answer each combination of filters.

The embedded database decides by the first condition alone, and does not say how much of an index it
reads; what a real one makes of the conditions together is for its own planner.
"""

from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import timedelta
from itertools import chain, combinations, islice, product
from typing import Any

import pytest
from list_oracle import SORTS, WORLD
from query_stack import CONTACTS, PARTITIONS, REFERENCES, START, QueryClient, running_query, store

from tracking_query.api.page_cursors import KeysetPosition
from tracking_query.orders.list_query import ListParameters, ListQuery, list_query
from tracking_shared.contracts.access import Grant, readable_orders
from tracking_shared.storage.database import OBSOLETE_INDEXES, Database

FILTERS: dict[str, dict[str, Any]] = {
    "status": {"status": ["created", "delivered"]},
    "merchant": {"merchant_id": ["m-1", "m-2"]},
    "customer": {"customer_ref": CONTACTS[0]},
    "reference": {"reference": REFERENCES[1]},
    "active": {"active": True},
    "inactive": {"active": False},
    "created": {"created_from": START, "created_to": START + timedelta(hours=1)},
    "created since": {"created_from": START},
    "updated": {"updated_from": START, "updated_to": START + timedelta(hours=1)},
    "updated until": {"updated_to": START},
    "closed since": {"closed_from": START},
    "closed until": {"closed_to": START + timedelta(hours=1)},
    "overdue": {"overdue": True},
    "not overdue": {"overdue": False},
    "due": {"due_from": START, "due_to": START + timedelta(hours=1)},
}
GRANTS = {
    "everything": Grant(merchants=frozenset({"*"})),
    "a merchant": Grant(merchants=frozenset({"m-1"})),
    "orders": Grant(orders=frozenset({"o-1", "o-2"})),
    "nothing": Grant(),
}
POSITION = KeysetPosition(START + timedelta(hours=1), "o-7")


@pytest.fixture(scope="module")
async def query(mongodb_url: str) -> AsyncIterator[QueryClient]:
    async with running_query(mongodb_url) as client:
        await store(client.database, WORLD)
        yield client


CASES = list(product(SORTS, (None, POSITION)))
CASE_NAMES = [f"{sort}-{'later' if after else 'first'} page" for sort, after in CASES]


def mixtures(case: int) -> Iterator[tuple[str, ...]]:
    """Up to two filters, and all of them; any three in one case. The slow test has them in all cases."""
    few = chain.from_iterable(combinations(FILTERS, size) for size in (0, 1, 2, len(FILTERS)))
    return chain(few, islice(combinations(FILTERS, 3), case, None, len(CASES)))


async def plan(database: Database, query: ListQuery) -> str:
    """The stages of the winning plan."""
    if len(query.stages) == 1:
        command: dict[str, Any] = {
            "find": "orders",
            "filter": query.stages[0],
            "sort": query.sort,
            "limit": 51,
        }
    else:
        pipeline = [*({"$match": stage} for stage in query.stages), {"$sort": query.sort}, {"$limit": 51}]
        command = {"aggregate": "orders", "pipeline": pipeline, "cursor": {}}
    explained = await database.raw.command({"explain": command, "verbosity": "queryPlanner"})
    return repr(explained["queryPlanner"]["winningPlan"])


@pytest.mark.parametrize("case", range(len(CASES)), ids=CASE_NAMES)
async def test_no_list_scans_the_collection(query: QueryClient, case: int) -> None:
    assert await scanned_lists(query, case, mixtures(case)) == []


@pytest.mark.slow
@pytest.mark.parametrize("case", range(len(CASES)), ids=CASE_NAMES)
async def test_no_list_with_any_three_filters_scans_the_collection(query: QueryClient, case: int) -> None:
    assert await scanned_lists(query, case, combinations(FILTERS, 3)) == []


async def scanned_lists(
    query: QueryClient, case: int, filters: Iterable[tuple[str, ...]]
) -> list[tuple[str, tuple[str, ...]]]:
    """The lists that no index serves, by the holder of the grant and the filters."""
    sort, after = CASES[case]
    scanned = []
    for names in filters:
        asked = {name: value for filter_ in names for name, value in FILTERS[filter_].items()}
        parameters = ListParameters.model_construct(**_defaults() | asked | {"sort": sort})
        for holder, grant in GRANTS.items():
            readable = readable_orders(grant, parameters.merchant_id or None)
            found = await plan(query.database, list_query(parameters, readable, after))
            if "IXSCAN" not in found or "COLLSCAN" in found:
                scanned.append((holder, names))
    return scanned


def _defaults() -> dict[str, Any]:
    return ListParameters().model_dump()


async def test_the_plan_of_a_scan_is_recognised(query: QueryClient) -> None:
    found = await plan(query.database, ListQuery([{"metadata.step": 1}], {"created_at": 1, "_id": 1}))
    assert "COLLSCAN" in found


async def test_indexes_of_earlier_versions_are_removed(query: QueryClient) -> None:
    await query.database.orders.create_index([("updated_at", -1)], name=OBSOLETE_INDEXES["orders"][0])
    await query.database.prepare(PARTITIONS)
    assert not set(OBSOLETE_INDEXES["orders"]) & set(await query.database.orders.index_information())
