"""The report: tables for a person, JSON for a comparison. Pure but for the files that it writes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from benchmarks.figures import TARGETS, Target
from benchmarks.machine import describe
from tracking_shared.contracts.timestamps import format_time

PROCESSES = ("broker", "database", "ingest", "order-state", "notifier", "query", "ws", "generator")

QUIET_CORES = 0.1
"""The cores that other programs may use on average before a figure says more about them."""


@dataclass(frozen=True)
class Usage:
    """Processor time while a load ran, in seconds."""

    seconds: float
    """By the clock."""
    cores: int
    processes: dict[str, float]
    """Of each part of the system (its children and threads with it), and of the load itself."""
    others: float
    """Of everything else on the machine: were this large, the figures would not be the system's."""
    idle: float
    """Of all cores, waiting for the disk included."""
    stolen: float
    """Taken by the host of a virtual machine."""
    memory: dict[str, float]
    """Bytes by which the resident memory of each process grew."""


@dataclass(frozen=True)
class Measurement:
    """The values of a load: `seconds`, its work in that time (`updates`, `deliveries`), and others of its
    own, named with their unit.
    """

    name: str
    values: dict[str, float]
    usage: Usage

    def micros(self, process: str, unit: str) -> float | None:
        """Microseconds of processor time for one of `unit`; None for a process that was not measured."""
        seconds = self.usage.processes.get(process)
        return None if seconds is None else seconds * 1e6 / self.values[unit]

    def with_cost_of(self, server: str) -> "Measurement":
        """The same with the costs of server and generator for a delivery, or of memory for a client."""
        if not server:
            return self
        unit = "clients" if "retries" in self.values else "deliveries"
        if unit in self.values:
            costs = {"server_us": self.micros(server, unit), "clients_us": self.micros("generator", unit)}
        else:
            costs = {"client_kb": self.usage.memory[server] / self.values["clients"] / 1000}
        return replace(self, values=self.values | costs)


Measurements = Mapping[str, Measurement]
Column = tuple[str, str | Callable[[Measurement], float | None], str]
"""A title, the name of a value or its calculation, and a format."""


@dataclass(frozen=True)
class Figure:
    """A measured value with its target and its floor. Of several floors, the best."""

    target: Target
    measured: float
    floor: float | None

    @property
    def is_reached(self) -> bool:
        """It meets the target."""
        value = self.ratio if self.target.is_relative and self.ratio is not None else self.measured
        return value >= self.target.bound if self.target.larger_is_better else value <= self.target.bound

    @property
    def ratio(self) -> float | None:
        """The measured value in units of the floor, if there is one."""
        return None if self.floor is None else self.measured / self.floor


def figure_of(measurement: Measurement, floors: Measurements) -> Figure:
    """A measurement against the target of its name."""
    target = TARGETS[measurement.name]
    best = max if target.larger_is_better else min
    floor = best((floors[name].values[target.value] for name in target.floors), default=None)
    return Figure(target, measurement.values[target.value], floor)


def _values(*names: str, form: str = ".1f") -> list[Column]:
    """Columns of values, whose titles are their names: `p50_ms` is "p50 ms"."""
    return [(name.replace("_us", " µs").replace("_ms", " ms"), name, form) for name in names]


def _cost(processes: Sequence[str], unit: str) -> list[Column]:
    return [(f"{name} µs", lambda m, name=name: m.micros(name, unit), ".1f") for name in processes]


_UPDATES: list[Column] = [
    ("updates", "updates", ",.0f"),
    ("seconds", "seconds", ".1f"),
    ("updates/s", lambda m: m.values["updates"] / m.values["seconds"], ",.0f"),
    *_values("p50_ms", "p99_ms", "max_ms"),
]
_LIVE: list[Column] = [
    *_values("clients", "deliveries", form=",.0f"),
    *_values("seconds", "p50_ms", "p99_ms", "max_ms"),
    *_values("server_us", "clients_us", form=".2f"),
    ("KB a client", "client_kb", ".1f"),
]
_READS: list[Column] = [
    ("reads", "reads", ",.0f"),
    ("items each", lambda m: m.values["items"] / m.values["reads"], ".1f"),
    *_values("p50_ms", "p99_ms", "max_ms", form=".2f"),
    *_cost(("query", "database", "generator"), "reads"),
]
_EXPORTS: list[Column] = [
    ("rows", "rows", ",.0f"),
    ("MB", "mb", ".0f"),
    ("seconds", "seconds", ".1f"),
    ("rows/s", "rate", ",.0f"),
    *_cost(("query", "database", "generator"), "rows"),
    ("peak MB", "peak_mb", ".1f"),
    ("growth MB", "growth_mb", ".1f"),
    ("of a small one", "small_rows", ",.0f"),
]
_CONSOLE: list[Column] = [
    ("seconds", "seconds", ".1f"),
    *_values("samples", "events", form=",.0f"),
    *_values("p50_ms", "p99_ms"),
    *_values("task_us", "script_us", "style_us", "layout_us", form=",.0f"),
    ("heap MB", "heap_mb", ".2f"),
    ("growth MB", "growth_mb", ".2f"),
    ("KB", "weight_kb", ".1f"),
    ("first row s", "row_s", ".2f"),
    ("all shown s", "shown_s", ".2f"),
    ("long tasks", "long_tasks", ",.0f"),
    ("longest ms", "longest_ms", ",.0f"),
]


