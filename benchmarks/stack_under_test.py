"""The running stack, as the measurements use it: addresses, tokens, processor times, and what it recorded."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.load_process import WrongResult, start_load
from benchmarks.measurement import Measurement
from benchmarks.processor_time import Meter, usage_between
from benchmarks.profiling import Profiler
from shared.database import Database, driver_errors, open_database
from tracking.tokens import mint_token


class StackUnderTest:
    """One stack on fresh data."""

    def __init__(self, document: dict[str, Any], database: Database, profiler: Profiler | None) -> None:
        self.ingest_url: str = document["ingest"]
        self.notifier_url: str = document["notifier"]
        self.amqp_url: str = document["amqp_url"]
        self.mongodb_url: str = document["mongodb_url"]
        self._secret: str = document["jwt_secret"]
        self._meter = Meter(document["pids"])
        self._database = database
        self._profiler = profiler

    def token(self) -> str:
        """One that may do everything, for an hour."""
        scope = "orders:write orders:read"
        return mint_token(self._secret, subject="benchmark", scope=scope, merchants=["*"])

    async def measure(
        self, name: str, module: str, parameters: dict[str, Any], seconds: float
    ) -> Measurement:
        """Runs a load, planned to take `seconds`, and takes the processor times around it.

        Raises:
            LoadFailed: it failed, or a part of the stack ended meanwhile.
        """
        async with start_load(module) as load:
            await load.prepare(parameters)
            before = self._meter.read(load.pid)
            values = await load.run(seconds)
            return Measurement(name, values, usage_between(before, self._meter.read(load.pid)))

    async def measure_orders(
        self, name: str, module: str, parameters: dict[str, Any], seconds: float
    ) -> Measurement:
        """`measure` for a load on the whole system; the log must grow by exactly its updates.

        Raises:
            LoadFailed: it failed, or a part of the stack ended meanwhile.
            DatabaseUnavailable: the log cannot be counted.
            WrongResult: the log or the dashboard shows something else than what was answered.
        """
        before = await self._recorded()
        async with self._profile(name, seconds):
            measurement = await self.measure(name, module, parameters, seconds)
        recorded = await self._recorded() - before
        updates = measurement.values["updates"]
        if recorded != updates:
            raise WrongResult(f"{name}: {updates:.0f} updates were applied and {recorded} recorded")
        if measurement.values.get("events", updates) != updates:
            raise WrongResult(f"{name}: {updates:.0f} applied, {measurement.values['events']:.0f} seen")
        return measurement

    async def _recorded(self) -> int:
        """The events in the log, counted twice: by the positions and by the documents."""
        with driver_errors():
            positions = sum([partition["seq"] async for partition in self._database.partitions.find({})])
            events = await self._database.order_events.count_documents({})
        if events != positions:
            raise WrongResult(f"the positions count {positions} events, the log holds {events}")
        return events

    @asynccontextmanager
    async def _profile(self, name: str, seconds: float) -> AsyncIterator[None]:
        if self._profiler is None:
            yield
            return
        async with self._profiler.record(name, seconds):
            yield


@asynccontextmanager
async def use_stack(document: dict[str, Any], profiler: Profiler | None) -> AsyncIterator[StackUnderTest]:
    """The stack that this ready document describes."""
    name = os.environ.get("MONGODB_DATABASE", "tracking")
    async with open_database(document["mongodb_url"], name) as database:
        yield StackUnderTest(_with_whole_broker(document), database, profiler)


def _with_whole_broker(document: dict[str, Any]) -> dict[str, Any]:
    # The name service of the broker's node does nothing after the start.
    pids = {name: pid for name, pid in document["pids"].items() if name != "epmd"}
    return document | {"pids": pids}
