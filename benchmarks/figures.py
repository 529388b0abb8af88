"""What the system must reach, and how a measurement stands against it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.measurement import Measurement


@dataclass(frozen=True)
class Target:
    """A bound for one value of a measurement, and the floors or peers to see it beside."""

    title: str
    value: str
    unit: str
    bound: float
    floors: tuple[str, ...]
    """None: there is nothing to see it beside."""
    larger_is_better: bool = True
    is_relative: bool = False
    """Whether the bound is in units of the floor."""


def _read_target(title: str, floor: str) -> Target:
    return Target(title, "p50_ms", "ms", 2, (floor,), larger_is_better=False, is_relative=True)


def _console_target(title: str, value: str, unit: str, bound: float) -> Target:
    return Target(f"console: {title}", value, unit, bound, (), larger_is_better=False)


def _export_target(title: str) -> Target:
    return Target(title, "rate", "rows/s", 0.5, ("bare-cursor",), is_relative=True)


TARGETS: Mapping[str, Target] = {
    "idle-memory": Target(
        "idle dashboard, memory of the server", "client_kb", "KB", 20, ("ws-memory",), larger_is_better=False
    ),
    "latency": Target(
        "idle, from POST to the event in a client, median", "p50_ms", "ms", 12, ("pass-idle",), False
    ),
    "single": Target("single updates, synchronous, 64 callers", "rate", "updates/s", 2000, ("pass-busy",)),
    "batches": Target(
        "batches of 500, committed and announced",
        "rate",
        "updates/s",
        8000,
        ("transactions-1", "transactions-4"),
    ),
    "fan-out-single": Target(
        "1,000 dashboards, one event at a time, CPU of a delivery",
        "server_us",
        "µs",
        1.2,
        ("ws-single",),
        larger_is_better=False,
        is_relative=True,
    ),
    "fan-out-stream": Target(
        "1,000 dashboards, 200 events/s one by one, CPU of a delivery",
        "server_us",
        "µs",
        1 / 3,
        ("ws-stream",),
        larger_is_better=False,
        is_relative=True,
    ),
    "fan-out-bursts": Target(
        "1,000 dashboards, 200 events/s in batches of 20, CPU of a delivery",
        "server_us",
        "µs",
        1 / 3,
        ("ws-bursts",),
        larger_is_better=False,
        is_relative=True,
    ),
    "storm": Target(
        "5,000 dashboards come back, 10 of 1,000 missed events each, all caught up",
        "seconds",
        "s",
        10,
        ("ws-storm",),
        larger_is_better=False,
    ),
    "storm-restart": Target(
        "the same after a restart of the notifier", "seconds", "s", 10, ("ws-storm",), larger_is_better=False
    ),
    "authorisation": Target(
        "what authorisation adds to a request", "request_us", "µs", 30, ("verification",), False
    ),
    "console-pixel": _console_target("from POST to changed pixel, median", "p50_ms", "ms", 50),
    "console-thread": _console_target(
        "main thread of the page, for an event of 50 a second", "task_us", "µs", 5000
    ),
    "console-memory": _console_target(
        "scripts' memory after minutes of 50 events/s, growth", "growth_mb", "MB", 1
    ),
    "console-view": _console_target("first useful view, warm stack, median", "p50_ms", "ms", 1000),
    "console-weight": _console_target("the console over the wire", "weight_kb", "KB", 150),
    "query-order": _read_target("an order by its id, median", "bare-order"),
    "query-history": _read_target("its history, median", "bare-history"),
    "query-page": _read_target("a page of 50 by merchant and time, median", "bare-page"),
    "query-csv": _export_target("all orders as CSV"),
    "query-ndjson": _export_target("all orders as NDJSON"),
}


@dataclass(frozen=True)
class Figure:
    """A measured value with its target and its floor. Of several floors, the best."""

    target: Target
    measured: float
    floor: float | None

    @property
    def is_reached(self) -> bool:
        """Whether it meets the target."""
        value = self.ratio if self.target.is_relative and self.ratio is not None else self.measured
        if self.target.larger_is_better:
            return value >= self.target.bound
        return value <= self.target.bound

    @property
    def ratio(self) -> float | None:
        """The measured value in units of the floor, if there is one."""
        return None if self.floor is None else self.measured / self.floor


def figure_of(measurement: Measurement, floors: Mapping[str, Measurement]) -> Figure:
    """How a measurement stands against the target of its name."""
    target = TARGETS[measurement.name]
    best = max if target.larger_is_better else min
    floor = best((floors[name].values[target.value] for name in target.floors), default=None)
    return Figure(target, measurement.values[target.value], floor)
