"""Paging while orders are being written: no row twice, none missed that was there all along."""

import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from list_oracle import SORTS
from query_stack import START, QueryClient, World, running_query, token

from shared.workflow import DEFAULT_WORKFLOW

MERCHANTS = count()
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
        self._now = START
        self.merchant = f"m-paged-{next(MERCHANTS)}"
        self.world = World()

    async def create(self, number: int) -> None:
        for _ in range(number):
            order_id = f"{self.merchant}-{self._random.getrandbits(64):x}"
            customer = {"name": "n", "contact_ref": "c"}
            self.world.apply(
                order_id, "created", self._now, {"merchant_id": self.merchant, "customer": customer}
            )
            await self._database.orders.insert_one(self.world.orders[order_id])
            self._now += timedelta(seconds=self._random.choice([0, 1]))

    async def move(self, number: int) -> None:
        for order in self._random.choices(list(self.world.orders.values()), k=number):
            following = DEFAULT_WORKFLOW.allowed_next(order["status"])
            if following:
                self.world.apply(order["_id"], self._random.choice(following), self._now, {})
                await self._database.orders.replace_one(
                    {"_id": order["_id"]}, self.world.orders[order["_id"]]
                )
            self._now += timedelta(seconds=self._random.choice([0, 1]))


def matches(world: World, order_id: str, filter_: tuple[tuple[str, str], ...]) -> bool:
    order = world.orders[order_id]
    statuses = [value for name, value in filter_ if name == "status"]
    return (("active", "true") not in filter_ or order["active"]) and (
        not statuses or order["status"] in statuses
    )


@settings(max_examples=30, deadline=None)
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
    times = Counter(order_id for order_id, _ in rows)
    unmoved = {
        order_id for order_id in all_along if writers.world.orders[order_id]["version"] == before[order_id]
    }
    # By the time of creation an order keeps its place; by that of its last change, one that changes moves.
    stayed = all_along if sort.endswith("created_at") else unmoved
    assert all(times[order_id] == 1 for order_id in stayed)
    assert max(Counter(rows).values(), default=1) == 1
    if sort.endswith("created_at"):
        assert max(times.values(), default=1) == 1
