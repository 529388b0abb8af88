"""Reads of one order, its history and one page: through the service, and by the bare driver.

One at a time, from a connection that stays open. Both read the same orders in the same order.
"""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from itertools import islice
from time import perf_counter
from typing import Any
from urllib.parse import urlencode

import orjson

from benchmarks.floors import Measure
from benchmarks.http_client import HttpConnection, connect_http
from benchmarks.load_process import Result, Run, WrongResult, serve_load
from benchmarks.measurement import Measurement
from benchmarks.percentiles import summary_ms
from benchmarks.query_shape import PlannedOrder, merchant_id_of, planned_order
from benchmarks.stack_under_test import StackUnderTest
from shared.database import Database, driver_errors, open_database
from shared.timestamps import format_time

SAMPLES = 1000
WARM_UPS = 50

PLANNED_SECONDS_EACH = 0.002

PAGE_ORDERS = 50
PAGE_SPAN = timedelta(days=90)
PAGE_MERCHANTS = 50
"""Pages are asked of the largest merchants, so that there is a whole page to show."""

MAX_VERSIONS = 500
"""As many as one answer of the service may hold."""

BareRead = Callable[[Database, PlannedOrder], Awaitable[int]]
ReadOnce = Callable[[PlannedOrder], Awaitable[tuple[float, int]]]
"""Reads; gives the seconds that it took, and how many items came."""


@dataclass(frozen=True)
class Parameters:
    """What the load process is told. Without the service's address, the bare driver is meant."""

    read: str
    orders: int
    samples: int
    mongodb_url: str
    query_url: str = ""
    token: str = ""


def measures(orders: int, samples: int | None) -> Mapping[str, Measure]:
    """How to measure each read through the service, and bare, in a world of so many orders."""
    number = samples or SAMPLES
    through = {f"query-{read}": partial(_measure, read=read, orders=orders, samples=number) for read in READS}
    bare = {
        f"bare-{read}": partial(_measure_bare, read=read, orders=orders, samples=number) for read in READS
    }
    return through | bare


async def _measure(stack: StackUnderTest, read: str, orders: int, samples: int) -> Measurement:
    wanted = Parameters(read, orders, samples, stack.mongodb_url, stack.query_url, stack.token())
    name, seconds = f"query-{read}", samples * PLANNED_SECONDS_EACH
    async with stack.profile(name, seconds):
        return await stack.measure(name, __name__, asdict(wanted), seconds)


async def _measure_bare(stack: StackUnderTest, read: str, orders: int, samples: int) -> Measurement:
    wanted = Parameters(read, orders, samples, stack.mongodb_url)
    return await stack.measure(f"bare-{read}", __name__, asdict(wanted), samples * PLANNED_SECONDS_EACH)


@asynccontextmanager
async def prepare(parameters: dict[str, Any]) -> AsyncIterator[Run]:
    """Connects, and reads what is not counted."""
    wanted = Parameters(**parameters)
    async with _reader(wanted) as read:
        samples = _samples(wanted)
        for order in islice(samples, WARM_UPS):
            await read(order)

        async def run() -> Result:
            return await _run(read, list(islice(samples, wanted.samples)))

        yield run


async def _run(read: ReadOnce, orders: list[PlannedOrder]) -> Result:
    start = perf_counter()
    times, items = zip(*[await read(order) for order in orders], strict=True)
    seconds = perf_counter() - start
    return {"reads": len(times), "items": sum(items), "seconds": seconds, **summary_ms(times)}


def _samples(wanted: Parameters) -> Iterator[PlannedOrder]:
    chance = random.Random(wanted.read)
    largest = {merchant_id_of(rank) for rank in range(PAGE_MERCHANTS)}
    while True:
        order = planned_order(chance.randrange(wanted.orders), wanted.orders)
        if wanted.read != "page" or order.merchant_id in largest:
            yield order


@asynccontextmanager
async def _reader(wanted: Parameters) -> AsyncIterator[ReadOnce]:
    if wanted.query_url:
        connection, head = await connect_http(wanted.query_url, wanted.token)
        yield partial(_read, connection, head, wanted.read)
        connection.close()
        return
    async with open_database(wanted.mongodb_url, "tracking") as database:
        yield partial(_read_bare, database, READS[wanted.read].bare)


async def _read(connection: HttpConnection, head: bytes, read: str, order: PlannedOrder) -> tuple[float, int]:
    request = b"GET %b HTTP/1.1\r\n%b\r\n" % (READS[read].path(order).encode(), head)
    started = perf_counter()
    answer = await connection.request(request)
    seconds = perf_counter() - started
    if answer.status != 200:
        raise WrongResult(f"{read} {order.order_id}: {answer.status} {answer.body[:300].decode()}")
    return seconds, READS[read].items(orjson.loads(answer.body))


async def _read_bare(database: Database, bare: BareRead, order: PlannedOrder) -> tuple[float, int]:
    with driver_errors():
        started = perf_counter()
        items = await bare(database, order)
        return perf_counter() - started, items


def _order_path(order: PlannedOrder) -> str:
    return f"/v1/orders/{order.order_id}"


async def _bare_order(database: Database, order: PlannedOrder) -> int:
    return int(await database.orders.find_one({"_id": order.order_id}) is not None)


def _history_path(order: PlannedOrder) -> str:
    return f"/v1/orders/{order.order_id}/history"


async def _bare_history(database: Database, order: PlannedOrder) -> int:
    asked = {"order_id": order.order_id, "version": {"$gte": 1, "$lte": MAX_VERSIONS}}
    return len(await database.order_events.find(asked).to_list())


def _page_path(order: PlannedOrder) -> str:
    created = order.changes[0].at
    asked = {
        "merchant_id": order.merchant_id,
        "created_from": format_time(created - PAGE_SPAN / 2),
        "created_to": format_time(created + PAGE_SPAN / 2),
        "limit": PAGE_ORDERS,
    }
    return f"/v1/orders?{urlencode(asked)}"


async def _bare_page(database: Database, order: PlannedOrder) -> int:
    # In the form that the embedded database answers soonest: a find with both conditions takes it longer.
    created = order.changes[0].at
    span = {"$gte": created - PAGE_SPAN / 2, "$lt": created + PAGE_SPAN / 2}
    stages: list[dict[str, Any]] = [
        {"$match": {"merchant_id": {"$in": [order.merchant_id]}}},
        {"$match": {"created_at": span}},
        {"$sort": {"created_at": -1, "_id": -1}},
        {"$limit": PAGE_ORDERS},
    ]
    return len(await (await database.orders.aggregate(stages)).to_list())


@dataclass(frozen=True)
class Read:
    """One question, as the service is asked it and as the driver is."""

    path: Callable[[PlannedOrder], str]
    items: Callable[[dict[str, Any]], int]
    bare: BareRead


READS: Mapping[str, Read] = {
    "order": Read(_order_path, lambda answer: 1, _bare_order),
    "history": Read(_history_path, lambda answer: len(answer["items"]), _bare_history),
    "page": Read(_page_path, lambda answer: len(answer["items"]), _bare_page),
}


if __name__ == "__main__":
    serve_load(prepare)
