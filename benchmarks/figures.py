"""The figures: their targets, the floors and peers beside them, and the loads that measure them. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.data import OPEN_ORDERS, ORDERS


@dataclass(frozen=True)
class Target:
    """A bound for one value of a measurement, and the floors or peers to see it beside."""

    title: str
    value: str
    unit: str
    bound: float
    floors: tuple[str, ...] = ()
    larger_is_better: bool = False
    is_relative: bool = False
    """The bound is in units of the floor."""


def _server(title: str, bound: float, peer: str) -> Target:
    title = f"1,000 dashboards, {title}, CPU of a delivery"
    return Target(title, "server_us", "µs", bound, (peer,), is_relative=True)


def _read(title: str, floor: str) -> Target:
    return Target(title, "p50_ms", "ms", 2, (floor,), is_relative=True)


def _export(title: str) -> Target:
    return Target(title, "rate", "rows/s", 0.5, ("bare-cursor",), larger_is_better=True, is_relative=True)


_STORM = "5,000 dashboards come back, 10 of 1,000 missed events each, all caught up"
_BOARD = "console: a board of 100,000"

TARGETS: Mapping[str, Target] = {
    "idle-memory": Target("idle dashboard, memory of the server", "client_kb", "KB", 20, ("ws-memory",)),
    "latency": Target("idle, from POST to the event in a client, median", "p50_ms", "ms", 12, ("pass-idle",)),
    "single": Target(
        "single updates, synchronous, 64 callers", "rate", "updates/s", 2000, ("pass-busy",), True
    ),
    "batches": Target(
        *("batches of 500, committed and announced", "rate", "updates/s", 8000),
        floors=("transactions-1", "transactions-4"),
        larger_is_better=True,
    ),
    "fan-out-single": _server("one event at a time", 1.2, "ws-single"),
    "fan-out-stream": _server("200 events/s one by one", 1 / 3, "ws-stream"),
    "fan-out-bursts": _server("200 events/s in batches of 20", 1 / 3, "ws-bursts"),
    "storm": Target(_STORM, "seconds", "s", 10, ("ws-storm",)),
    "storm-restart": Target("the same after a restart of the notifier", "seconds", "s", 10, ("ws-storm",)),
    "authorisation": Target(
        "what authorisation adds to a request", "request_us", "µs", 30, ("verification",)
    ),
    "console-pixel": Target("console: from POST to changed pixel, median", "p50_ms", "ms", 50),
    "console-thread": Target(
        "console: main thread of the page, for an event of 50 a second", "task_us", "µs", 5000
    ),
    "console-memory": Target(
        "console: scripts' memory after minutes of 50 events/s, growth", "growth_mb", "MB", 1
    ),
    "console-view": Target("console: first useful view, warm stack, median", "p50_ms", "ms", 1000),
    "console-weight": Target("console: the console over the wire", "weight_kb", "KB", 150),
    "board-today": Target("console: figures of today on four boards of 100,000 at once", "seconds", "s", 2),
    "board-shown": Target(f"{_BOARD}, all shown", "shown_s", "s", 3),
    "board-memory": Target(f"{_BOARD}, memory of its scripts", "heap_mb", "MB", 100),
    "board-task": Target(f"{_BOARD} at 60 changes/s, longest task", "longest_ms", "ms", 50),
    "board-phone": Target(f"{_BOARD} on a phone, CPU 4x, first row", "row_s", "s", 3),
    "board-phone-task": Target(f"{_BOARD} on a phone, CPU 4x, longest task", "longest_ms", "ms", 100),
    "query-order": _read("an order by its id, median", "bare-order"),
    "query-history": _read("its history, median", "bare-history"),
    "query-page": _read("a page of 50 by merchant and time, median", "bare-page"),
    "query-csv": _export("all orders as CSV"),
    "query-ndjson": _export("all orders as NDJSON"),
}
"""In the order in which they are measured: memory first, since memory that a process has had is not seen."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "idle-memory": ("idle-memory",),
    "latency": ("latency",),
    "single": ("single",),
    "batches": ("batches",),
    "fan-out": ("fan-out-single", "fan-out-stream", "fan-out-bursts"),
    "storm": ("storm", "storm-restart"),
    "authorisation": ("authorisation",),
    "console": tuple(name for name in TARGETS if name.startswith(("console-", "board-"))),
    "query": tuple(name for name in TARGETS if name.startswith("query-")),
}


