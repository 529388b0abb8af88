"""The figures: the load of each, its target, and the floors or peers beside it. Pure."""

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
    floor_value: str = ""
    """The value of the floor, where it has another name."""


@dataclass(frozen=True)
class Load:
    """The load of a figure or a floor."""

    function: str
    """Of a module of this folder: `MODULE:FUNCTION`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The command line replaces `samples`, `seconds` and the numbers of orders."""
    server: str = ""
    """The process whose cost a client or a delivery is counted; `ws` is the peer, and started for it."""
    counts_events: bool = False
    """The log must grow by exactly the updates of the load."""
    restarts_notifier: bool = False


def _delivery(title: str, bound: float, peer: str) -> Target:
    title = f"1,000 dashboards, {title}, CPU of a delivery"
    return Target(title, "server_us", "µs", bound, (peer,), is_relative=True)


def _read(title: str, floor: str) -> Target:
    return Target(title, "p50_ms", "ms", 2, (floor,), is_relative=True)


def _export(title: str) -> Target:
    return Target(title, "rate", "rows/s", 0.5, ("bare-cursor",), larger_is_better=True, is_relative=True)


_STORM = "5,000 dashboards come back, 10 of 1,000 missed events each, all caught up"
_BOARD = "console: a large board"
_TRANSACTIONS = ("transactions-1", "transactions-4")

