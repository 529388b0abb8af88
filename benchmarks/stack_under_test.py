"""The running stack, as the measurements use it: addresses, tokens, processor times, and what it recorded."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.load_process import LoadFailed, WrongResult, start_load
from benchmarks.measurement import Measurement
from benchmarks.processor_time import Meter, usage_between
from benchmarks.profiling import Profiler
from shared.database import Database, driver_errors, open_database
from tracking.data_folder import DataFolder
from tracking.tokens import mint_token

RESTART_SECONDS = 30
LOOK_SECONDS = 0.1


class StackUnderTest:
    """One stack, on fresh data or on those of the reads."""

    def __init__(
        self, document: dict[str, Any], data: Path, database: Database, profiler: Profiler | None
    ) -> None:
        self.ingest_url: str = document["ingest"]
        self.query_url: str = document["query"]
        self.notifier_url: str = document["notifier"]
        self.console_url: str = document["console"]
        self.amqp_url: str = document["amqp_url"]
        self.mongodb_url: str = document["mongodb_url"]
        self._secret: str = document["jwt_secret"]
        self._folder = DataFolder(data)
        self._pids: dict[str, int] = document["pids"]
        self._database = database
        self._profiler = profiler

    def pid(self, part: str) -> int:
        """The process id of a part of the stack."""
        return self._pids[part]

    def token(self) -> str:
        """One that may do everything, for an hour."""
        scope = "orders:write orders:read"
        return mint_token(self._secret, subject="benchmark", scope=scope, merchants=["*"])

    def reader_tokens(self, merchants: Sequence[str], number: int) -> list[str]:
        """Tokens of so many readers, each of one merchant, in turn."""
        return [
            mint_token(
                self._secret,
                subject=f"dashboard-{index}",
                scope="orders:read",
                merchants=[merchants[index % len(merchants)]],
            )
            for index in range(number)
        ]

    async def measure(
        self,
        name: str,
        module: str,
        parameters: dict[str, Any],
        seconds: float,
        *,
        others: Mapping[str, int] | None = None,
        prelude: Callable[[], Awaitable[None]] | None = None,
    ) -> Measurement:
        """Runs a load, planned to take `seconds`, and takes the processor times around it; those of `others`,
        which are no part of the stack, too (process ids by name). The `prelude` runs when the load
        is prepared.

        Raises:
            LoadFailed: it failed, or a part of the stack ended meanwhile.
        """
        async with start_load(module) as load:
            await load.prepare(parameters)
            if prelude is not None:
                await prelude()
            meter = Meter({**self._pids, "generator": load.pid, **(others or {})})
            before = meter.read()
            values = await load.run(seconds)
            return Measurement(name, values, usage_between(before, meter.read()))

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
        async with self.profile(name, seconds):
            measurement = await self.measure(name, module, parameters, seconds)
        recorded = await self._recorded() - before
        updates = measurement.values["updates"]
        if recorded != updates:
            raise WrongResult(f"{name}: {updates:.0f} updates were applied and {recorded} recorded")
        if measurement.values.get("events", updates) != updates:
            raise WrongResult(f"{name}: {updates:.0f} applied, {measurement.values['events']:.0f} seen")
        return measurement

    async def restart_notifier(self) -> None:
        """Ends the notifier, and returns when it is ready again.

        Raises:
            LoadFailed: it does not come back.
        """
        old = self._pids["notifier"]
        os.kill(old, signal.SIGTERM)
        try:
            async with asyncio.timeout(RESTART_SECONDS):
                while self._pids["notifier"] == old:
                    await asyncio.sleep(LOOK_SECONDS)
                    self._pids |= _measured_pids(self._folder.running_stack() or {"pids": {}})
        except TimeoutError:
            raise LoadFailed("the notifier does not come back after a stop") from None

    async def _recorded(self) -> int:
        """The events in the log, counted twice: by the positions and by the documents."""
        with driver_errors():
            positions = sum([partition["seq"] async for partition in self._database.partitions.find({})])
            events = await self._database.order_events.count_documents({})
        if events != positions:
            raise WrongResult(f"the positions count {positions} events, the log holds {events}")
        return events

    @asynccontextmanager
    async def profile(self, name: str, seconds: float) -> AsyncIterator[None]:
        """Samples while the body runs, if a profile was asked for."""
        if self._profiler is None:
            yield
            return
        async with self._profiler.record(name, seconds):
            yield


@asynccontextmanager
async def use_stack(
    document: dict[str, Any], data: Path, profiler: Profiler | None
) -> AsyncIterator[StackUnderTest]:
    """The stack in the folder `data` that this ready document describes."""
    name = os.environ.get("MONGODB_DATABASE", "tracking")
    async with open_database(document["mongodb_url"], name) as database:
        yield StackUnderTest(document | {"pids": _measured_pids(document)}, data, database, profiler)


def _measured_pids(document: dict[str, Any]) -> dict[str, int]:
    # The name service of the broker's node does nothing after the start.
    return {name: pid for name, pid in document["pids"].items() if name != "epmd"}
