"""The stack under test: runs a load against it and records its cost, by process."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from benchmarks.figures import LOADS
from benchmarks.load import BenchmarkFailed, Result, Site
from benchmarks.processes import ask, read_usage, start_peer, start_process, usage_between
from benchmarks.report import Measurement
from tracking.devstack.data_folder import DataFolder
from tracking_shared.storage.database import Database, driver_errors, open_database

PREPARE_SECONDS = 60
OVERTIME_SECONDS = 300
"""Added to a load's own seconds: requests in flight, events not yet received, large boards."""

RESTART_SECONDS = 30
LOOK_SECONDS = 0.1

START_LOAD = "from benchmarks.load import serve; serve()"
UNITS = ("deliveries", "reads", "rows", "updates")
"""The work of a load, of which a processor's time is the cost; the first that it has."""


def site_of(data: Path) -> Site:
    """The stack that runs in this folder, with its processes as they are now."""
    known = DataFolder(data).running_stack()
    if known is None:
        raise BenchmarkFailed(f"no stack runs in {data}")
    known["pids"].pop("epmd", None)  # the name service of the broker's node does nothing after the start
    return Site(**{field.name: known[field.name] for field in fields(Site) if field.name in known})


async def measure(name: str, data: Path, given: Mapping[str, Any]) -> Measurement:
    """Runs the load of this figure or floor; `given` values replace its own options."""
    load, site = LOADS[name], site_of(data)
    options = {key: given.get(key) or value for key, value in load.options.items()}
    url, database_name = site.mongodb_url, os.environ.get("MONGODB_DATABASE", "tracking")
    async with AsyncExitStack() as opened, open_database(url, database_name) as database:
        recorded = await _recorded(database) if load.counts_events else 0
        if load.server == "ws":
            pid, port, feed = await opened.enter_async_context(start_peer())
            site = replace(site, peer_port=port, peer_feed_port=feed, pids=site.pids | {"ws": pid})
        command = (sys.executable, "-c", START_LOAD, load.function)
        process = await opened.enter_async_context(start_process(*command))
        await ask(process, {"site": asdict(site), **options}, PREPARE_SECONDS)
        if load.restarts_notifier:
            site = await _restart_notifier(site, data)
        pids = site.pids | {"generator": process.pid}
        before = read_usage(pids)
        answer = await ask(process, {}, options.get("seconds", 0) + OVERTIME_SECONDS)
        usage, values = usage_between(before, read_usage(pids)), answer["result"]
        if load.counts_events:
            _check(name, values, await _recorded(database) - recorded)
    return Measurement(name, values | _costs(values, usage, load.server), usage)


async def _restart_notifier(site: Site, data: Path) -> Site:
    os.kill(site.pids["notifier"], signal.SIGTERM)
    restarted = site
    try:
        async with asyncio.timeout(RESTART_SECONDS):
            while restarted.pids["notifier"] == site.pids["notifier"]:
                await asyncio.sleep(LOOK_SECONDS)
                restarted = site_of(data)
    except TimeoutError:
        raise BenchmarkFailed("the notifier does not come back after a stop") from None
    return restarted


def _costs(values: Result, usage: Mapping[str, Any], server: str) -> Result:
    """Microseconds of each process for a unit of work, or the memory of the server for a client."""
    unit = "clients" if "retries" in values else next((name for name in UNITS if name in values), None)
    if unit is None:
        return {"client_kb": usage["memory"][server] / values["clients"] / 1000} if server else {}
    costs = {f"{name}_us": seconds * 1e6 / values[unit] for name, seconds in usage["processes"].items()}
    costs["stack_us"] = sum(costs.values()) - costs["generator_us"]
    return costs | ({"server_us": costs[f"{server}_us"]} if server else {})


def _check(name: str, values: Result, recorded: int) -> None:
    updates = values["updates"]
    seen = values.get("events", updates)
    if not recorded == seen == updates:
        raise BenchmarkFailed(f"{name}: {updates:.0f} updates applied, {recorded} recorded, {seen:.0f} seen")


async def _recorded(database: Database) -> int:
    """The events in the log, counted twice: by the positions and by the documents."""
    with driver_errors():
        positions = sum([partition["seq"] async for partition in database.partitions.find({})])
        events = await database.order_events.count_documents({})
    if events != positions:
        raise BenchmarkFailed(f"the positions count {positions} events, the log has {events}")
    return events
