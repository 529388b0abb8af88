"""Exports of all the orders: through the service, as a client takes them in, and by a bare cursor."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from aiohttp import ClientSession, ClientTimeout

from benchmarks.floors import Measure
from benchmarks.load_process import Result, Run, WrongResult, serve_load
from benchmarks.measurement import Measurement
from benchmarks.query_shape import END
from benchmarks.stack_under_test import StackUnderTest
from shared.database import Database, driver_errors, open_database
from shared.timestamps import format_time

MEDIA_TYPES = {"csv": "text/csv", "ndjson": "application/x-ndjson"}

PLANNED_SECONDS = 30.0

CHUNK_ORDERS = 500
"""Orders that the bare cursor asks for at a time, as the service does."""

SMALL_SPAN = timedelta(days=4)
"""The orders of the last days, a hundredth of all, are the small export."""

MB = 1_000_000

_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
_LONG_AGO = datetime(1900, 1, 1, tzinfo=UTC)
_HEAD_LINES = {"csv": 1, "ndjson": 0}


@dataclass(frozen=True)
class Parameters:
    """What the load process is told. Without a form, the bare cursor is meant."""

    orders: int
    mongodb_url: str
    form: str = ""
    query_url: str = ""
    query_pid: int = 0
    token: str = ""


def measures(orders: int) -> Mapping[str, Measure]:
    """How to measure each form, and the bare cursor, in a world of so many orders."""
    through = {f"query-{form}": partial(_measure, form=form, orders=orders) for form in MEDIA_TYPES}
    return through | {"bare-cursor": partial(_measure_bare, orders=orders)}


async def _measure(stack: StackUnderTest, form: str, orders: int) -> Measurement:
    pid = stack.pid("query")
    wanted = Parameters(orders, stack.mongodb_url, form, stack.query_url, pid, stack.token())
    async with stack.profile(f"query-{form}", PLANNED_SECONDS):
        return await stack.measure(f"query-{form}", __name__, asdict(wanted), PLANNED_SECONDS)


async def _measure_bare(stack: StackUnderTest, orders: int) -> Measurement:
    wanted = Parameters(orders, stack.mongodb_url)
    return await stack.measure("bare-cursor", __name__, asdict(wanted), PLANNED_SECONDS)


@asynccontextmanager
async def prepare(parameters: dict[str, Any]) -> AsyncIterator[Run]:
    """Connects, and reads everything once, and the small export."""
    wanted = Parameters(**parameters)
    if wanted.form:
        async with ClientSession(wanted.query_url, timeout=ClientTimeout(total=None)) as session:
            yield await _export_run(partial(_export, session, wanted), wanted)
        return
    async with open_database(wanted.mongodb_url, "tracking") as database:
        # The first time, the database reads its files.
        await _bare(database)
        yield partial(_bare_run, database, wanted)


async def _export_run(export: Callable[[bool], Awaitable[Result]], wanted: Parameters) -> Run:
    await export(False)  # as with the bare cursor, the first time is not counted
    _forget_peak(wanted.query_pid)
    small = await export(True)
    small_peak = _peak_bytes(wanted.query_pid)

    async def run() -> Result:
        _forget_peak(wanted.query_pid)
        whole = await export(False)
        peak = _peak_bytes(wanted.query_pid)
        if whole["rows"] != wanted.orders or not 0 < small["rows"] < wanted.orders / 10:
            raise WrongResult(
                f"{wanted.form}: {whole['rows']} rows of {wanted.orders}, {small['rows']} of few"
            )
        return whole | {
            "rate": whole["rows"] / whole["seconds"],
            "small_rows": small["rows"],
            "peak_mb": peak / MB,
            "growth_mb": (peak - small_peak) / MB,
        }

    return run


async def _export(session: ClientSession, wanted: Parameters, small: bool) -> Result:
    asked = {"created_from": format_time(END - SMALL_SPAN)} if small else {}
    headers = {"Authorization": f"Bearer {wanted.token}", "Accept": MEDIA_TYPES[wanted.form]}
    headers["Accept-Encoding"] = "identity"
    started = perf_counter()
    lines, size = 0, 0
    async with session.get("/v1/orders", params=asked, headers=headers) as response:
        if response.status != 200:
            raise WrongResult(f"{wanted.form}: {response.status} {(await response.text())[:300]}")
        async for chunk in response.content.iter_any():
            lines += chunk.count(b"\n")
            size += len(chunk)
    seconds = perf_counter() - started
    return {"rows": lines - _HEAD_LINES[wanted.form], "seconds": seconds, "mb": size / MB}


async def _bare_run(database: Database, wanted: Parameters) -> Result:
    started = perf_counter()
    rows = await _bare(database)
    seconds = perf_counter() - started
    if rows != wanted.orders:
        raise WrongResult(f"the cursor gives {rows} orders of {wanted.orders}")
    return {"rows": rows, "seconds": seconds, "rate": rows / seconds}


async def _bare(database: Database) -> int:
    rows = 0
    with driver_errors():
        async with database.client.start_session(snapshot=True) as session:
            cursor = database.orders.find(
                {"created_at": {"$gte": _LONG_AGO}},  # the service asks so, too, and the index serves it
                sort={"created_at": -1, "_id": -1},
                batch_size=CHUNK_ORDERS,
                session=session,
            )
            while chunk := await cursor.to_list(CHUNK_ORDERS):
                rows += len(chunk)
    return rows


def _forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _peak_bytes(pid: int) -> int:
    """The largest resident memory of a process since `_forget_peak` (proc(5))."""
    match = _PEAK.search(Path(f"/proc/{pid}/status").read_text())
    if match is None:
        raise WrongResult(f"process {pid} has ended")
    return int(match[1]) * 1024


if __name__ == "__main__":
    serve_load(prepare)