TARGETS: Mapping[str, Target] = {
    "idle-memory": Target("idle dashboard, memory of the server", "client_kb", "KB", 20, ("ws-memory",)),
    "event-stream-memory": Target(
        "idle event stream, memory of the server",
        "client_kb",
        "KB",
        1.3,
        ("websocket-memory",),
        is_relative=True,
    ),
    "latency": Target("idle, from POST to the event in a client, median", "p50_ms", "ms", 12, ("pass-idle",)),
    "single": Target(
        "single updates, synchronous, 64 callers", "rate", "updates/s", 2000, ("pass-busy",), True
    ),
    "batches": Target(
        "batches of 500, committed and announced", "rate", "updates/s", 8000, _TRANSACTIONS, True
    ),
    "fan-out-single": _delivery("one event at a time", 1.2, "ws-single"),
    "fan-out-stream": _delivery("200 events/s one by one", 1 / 3, "ws-stream"),
    "fan-out-bursts": _delivery("200 events/s in batches of 20", 1 / 3, "ws-bursts"),
    "event-stream-single": _delivery("event streams, one event at a time", 1.3, "websocket-single"),
    "event-stream-bursts": _delivery("event streams, batches of 20", 1.3, "websocket-bursts"),
    "storm": Target(_STORM, "seconds", "s", 10, ("ws-storm",)),
    "storm-restart": Target("the same after a restart of the notifier", "seconds", "s", 10, ("ws-storm",)),
    "authorisation": Target(
        "what authorisation adds to a request", "request_us", "µs", 30, ("verification",)
    ),
    "tracing": Target(
        "what tracing adds to the processor time of an update, 10 % sampled",
        "tracing_us",
        "µs",
        0.01,
        ("update",),
        is_relative=True,
        floor_value="stack_us",
    ),
    "console-pixel": Target("console: from POST to changed pixel, median", "p50_ms", "ms", 50),
    "console-thread": Target("console: main thread, for an event of 50 a second", "task_us", "µs", 5000),
    "console-memory": Target(
        "console: scripts' memory, minutes of 50 events/s, growth", "growth_mb", "MB", 1
    ),
    "console-view": Target("console: first useful view, warm stack, median", "p50_ms", "ms", 1000),
    "console-weight": Target("console: the console over the wire", "weight_kb", "KB", 150),
    "board-today": Target("console: figures of today on four large boards at once", "seconds", "s", 2),
    "board-shown": Target(f"{_BOARD}, live, all counted, first rows", "shown_s", "s", 3),
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


def _pair(figure: str, peer: str, function: str, **options: Any) -> dict[str, Load]:
    """The same load on the notifier and on its peer."""
    return {
        figure: Load(function, options, "notifier", counts_events="burst" in options),
        peer: Load(function, options, "ws"),
    }


def _event_streams(figure: str, websockets: str, function: str, **options: Any) -> dict[str, Load]:
    """The same load on event streams and on WebSockets of the notifier, which begins anew for memory."""
    counts, restarts = "burst" in options, "connections" in options
    return {
        name: Load(function, own, "notifier", counts_events=counts, restarts_notifier=restarts)
        for name, own in ((figure, options | {"event_stream": True}), (websockets, options))
    }


_ONE_BY_ONE = {"dashboards": 1000, "burst": 0, "samples": 250}
_STREAM = {"dashboards": 1000, "burst": 1, "seconds": 10.0}
ALGORITHMS = ("HS256", "RS256", "ES256", "EdDSA")
_PAGE: Mapping[str, dict[str, float]] = {
    "console-pixel": {"samples": 100},
    "console-thread": {"seconds": 20.0},
    "console-memory": {"seconds": 120.0},
    "console-view": {"views": 7},
    "console-weight": {},
}
_LARGE = {"board_orders": OPEN_ORDERS, "seconds": 20.0}
_BOARDS = [name for name in TARGETS if name.startswith("board-")]

LOADS: Mapping[str, Load] = {
    **_pair("idle-memory", "ws-memory", "fan_out:idle", connections=2000),
    "latency": Load("updates:latency", {"samples": 300}, counts_events=True),
    "pass-idle": Load("floors:round_trips", {"in_flight": 1, "seconds": 10.0}),
    "single": Load("updates:single", {"callers": 64, "seconds": 20.0}, counts_events=True),
    "pass-busy": Load("floors:round_trips", {"in_flight": 64, "seconds": 10.0}),
    "batches": Load(
        "updates:batches", {"connections": 8, "operations": 500, "seconds": 30.0}, counts_events=True
    ),
    "transactions-1": Load("floors:transactions", {"at_once": 1, "updates_each": 100, "seconds": 10.0}),
    "transactions-4": Load("floors:transactions", {"at_once": 4, "updates_each": 100, "seconds": 10.0}),
    **_pair("fan-out-single", "ws-single", "fan_out:fan_out", **_ONE_BY_ONE),
    **_pair("fan-out-stream", "ws-stream", "fan_out:fan_out", **_STREAM),
    **_pair("fan-out-bursts", "ws-bursts", "fan_out:fan_out", **_STREAM | {"burst": 20}),
    **_event_streams("event-stream-memory", "websocket-memory", "fan_out:idle", connections=2000),
    **_event_streams("event-stream-single", "websocket-single", "fan_out:fan_out", **_ONE_BY_ONE),
    **_event_streams("event-stream-bursts", "websocket-bursts", "fan_out:fan_out", **_STREAM | {"burst": 20}),
    **_pair("storm", "ws-storm", "storm:storm", wanted=5000),
    "storm-restart": Load("storm:storm", {"wanted": 5000}, "notifier", restarts_notifier=True),
    "authorisation": Load("authorisation:tokens", {"algorithms": ["HS256"], "are_known": True}),
    "verification": Load("authorisation:tokens", {"algorithms": ALGORITHMS, "are_known": False}),
    "update": Load("updates:single", {"callers": 64, "seconds": 20.0}, counts_events=True),
    "tracing": Load("tracing:tracing", {"share": 0.1, "updates": 40_000}),
    **{name: Load("console:board", {"figure": name, **options}) for name, options in _PAGE.items()},
    **{
        name: Load("console:board", {"figure": name, "part": part, "parts": len(_BOARDS), **_LARGE})
        for part, name in enumerate(_BOARDS)
    },
    **{
        f"{side}-{read}": Load(f"query:{side}_reads", {"read": read, "samples": 1000, "orders": ORDERS})
        for read in ("order", "history", "page")
        for side in ("query", "bare")
    },
    **{f"query-{form}": Load("query:export", {"form": form, "orders": ORDERS}) for form in ("csv", "ndjson")},
    "bare-cursor": Load("query:cursor", {"orders": ORDERS}),
}
