"""The stack under test: runs a load against it and records its cost, by process."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil

from benchmarks.figures import PLANS, Plan
from benchmarks.load import LoadFailed, Site, WrongResult, ask, start_load
from benchmarks.profiling import profile
from benchmarks.report import Measurement, Usage
from benchmarks.ws_peer import start_peer
from tracking.devstack.data_folder import DataFolder
from tracking.devstack.processes import descendants
from tracking_shared.storage.database import Database, driver_errors, open_database

RESULTS = Path(__file__).parent / "results"

PREPARE_SECONDS = 60
OVERTIME_SECONDS = 300
"""Added to a load's own seconds: requests in flight, events not yet received, large boards."""

RESTART_SECONDS = 30
LOOK_SECONDS = 0.1


@dataclass
class Stack:
    """A running stack."""

    site: Site
    data: Path
    database: Database
    profiled: str | None
    """The service to sample during each load."""

    async def measure(self, name: str, given: Mapping[str, Any]) -> Measurement:
        """Runs the load of this figure or floor; `given` values replace its own.

        Raises:
            LoadFailed: it failed, or a part of the stack ended meanwhile.
            DatabaseUnavailable: the log cannot be counted.
            WrongResult: the log or the dashboard shows something else than was answered.
        """
        plan = PLANS[name]
        options = {key: given.get(key) or value for key, value in plan.options.items()}
        before = await self._recorded() if plan.counts_events else 0
        async with AsyncExitStack() as opened:
            others: dict[str, int] = {}
            if plan.server == "ws":
                peer = await opened.enter_async_context(start_peer())
                options |= {"peer_port": peer.port, "peer_feed_port": peer.feed_port}
                others["ws"] = peer.pid
            measurement = await self._run(name, plan, options, others)
        if plan.counts_events:
            self._check(measurement, await self._recorded() - before)
        return measurement.with_cost_of(plan.server)

    async def _run(
        self, name: str, plan: Plan, options: dict[str, Any], others: dict[str, int]
    ) -> Measurement:
        async with AsyncExitStack() as opened:
            load = await opened.enter_async_context(start_load(plan.load))
            await ask(load, {"site": asdict(self.site), **options}, "ready", PREPARE_SECONDS)
            if plan.restarts_notifier:
                await self._restart_notifier()
            if self.profiled:
                path = RESULTS / f"{name}-{self.profiled}.svg"
                await opened.enter_async_context(profile(self.site.pids[self.profiled], path))
            pids = self.site.pids | {"generator": load.pid} | others
            before = _read(pids)
            values = await ask(load, {}, "result", options.get("seconds", 0) + OVERTIME_SECONDS)
            return Measurement(name, values, usage_between(before, _read(pids)))

    def _check(self, measurement: Measurement, recorded: int) -> None:
        name, updates = measurement.name, measurement.values["updates"]
        if recorded != updates:
            raise WrongResult(f"{name}: {updates:.0f} updates were applied and {recorded} recorded")
        if measurement.values.get("events", updates) != updates:
            raise WrongResult(f"{name}: {updates:.0f} applied, {measurement.values['events']:.0f} seen")

    async def _restart_notifier(self) -> None:
        old = self.site.pids["notifier"]
        os.kill(old, signal.SIGTERM)
        try:
            async with asyncio.timeout(RESTART_SECONDS):
                while self.site.pids["notifier"] == old:
                    await asyncio.sleep(LOOK_SECONDS)
                    self.site.pids.update(
                        _measured_pids(DataFolder(self.data).running_stack() or {"pids": {}})
                    )
        except TimeoutError:
            raise LoadFailed("the notifier does not come back after a stop") from None

    async def _recorded(self) -> int:
        """The events in the log, counted twice: by the positions and by the documents."""
        with driver_errors():
            positions = sum([partition["seq"] async for partition in self.database.partitions.find({})])
            events = await self.database.order_events.count_documents({})
        if events != positions:
            raise WrongResult(f"the positions count {positions} events, the log has {events}")
        return events


@asynccontextmanager
async def use_stack(document: dict[str, Any], data: Path, profiled: str | None) -> AsyncIterator[Stack]:
    """The stack in the folder `data` that this ready document describes."""
    known = document | {"pids": _measured_pids(document)}
    site = Site(**{field.name: known[field.name] for field in fields(Site)})
    name = os.environ.get("MONGODB_DATABASE", "tracking")
    async with open_database(site.mongodb_url, name) as database:
        yield Stack(site, data, database, profiled)


def _measured_pids(document: dict[str, Any]) -> dict[str, int]:
    # The name service of the broker's node does nothing after the start.
    return {name: pid for name, pid in document["pids"].items() if name != "epmd"}


@dataclass(frozen=True)
class Reading:
    """Processor seconds since each process, and the machine, started, and resident bytes."""

    at: float
    processes: dict[str, float]
    memory: dict[str, float]
    busy: float
    idle: float
    stolen: float


def _read(pids: Mapping[str, int]) -> Reading:
    """Reads some processes (ids by name), each with its children.

    Raises:
        LoadFailed: a process has ended, so that what was measured is not the system at work.
    """
    seconds, memory = {}, {}
    for name, pid in pids.items():
        try:
            process = psutil.Process(pid)
            memory[name] = float(process.memory_info().rss)
            seconds[name] = _seconds(process)
        except psutil.NoSuchProcess:
            raise LoadFailed(f"{name} (process {pid}) ended during the measurement") from None
        for child in descendants(pid):
            with suppress(psutil.NoSuchProcess):
                seconds[name] += _seconds(child)
    times = psutil.cpu_times()
    busy = times.user + times.nice + times.system + times.irq + times.softirq
    return Reading(perf_counter(), seconds, memory, busy, times.idle + times.iowait, times.steal)


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def usage_between(before: Reading, after: Reading) -> Usage:
    """The usage from one reading to a later one of the same processes."""
    processes = {name: after.processes[name] - before.processes[name] for name in after.processes}
    return Usage(
        seconds=after.at - before.at,
        cores=os.cpu_count() or 1,
        processes=processes,
        others=max(after.busy - before.busy - sum(processes.values()), 0.0),
        idle=after.idle - before.idle,
        stolen=after.stolen - before.stolen,
        memory={name: after.memory[name] - before.memory[name] for name in after.memory},
    )
