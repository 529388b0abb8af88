"""Reads of one order, its history, a page and all orders: through the service, and by the bare driver.

Single reads come one at a time, from a connection that stays open. Both sides read the same orders.
"""

import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlencode

import orjson
from aiohttp import ClientSession, ClientTimeout

from benchmarks.http_client import HttpClient, connect_http
from benchmarks.load import Result, Run, Site, WrongResult, summary_ms
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

_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
_LONG_AGO = datetime(1900, 1, 1, tzinfo=UTC)

Timed = tuple[float, int]
"""Seconds, and the number of items."""


async def reads(
    site: Site, read: str, samples: int, orders: int, *, is_bare: bool = False
) -> AsyncIterator[Run]:
    """Single reads of random orders, in the same sequence each time."""
    async with AsyncExitStack() as opened:
        read_once: Callable[[PlannedOrder], Awaitable[Timed]]
        if is_bare:
            database = await opened.enter_async_context(open_database(site.mongodb_url, "tracking"))
            read_once = partial(_read_bare, database, BARE_READS[read])
        else:
            read_once = partial(_read, await connect_http(site.query, site.token()), PATHS[read])
        sequence = _sequence(read, orders)
        for order in islice(sequence, WARM_UPS):
            await read_once(order)

        async def run() -> Result:
            wanted = list(islice(sequence, samples))
            start = perf_counter()
            times, items = zip(*[await read_once(order) for order in wanted], strict=True)
            seconds = perf_counter() - start
            return {"reads": len(times), "items": sum(items), "seconds": seconds, **summary_ms(times)}

        yield run


def _sequence(read: str, orders: int) -> Iterator[PlannedOrder]:
    chance = random.Random(read)
    largest = {merchant_id_of(rank) for rank in range(PAGE_MERCHANTS)}
    while True:
        order = planned_order(chance.randrange(orders), orders)
        if read != "page" or order.merchant_id in largest:
            yield order


async def _read(client: HttpClient, path: Callable[[PlannedOrder], str], order: PlannedOrder) -> Timed:
    request = b"GET %b HTTP/1.1\r\n%b\r\n" % (path(order).encode(), client.head)
    started = perf_counter()
    status, body = await client.exchange(request)
    seconds = perf_counter() - started
    if status != 200:
        raise WrongResult(f"{path(order)}: {status} {body[:300].decode()}")
    return seconds, len(orjson.loads(body).get("items", "1"))


async def _read_bare(
    database: Database, read: Callable[[Database, PlannedOrder], Awaitable[int]], order: PlannedOrder
) -> Timed:
    with driver_errors():
        started = perf_counter()
        items = await read(database, order)
        return perf_counter() - started, items


def _page_path(order: PlannedOrder) -> str:
    created = order.changes[0].at
    asked = {
        "merchant_id": order.merchant_id,
        "created_from": format_time(created - PAGE_SPAN / 2),
        "created_to": format_time(created + PAGE_SPAN / 2),
        "limit": PAGE_ORDERS,
    }
    return f"/v1/orders?{urlencode(asked)}"


async def _bare_order(database: Database, order: PlannedOrder) -> int:
    return int(await database.orders.find_one({"_id": order.order_id}) is not None)


async def _bare_history(database: Database, order: PlannedOrder) -> int:
    asked = {"order_id": order.order_id, "version": {"$gte": 1, "$lte": MAX_VERSIONS}}
    return len(await database.order_events.find(asked).to_list())


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


PATHS: dict[str, Callable[[PlannedOrder], str]] = {
    "order": lambda order: f"/v1/orders/{order.order_id}",
    "history": lambda order: f"/v1/orders/{order.order_id}/history",
    "page": _page_path,
}
BARE_READS = {"order": _bare_order, "history": _bare_history, "page": _bare_page}


async def export(site: Site, form: str, orders: int) -> AsyncIterator[Run]:
    """An export of all orders, as a client receives it, and the memory of the service meanwhile."""
    pid = site.pids["query"]
    async with ClientSession(site.query, timeout=ClientTimeout(total=None)) as session:
        exported = partial(_export, session, site.token(), form)
        await exported(small=False)  # as with the bare cursor, the first time is not counted
        small, small_peak = await _with_peak(pid, exported(small=True))

        async def run() -> Result:
            whole, peak = await _with_peak(pid, exported(small=False))
            if whole["rows"] != orders or not 0 < small["rows"] < orders / 10:
                raise WrongResult(f"{form}: {whole['rows']} rows of {orders}, {small['rows']} of few")
            return whole | {
                "rate": whole["rows"] / whole["seconds"],
                "small_rows": small["rows"],
                "peak_mb": peak / MB,
                "growth_mb": (peak - small_peak) / MB,
            }

        yield run


async def _export(session: ClientSession, token: str, form: str, *, small: bool) -> Result:
    asked = {"created_from": format_time(END - SMALL_SPAN)} if small else {}
    headers = {"Authorization": f"Bearer {token}", "Accept": MEDIA_TYPES[form], "Accept-Encoding": "identity"}
    started = perf_counter()
    lines, size = 0, 0
    async with session.get("/v1/orders", params=asked, headers=headers) as response:
        if response.status != 200:
            raise WrongResult(f"{form}: {response.status} {(await response.text())[:300]}")
        async for chunk in response.content.iter_any():
            lines += chunk.count(b"\n")
            size += len(chunk)
    return {"rows": lines - (form == "csv"), "seconds": perf_counter() - started, "mb": size / MB}


async def _with_peak(pid: int, exported: Awaitable[Result]) -> tuple[Result, int]:
    """The export, and the largest resident memory of a process meanwhile, in bytes."""
    _forget_peak(pid)
    return await exported, _peak_bytes(pid)


def _forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _peak_bytes(pid: int) -> int:
    """The largest resident memory of a process since `_forget_peak` (proc(5))."""
    match = _PEAK.search(Path(f"/proc/{pid}/status").read_text())
    if match is None:
        raise WrongResult(f"process {pid} has ended")
    return int(match[1]) * 1024


async def cursor(site: Site, orders: int) -> AsyncIterator[Run]:
    """All orders by a bare cursor."""
    async with open_database(site.mongodb_url, "tracking") as database:

        async def run() -> Result:
            started = perf_counter()
            rows = await _read_all(database)
            seconds = perf_counter() - started
            if rows != orders:
                raise WrongResult(f"the cursor gives {rows} orders of {orders}")
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