def _per_thousand(process: str) -> Callable[[Measurement], float | None]:
    """Seconds of a process for 1,000 updates, which is milliseconds each."""
    return lambda m: None if (cost := m.micros(process, "updates")) is None else cost / 1000


_COSTS: list[Column] = [(process, _per_thousand(process), ".3f") for process in PROCESSES]


def _cores(part: str) -> Callable[[Measurement], float | None]:
    def cores(m: Measurement) -> float | None:
        busy = m.usage.processes.get(part, getattr(m.usage, part, None))
        return None if busy is None else busy / m.usage.seconds

    return cores


_CORES: list[Column] = [(part, _cores(part), ".2f") for part in (*PROCESSES, "others", "stolen", "idle")]


def report(machine: dict[str, Any], floors: Measurements, figures: Measurements) -> str:
    """All tables."""
    every = [*floors.values(), *figures.values()]
    live = [m for m in every if "clients" in m.values]
    updates = [m for m in every if "updates" in m.values and m not in live]
    console = [m for m in every if m.name.startswith(("console-", "board-"))]
    tables = {
        "Floors: the bare parts on the same nodes": _rows(_UPDATES, (m for m in updates if m.name in floors)),
        "System": _rows(_UPDATES, (m for m in updates if m.name in figures)),
        "Live view beside Node's ws (processor time of a delivery; in the storm, of a client)": _rows(
            _LIVE, live
        ),
        "Reads, and the bare driver": _rows(_READS, (m for m in every if "reads" in m.values)),
        "Exports, and the bare cursor": _rows(_EXPORTS, (m for m in every if "rows" in m.values)),
        "Authorisation, µs a request: of a token that is known, and of one whose signature is checked": (
            _authorisation_rows(every)
        ),
        "The console in a browser, with 5,000 open orders": _rows(_CONSOLE, console),
        "Against the targets": _target_rows(floors, figures),
        "Processor time, s per 1,000 updates": _rows(_COSTS, updates),
        "Cores busy on average": _rows(_CORES, every),
    }
    parts = [*_warnings(every), describe(machine)]
    parts += [f"{title}\n{table(rows)}" for title, rows in tables.items() if len(rows) > 1]
    return "\n\n".join([*parts, "\n".join(_notes(figures))]).strip()


def _rows(columns: Sequence[Column], measurements: Iterable[Measurement]) -> list[list[str]]:
    """A head, and a row for each measurement."""
    rows = [["", *(title for title, _, _ in columns)]]
    for m in measurements:
        cells = [(m.values.get(key) if isinstance(key, str) else key(m), form) for _, key, form in columns]
        rows.append([m.name, *("-" if value is None else format(value, form) for value, form in cells)])
    return rows


def _authorisation_rows(measurements: Iterable[Measurement]) -> list[list[str]]:
    rows = [["", "requests", "µs"]]
    for m in (m for m in measurements if "request_us" in m.values):
        each = {f"{m.name}, {name[:-3]}": us for name, us in m.values.items() if name.endswith("_us")}
        known = each.pop(f"{m.name}, request")
        rows += [
            [n, f"{m.values['requests']:,.0f}", f"{us:.1f}"] for n, us in (each or {m.name: known}).items()
        ]
    return rows


def _target_rows(floors: Measurements, figures: Measurements) -> list[list[str]]:
    rows = [["", "measured", "target", "floor or peer", "ratio", ""]]
    for name, measurement in figures.items():
        target, figure = TARGETS[name], figure_of(measurement, floors)
        sign = "≥" if target.larger_is_better else "≤"
        bound = f"{target.bound:.2f} floors" if target.is_relative else f"{target.bound:,.0f}"
        rows.append(
            [
                f"{target.title} ({target.unit})",
                f"{figure.measured:,.1f}",
                f"{sign} {bound}",
                "-" if figure.floor is None else f"{figure.floor:,.1f}",
                "-" if figure.ratio is None else f"{figure.ratio:.2f}",
                "reached" if figure.is_reached else "NOT REACHED",
            ]
        )
    return rows


def _notes(figures: Measurements) -> list[str]:
    return [
        f"{name}: {m.values['clients']:,.0f} of {m.values['clients_wanted']:,.0f} clients (the limit on open "
        f"files bounds them); {m.values['retries']:,.0f} attempts repeated as they were sent away; "
        f"{m.values['clients_missing']:,.0f} not back in the end"
        for name, m in figures.items()
        if "retries" in m.values
    ]


def _warnings(measurements: Sequence[Measurement]) -> list[str]:
    disturbed = [m.name for m in measurements if m.usage.others > QUIET_CORES * m.usage.seconds]
    if not disturbed:
        return []
    return [f"NOT TO BE QUOTED: other programs took the processor meanwhile ({', '.join(disturbed)})."]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, aligned: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )


def write_results(folder: Path, machine: dict[str, Any], floors: Measurements, figures: Measurements) -> None:
    """Writes `<name>.json` for the floors and for each figure."""
    common = {"measured_at": format_time(datetime.now(UTC)), "machine": machine}
    documents = {"floors": common | {"floors": {name: asdict(m) for name, m in floors.items()}}}
    for name, measurement in figures.items():
        figure = figure_of(measurement, floors)
        against = {"is_reached": figure.is_reached, "ratio": figure.ratio}
        documents[name] = common | asdict(figure) | against | asdict(measurement)
    for name, document in documents.items():
        (folder / f"{name}.json").write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
