"""Reads of one order, its history, a page and all orders: through the service, and by the bare driver.

Single reads come one at a time, from a connection that stays open. Both sides read the same orders.
"""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from time import perf_counter
from typing import Any
from urllib.parse import urlencode

import orjson
from aiohttp import ClientSession, ClientTimeout

from benchmarks.http_client import connect_http
from benchmarks.load import BenchmarkFailed, Result, Run, Site, summary_ms
from benchmarks.processes import forget_peak, peak_bytes
from benchmarks.query_shape import END, PlannedOrder, merchant_id_of, planned_order
from tracking_shared.contracts.timestamps import format_time
from tracking_shared.storage.database import Database, driver_errors, open_database

WARM_UPS = 50

PAGE_ORDERS = 50
PAGE_SPAN = timedelta(days=90)
PAGE_MERCHANTS = 50
"""Pages are asked of the largest merchants, so that there is a whole page to show."""

MAX_VERSIONS = 500
"""As many as one answer of the service may have."""

MEDIA_TYPES = {"csv": "text/csv", "ndjson": "application/x-ndjson"}

CHUNK_ORDERS = 500
"""Orders that the bare cursor asks for at a time, as the service does."""

SMALL_SPAN = timedelta(days=4)
"""The orders of the last days, a hundredth of all, are the small export."""

MB = 1_000_000

_LONG_AGO = datetime(1900, 1, 1, tzinfo=UTC)

Timed = tuple[float, int]
"""Seconds, and the number of items."""


async def query_reads(site: Site, read: str, samples: int, orders: int) -> AsyncIterator[Run]:
    """Single reads of random orders through the service."""
    client = await connect_http(site.query, site.token())

    async def read_once(order: PlannedOrder) -> Timed:
        started = perf_counter()
        body = await client.get(_path(read, order))
        return perf_counter() - started, len(orjson.loads(body).get("items", "1"))

    yield await _reads(read_once, read, samples, orders)


async def bare_reads(site: Site, read: str, samples: int, orders: int) -> AsyncIterator[Run]:
    """The same by the driver."""
    async with open_database(site.mongodb_url, "tracking") as database:

        async def read_once(order: PlannedOrder) -> Timed:
            with driver_errors():
                started = perf_counter()
                items = await _bare(database, read, order)
                return perf_counter() - started, items

        yield await _reads(read_once, read, samples, orders)


async def _reads(
    read_once: Callable[[PlannedOrder], Awaitable[Timed]], read: str, samples: int, orders: int
) -> Run:
    sequence = _sequence(read, orders)
    for order in islice(sequence, WARM_UPS):
        await read_once(order)

    async def run() -> Result:
        wanted = list(islice(sequence, samples))
        start = perf_counter()
        times, items = zip(*[await read_once(order) for order in wanted], strict=True)
        values = {"reads": samples, "items_each": sum(items) / samples, "seconds": perf_counter() - start}
        return values | summary_ms(times)

    return run


def _sequence(read: str, orders: int) -> Iterator[PlannedOrder]:
    """Random orders, the same each time."""
    chance = random.Random(read)
    largest = {merchant_id_of(rank) for rank in range(PAGE_MERCHANTS)}
    while True:
        order = planned_order(chance.randrange(orders), orders)
        if read != "page" or order.merchant_id in largest:
            yield order


def _path(read: str, order: PlannedOrder) -> str:
    if read == "order":
        return f"/v1/orders/{order.order_id}"
    if read == "history":
        return f"/v1/orders/{order.order_id}/history"
    created = order.changes[0].at
    span = {"created_from": created - PAGE_SPAN / 2, "created_to": created + PAGE_SPAN / 2}
    times = {name: format_time(time) for name, time in span.items()}
    return "/v1/orders?" + urlencode({"merchant_id": order.merchant_id, **times, "limit": PAGE_ORDERS})


async def _bare(database: Database, read: str, order: PlannedOrder) -> int:
    """Reads, and returns the number of items."""
    if read == "order":
        return int(await database.orders.find_one({"_id": order.order_id}) is not None)
    if read == "history":
        asked = {"order_id": order.order_id, "version": {"$gte": 1, "$lte": MAX_VERSIONS}}
        return len(await database.order_events.find(asked).to_list())
    # In the form that the embedded database answers soonest: a find with both conditions takes it longer.
    created = order.changes[0].at
    stages: list[dict[str, Any]] = [
        {"$match": {"merchant_id": {"$in": [order.merchant_id]}}},
        {"$match": {"created_at": {"$gte": created - PAGE_SPAN / 2, "$lt": created + PAGE_SPAN / 2}}},
        {"$sort": {"created_at": -1, "_id": -1}},
        {"$limit": PAGE_ORDERS},
    ]
    return len(await (await database.orders.aggregate(stages)).to_list())


async def export(site: Site, form: str, orders: int) -> AsyncIterator[Run]:
    """An export of all orders, as a client receives it, and the memory of the service meanwhile."""
    pid = site.pids["query"]
    async with ClientSession(site.query, timeout=ClientTimeout(total=None)) as session:
        exported = partial(_export, session, site.token(), form, pid)
        await exported(small=False)  # as with the bare cursor, the first time is not counted
        small = await exported(small=True)

        async def run() -> Result:
            whole = await exported(small=False)
            if whole["rows"] != orders or not 0 < small["rows"] < orders / 10:
                raise BenchmarkFailed(f"{form}: {whole['rows']} rows of {orders}, {small['rows']} of few")
            growth = {"small_rows": small["rows"], "growth_mb": whole["peak_mb"] - small["peak_mb"]}
            return whole | growth | {"rate": whole["rows"] / whole["seconds"]}

        yield run


async def _export(session: ClientSession, token: str, form: str, pid: int, *, small: bool) -> Result:
    """An export, and the largest resident memory of a process meanwhile."""
    asked = {"created_from": format_time(END - SMALL_SPAN)} if small else {}
    headers = {"Authorization": f"Bearer {token}", "Accept": MEDIA_TYPES[form], "Accept-Encoding": "identity"}
    forget_peak(pid)
    started = perf_counter()
    lines, size = 0, 0
    async with session.get("/v1/orders", params=asked, headers=headers) as response:
        if response.status != 200:
            raise BenchmarkFailed(f"{form}: {response.status} {(await response.text())[:300]}")
        async for chunk in response.content.iter_any():
            lines += chunk.count(b"\n")
            size += len(chunk)
    values = {"rows": lines - (form == "csv"), "seconds": perf_counter() - started, "mb": size / MB}
    return values | {"peak_mb": peak_bytes(pid) / MB}


async def cursor(site: Site, orders: int) -> AsyncIterator[Run]:
    """All orders by a bare cursor."""
    async with open_database(site.mongodb_url, "tracking") as database:

        async def run() -> Result:
            started = perf_counter()
            rows = await _read_all(database)
            seconds = perf_counter() - started
            if rows != orders:
                raise BenchmarkFailed(f"the cursor gives {rows} orders of {orders}")
            return {"rows": rows, "seconds": seconds, "rate": rows / seconds}

        await _read_all(database)  # the first time, the database reads its files
        yield run


async def _read_all(database: Database) -> int:
    rows = 0
    with driver_errors():
        async with database.client.start_session(snapshot=True) as session:
            found = database.orders.find(
                {"created_at": {"$gte": _LONG_AGO}},  # the service asks so, too, and the index serves it
                sort={"created_at": -1, "_id": -1},
                batch_size=CHUNK_ORDERS,
                session=session,
            )
            while chunk := await found.to_list(CHUNK_ORDERS):
                rows += len(chunk)
    return rows