@dataclass(frozen=True)
class Plan:
    """The load of a figure or a floor."""

    load: str
    """Module and function."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the function; the command line replaces `samples`, `seconds` and the numbers of orders."""
    server: str = ""
    """The process whose cost a client or a delivery is counted; `ws` is the peer, and started for it."""
    counts_events: bool = False
    """The log must grow by exactly the updates of the load."""
    restarts_notifier: bool = False


def _fan_out(server: str, load: str, **options: Any) -> Plan:
    counts = server == "notifier"
    return Plan(f"fan_out:{load}", {"dashboards": 1000, **options}, server, counts_events=counts)


_ONE_BY_ONE: Mapping[str, Any] = {"load": "one_by_one", "samples": 250}
_STREAM: Mapping[str, Any] = {"load": "steady", "burst": 1, "seconds": 10.0}
_BURSTS: Mapping[str, Any] = {"load": "steady", "burst": 20, "seconds": 10.0}
_CLIENTS = {"wanted": 5000}
_CONNECTIONS = {"connections": 2000}

PLANS: Mapping[str, Plan] = {
    "idle-memory": Plan("updates:idle", _CONNECTIONS, "notifier"),
    "ws-memory": Plan("updates:idle", _CONNECTIONS, "ws"),
    "latency": Plan("updates:latency", {"samples": 300}, counts_events=True),
    "pass-idle": Plan("floors:round_trips", {"in_flight": 1, "seconds": 10.0}),
    "single": Plan("updates:single", {"callers": 64, "seconds": 20.0}, counts_events=True),
    "pass-busy": Plan("floors:round_trips", {"in_flight": 64, "seconds": 10.0}),
    "batches": Plan(
        "updates:batches", {"connections": 8, "operations": 500, "seconds": 30.0}, counts_events=True
    ),
    "transactions-1": Plan("floors:transactions", {"at_once": 1, "updates_each": 100, "seconds": 10.0}),
    "transactions-4": Plan("floors:transactions", {"at_once": 4, "updates_each": 100, "seconds": 10.0}),
    "fan-out-single": _fan_out("notifier", **_ONE_BY_ONE),
    "ws-single": _fan_out("ws", **_ONE_BY_ONE),
    "fan-out-stream": _fan_out("notifier", **_STREAM),
    "ws-stream": _fan_out("ws", **_STREAM),
    "fan-out-bursts": _fan_out("notifier", **_BURSTS),
    "ws-bursts": _fan_out("ws", **_BURSTS),
    "storm": Plan("storm:storm", _CLIENTS, "notifier"),
    "storm-restart": Plan("storm:storm", _CLIENTS, "notifier", restarts_notifier=True),
    "ws-storm": Plan("storm:storm", _CLIENTS, "ws"),
    "authorisation": Plan("authorisation:known_tokens"),
    "verification": Plan("authorisation:unknown_tokens"),
    "console-pixel": Plan("console:pixel", {"samples": 100}),
    "console-thread": Plan("console:thread", {"seconds": 20.0}),
    "console-memory": Plan("console:memory", {"seconds": 120.0}),
    "console-view": Plan("console:view", {"samples": 7}),
    "console-weight": Plan("console:weight"),
    **{
        name: Plan(
            f"console:{name.replace('-', '_')}",
            {"board_orders": OPEN_ORDERS, "seconds": 20.0, "part": number},
        )
        for number, name in enumerate(name for name in TARGETS if name.startswith("board-"))
    },
    **{
        f"{side}-{read}": Plan(
            "query:reads", {"read": read, "samples": 1000, "orders": ORDERS, "is_bare": side == "bare"}
        )
        for read in ("order", "history", "page")
        for side in ("query", "bare")
    },
    **{f"query-{form}": Plan("query:export", {"form": form, "orders": ORDERS}) for form in ("csv", "ndjson")},
    "bare-cursor": Plan("query:cursor", {"orders": ORDERS}),
}
