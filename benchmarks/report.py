"""The report: tables for a person, JSON for a comparison. Pure but for the files that it writes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from benchmarks.figures import TARGETS, figure_of
from benchmarks.machine import Machine
from benchmarks.measurement import Measurement
from benchmarks.query_tables import export_rows, is_of_query, read_rows
from shared.timestamps import format_time

PROCESSES = ("broker", "database", "ingest", "order-state", "notifier", "query", "ws", "generator")

QUIET_CORES = 0.1
"""What other programs may use on average before a figure says more about them."""

Measurements = Mapping[str, Measurement]


def report(machine: Machine, floors: Measurements, figures: Measurements) -> str:
    """All tables."""
    measurements = [*floors.values(), *figures.values()]
    of_updates = [
        m
        for m in measurements
        if not (_is_live_view(m) or is_of_query(m) or is_of_authorisation(m) or is_of_console(m))
    ]
    tables = {
        "Floors: the bare parts on the same nodes": _value_rows(
            m for m in floors.values() if m in of_updates
        ),
        "System": _value_rows(m for m in figures.values() if m in of_updates),
        "Live view beside Node's ws (processor time of a delivery; in the storm, of a client)": _live_rows(
            m for m in measurements if _is_live_view(m)
        ),
        "Reads, and the bare driver": read_rows(measurements),
        "Exports, and the bare cursor": export_rows(measurements),
        "Authorisation, µs a request: of a token that is known, and of one whose signature is checked": (
            authorisation_rows(measurements)
        ),
        "The console in a browser, with 5,000 open orders": console_rows(measurements),
        "Against the targets": _target_rows(floors, figures),
        "Processor time, s per 1,000 updates": _cost_rows(of_updates),
        "Cores busy on average": _core_rows(measurements),
    }
    parts = [*_warnings(measurements), machine.describe()]
    parts += [f"{title}\n{table(rows)}" for title, rows in tables.items() if len(rows) > 1]
    return "\n\n".join([*parts, "\n".join(_notes(figures))]).strip()


def _is_live_view(measurement: Measurement) -> bool:
    return "clients" in measurement.values


def is_of_authorisation(measurement: Measurement) -> bool:
    """Whether it has the columns of the authorisation."""
    return "request_us" in measurement.values


def authorisation_rows(measurements: Sequence[Measurement]) -> list[list[str]]:
    """A head, and a row for each way to prove who one is."""
    rows = [["", "requests", "µs"]]
    for measurement in filter(is_of_authorisation, measurements):
        values = measurement.values
        by_algorithm = {name.removesuffix("_us"): us for name, us in values.items() if name.endswith("_us")}
        known = by_algorithm.pop("request")
        names = {f"{measurement.name}, {name}": us for name, us in by_algorithm.items()}
        rows += [
            [name, f"{values['requests']:,.0f}", f"{us:.1f}"]
            for name, us in (names or {measurement.name: known}).items()
        ]
    return rows


def is_of_console(measurement: Measurement) -> bool:
    """Whether it was measured in a browser."""
    return measurement.name.startswith("console-")


_CONSOLE_COLUMNS = (
    ("seconds", "seconds", ".1f"),
    ("samples", "samples", ",.0f"),
    ("events", "events", ",.0f"),
    ("p50 ms", "p50_ms", ".1f"),
    ("p99 ms", "p99_ms", ".1f"),
    ("task µs", "task_us", ",.0f"),
    ("script µs", "script_us", ",.0f"),
    ("style µs", "style_us", ",.0f"),
    ("layout µs", "layout_us", ",.0f"),
    ("heap MB", "heap_mb", ".2f"),
    ("growth MB", "growth_mb", ".2f"),
    ("KB", "weight_kb", ".1f"),
)


def console_rows(measurements: Sequence[Measurement]) -> list[list[str]]:
    """A head, and a row for each figure of the console."""
    return [["", *(title for title, _, _ in _CONSOLE_COLUMNS)]] + [
        [
            m.name,
            *(format(m.values[key], form) if key in m.values else "-" for _, key, form in _CONSOLE_COLUMNS),
        ]
        for m in measurements
        if is_of_console(m)
    ]


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


def write_results(folder: Path, machine: Machine, floors: Measurements, figures: Measurements) -> None:
    """Writes `<name>.json` for the floors and for each figure."""
    common = {"measured_at": format_time(datetime.now(UTC)), "machine": asdict(machine)}
    folder.mkdir(exist_ok=True)
    _write(folder / "floors.json", common | {"floors": {name: asdict(m) for name, m in floors.items()}})
    for name, measurement in figures.items():
        figure = figure_of(measurement, floors)
        against = {"is_reached": figure.is_reached, "ratio": figure.ratio}
        _write(folder / f"{name}.json", common | asdict(figure) | against | asdict(measurement))


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")


def _value_rows(measurements: Iterable[Measurement]) -> list[list[str]]:
    head = ["", "updates", "seconds", "updates/s", "p50 ms", "p99 ms", "max ms"]
    return [head] + [
        [m.name, f"{m.values['updates']:,.0f}", f"{m.values['seconds']:.1f}"]
        + [f"{m.values['updates'] / m.values['seconds']:,.0f}"]
        + [f"{m.values[key]:.1f}" for key in ("p50_ms", "p99_ms", "max_ms")]
        for m in measurements
    ]


_LIVE_COLUMNS = (
    ("clients", "clients", ",.0f"),
    ("deliveries", "deliveries", ",.0f"),
    ("seconds", "seconds", ".1f"),
    ("p50 ms", "p50_ms", ".1f"),
    ("p99 ms", "p99_ms", ".1f"),
    ("max ms", "max_ms", ".1f"),
    ("server µs", "server_us", ".2f"),
    ("clients µs", "clients_us", ".2f"),
    ("KB a client", "client_kb", ".1f"),
)


def _live_rows(measurements: Iterable[Measurement]) -> list[list[str]]:
    return [["", *(title for title, _, _ in _LIVE_COLUMNS)]] + [
        [m.name, *(format(m.values[key], form) if key in m.values else "-" for _, key, form in _LIVE_COLUMNS)]
        for m in measurements
    ]


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


def _cost_rows(measurements: Sequence[Measurement]) -> list[list[str]]:
    rows = [["", *PROCESSES]]
    for measurement in measurements:
        costs = [measurement.cpu_ms_per_update(process) for process in PROCESSES]
        rows.append([measurement.name, *("-" if cost is None else f"{cost:.3f}" for cost in costs)])
    return rows


def _core_rows(measurements: Sequence[Measurement]) -> list[list[str]]:
    rows = [["", *PROCESSES, "others", "stolen", "idle"]]
    for measurement in measurements:
        usage = measurement.usage
        shares = [usage.processes.get(process) for process in PROCESSES]
        shares += [usage.others, usage.stolen, usage.idle]
        rows.append([measurement.name, *("-" if s is None else f"{s / usage.seconds:.2f}" for s in shares)])
    return rows
