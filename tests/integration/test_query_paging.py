"""Paging while orders are being written: no row twice, none missed that was there all along."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from list_oracle import SORTS
from query_stack import START, QueryClient, World, running_query, token

from property_examples import max_examples
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

MERCHANTS = count()
MAX_WRITES = 10_000
"""By `updated_at` what is written comes again at the end: without a bound that end would never come."""

FILTERS = [(), (("active", "true"),), (("status", "created"), ("status", "picked_up"))]


@pytest.fixture(scope="module")
async def query(mongodb_url: str) -> AsyncIterator[QueryClient]:
    async with running_query(mongodb_url) as client:
        await client.database.prepare(4)
        yield client


class Writers:
    """Orders of one merchant, which come and move on between the pages."""

    def __init__(self, query: QueryClient, seed: int) -> None:
        self._database = query.database
        self._random = random.Random(seed)
        self.now = START
        self.merchant = f"m-paged-{next(MERCHANTS)}"
        self.world = World()

    def created(self) -> dict[str, Any]:
        """Merchant, customer and due time of a new order."""
        customer = {"name": "n", "contact_ref": "c"}
        return {"merchant_id": self.merchant, "customer": customer, "due_at": self.now}

    async def create(self, number: int) -> None:
        for _ in range(number):
            order_id = f"{self.merchant}-{self._random.getrandbits(64):x}"
            self.world.apply(order_id, "created", self.now, self.created())
            await self._database.orders.insert_one(self.world.orders[order_id])
            self.now += timedelta(seconds=self._random.choice([0, 1]))

    async def move(self, number: int) -> None:
        for order in self._random.choices(list(self.world.orders.values()), k=number):
            following = DEFAULT_WORKFLOW.allowed_next(order["status"])
            if following:
                self.world.apply(order["_id"], self._random.choice(following), self.now, {})
                await self._database.orders.replace_one(
                    {"_id": order["_id"]}, self.world.orders[order["_id"]]
                )
            self.now += timedelta(seconds=self._random.choice([0, 1]))


def matches(world: World, order_id: str, filter_: tuple[tuple[str, str], ...]) -> bool:
    order = world.orders[order_id]
    statuses = [value for name, value in filter_ if name == "status"]
    return (("active", "true") not in filter_ or order["active"]) and (
        not statuses or order["status"] in statuses
    )


@max_examples(30)
@given(
    sort=st.sampled_from(SORTS),
    filter_=st.sampled_from(FILTERS),
    limit=st.integers(1, 12),
    writes=st.tuples(
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), min_size=1, max_size=8),
        st.integers(0, 2**32),
    ),
)
async def test_pages_stay_right_while_orders_are_written(
    query: QueryClient,
    sort: str,
    filter_: tuple[tuple[str, str], ...],
    limit: int,
    writes: tuple[list[tuple[int, int]], int],
) -> None:
    between_pages, seed = writes
    writers = Writers(query, seed)
    await writers.create(30)
    await writers.move(20)
    before = {order_id: order["version"] for order_id, order in writers.world.orders.items()}
    all_along = {order_id for order_id in before if matches(writers.world, order_id, filter_)}
    params = [("merchant_id", writers.merchant), ("sort", sort), ("limit", str(limit)), *filter_]
    rows: list[tuple[str, int]] = []
    cursor: list[tuple[str, str]] = []
    while True:
        page = (await query.get("/v1/orders", [*params, *cursor], token=token())).json
        rows += [(order["order_id"], order["version"]) for order in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = [("cursor", page["next_cursor"])]
        created, moved = between_pages.pop() if between_pages else (0, 0)
        await writers.create(created)
        await writers.move(moved)
        all_along = {order_id for order_id in all_along if matches(writers.world, order_id, filter_)}
    unmoved = {
        order_id for order_id in all_along if writers.world.orders[order_id]["version"] == before[order_id]
    }
    # By the time of creation an order keeps its place; by that of its last change, one that changes moves.
    check(rows, all_along if sort.endswith("created_at") else unmoved, sort)


def check(rows: list[tuple[str, int]], stayed: set[str], sort: str) -> None:
    """Each of those that kept their place once, and no row (an order in a version) twice."""
    times = Counter(order_id for order_id, _ in rows)
    wrong = {order_id: times[order_id] for order_id in stayed if times[order_id] != 1}
    assert not wrong, (len(wrong), list(wrong.items())[:5])
    assert max(Counter(rows).values(), default=1) == 1
    if sort.endswith("created_at"):
        assert max(times.values(), default=1) == 1


class Crowd:
    """Many orders that were there before, and writers who work while they are paged through."""

    def __init__(self, query: QueryClient, orders: int) -> None:
        self.writers = Writers(query, seed=orders)
        self.orders = orders
        self._query = query
        self._database = query.database

    async def page(self, params: Mapping[str, str]) -> Any:
        """One page; asked for again where the database does not answer in time, as callers are told to."""
        while True:
            answer = await self._query.get("/v1/orders", params, token=token())
            if answer.status != 503:
                assert answer.status == 200, answer.body
                return answer.json

    async def fill(self) -> None:
        """Stores the orders; some share their times."""
        writers = self.writers
        for number in range(self.orders):
            writers.world.apply(f"{writers.merchant}-{number}", "created", writers.now, writers.created())
            writers.now += timedelta(seconds=number % 3 == 0)
        orders = list(writers.world.orders.values())
        for start in range(0, self.orders, 5000):
            await self._database.orders.insert_many(orders[start : start + 5000])

    async def write(self, stop: asyncio.Event, most: int) -> int:
        """New orders and moves of any, until told to stop or `most` of them; how many."""
        done = 0
        while done < most and not stop.is_set():
            await self.writers.create(1)
            await self.writers.move(2)
            done += 3
        return done


@pytest.mark.parametrize("sort", SORTS)
async def test_paging_misses_none_while_writers_run(query: QueryClient, sort: str) -> None:
    await page_through_a_crowd(Crowd(query, 600), sort, limit=20)


@pytest.mark.slow
@pytest.mark.timeout(300)  # the embedded database sorts all of them for each page
@pytest.mark.parametrize("sort", SORTS)
async def test_paging_through_50_000_orders_misses_none_while_writers_run(
    mongodb_url: str, sort: str
) -> None:
    async with running_query(mongodb_url) as query:
        await query.database.prepare(4)
        await page_through_a_crowd(Crowd(query, 50_000), sort, limit=500)


async def page_through_a_crowd(crowd: Crowd, sort: str, limit: int) -> None:
    await crowd.fill()
    before = {order_id: order["version"] for order_id, order in crowd.writers.world.orders.items()}
    stop = asyncio.Event()
    writing = asyncio.create_task(crowd.write(stop, most=MAX_WRITES))
    rows: list[tuple[str, int]] = []
    params = {"merchant_id": crowd.writers.merchant, "sort": sort, "limit": str(limit)}
    while True:
        page = await crowd.page(params)
        rows += [(order["order_id"], order["version"]) for order in page["items"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    stop.set()
    assert await writing
    after = crowd.writers.world.orders
    moved = {order_id for order_id, version in before.items() if after[order_id]["version"] != version}
    assert moved
    check(rows, set(before) - (set() if sort.endswith("created_at") else moved), sort)
