"""The report: tables for a person, JSON for a comparison. Pure but for the files that it writes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from benchmarks.figures import LOADS, TARGETS
from tracking_shared.contracts.timestamps import format_time

QUIET_CORES = 0.1
"""The cores that other programs may use on average before a figure says more about them."""

PROCESSES = ("broker", "database", "ingest", "order-state", "notifier", "query", "ws", "generator")

TABLES: dict[str, tuple[tuple[str, ...], str]] = {
    "Updates, and the bare parts on the same nodes (µs: processor time of an update)": (
        ("updates:", "floors:"),
        "updates seconds rate p50_ms p99_ms max_ms "
        + " ".join(f"{name}_us" for name in (*PROCESSES, "stack")),
    ),
    "Live view beside Node's ws (µs: processor time of a delivery; in the storm, of a client)": (
        ("fan_out:", "storm:"),
        "clients clients_wanted clients_missing retries deliveries seconds p50_ms p99_ms max_ms "
        "server_us generator_us client_kb",
    ),
    "Reads, and the bare driver": (
        ("query:query_", "query:bare_"),
        "reads items_each p50_ms p99_ms max_ms query_us database_us generator_us",
    ),
    "Exports, and the bare cursor": (
        ("query:export", "query:cursor"),
        "rows mb seconds rate query_us database_us generator_us peak_mb growth_mb small_rows",
    ),
    "Authorisation of a request: with a token that is known, and with one whose signature is checked": (
        ("authorisation:",),
        "requests request_us HS256_us RS256_us ES256_us EdDSA_us",
    ),
    "Tracing, µs of an update with 10 % sampled": (("tracing:",), "tracing_us nothing_sampled_us"),
    "The console in a browser": (
        ("console:",),
        "orders seconds samples events p50_ms p99_ms task_us script_us style_us layout_us "
        "heap_mb growth_mb weight_kb row_s shown_s long_tasks longest_ms",
    ),
}
"""By title: the loads of its rows, then its columns."""


@dataclass(frozen=True)
class Measurement:
    """The values of a load, named with their units, and the processor time and memory that it used."""

    name: str
    values: dict[str, float]
    usage: dict[str, Any]


@dataclass(frozen=True)
class Results:
    """What was measured, by name."""

    floors: dict[str, Measurement] = field(default_factory=dict)
    figures: dict[str, Measurement] = field(default_factory=dict)


def report(machine: str, results: Results) -> str:
    """All tables."""
    every = [*results.floors.values(), *results.figures.values()]
    parts = [machine]
    if disturbed := [m.name for m in every if m.usage["others"] > QUIET_CORES * m.usage["seconds"]]:
        others = ", ".join(disturbed)
        parts.insert(0, f"NOT TO BE QUOTED: other programs took the processor meanwhile ({others}).")
    for title, (loads, columns) in TABLES.items():
        rows = {m.name: m.values for m in every if LOADS[m.name].function.startswith(loads)}
        parts.append(_value_table(title, columns.split(), rows))
    parts.append(_target_table([_against_target(m, results.floors) for m in results.figures.values()]))
    cores = {m.name: _cores(m.usage) for m in every}
    parts.append(_value_table("Cores busy on average", [*PROCESSES, "others", "stolen", "idle"], cores))
    return "\n\n".join(filter(None, parts))


def _value_table(title: str, names: Sequence[str], rows: Mapping[str, Mapping[str, float]]) -> str:
    """Columns whose titles are the names of their values: `p50_ms` is "p50 ms". Empty ones are left out."""
    names = [name for name in names if any(name in values for values in rows.values())]
    head = [
        name.replace("_us", " µs").replace("_mb", " MB").replace("_kb", " KB").replace("_", " ")
        for name in names
    ]
    cells = [[row, *(_cell(values.get(name)) for name in names)] for row, values in rows.items()]
    return _table(title, [["", *head], *cells])


def _cell(value: float | None) -> str:
    """A whole number, or three digits."""
    if value is None:
        return "-"
    digits = 0 if abs(value) >= 100 or value == int(value) else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def _cores(usage: Mapping[str, Any]) -> dict[str, float]:
    parts = usage["processes"] | {name: usage[name] for name in ("others", "stolen", "idle")}
    return {name: seconds / usage["seconds"] for name, seconds in parts.items()}


def _against_target(measurement: Measurement, floors: Mapping[str, Measurement]) -> dict[str, Any]:
    """The measured value with its target and its floor. Of several floors, the best."""
    target = TARGETS[measurement.name]
    measured = measurement.values[target.value]
    best = max if target.larger_is_better else min
    value_of_floor = target.floor_value or target.value
    floor = best((floors[name].values[value_of_floor] for name in target.floors), default=None)
    ratio = None if floor is None else measured / floor
    value = ratio if target.is_relative and ratio is not None else measured
    is_reached = value >= target.bound if target.larger_is_better else value <= target.bound
    return {"target": target, "measured": measured, "floor": floor, "ratio": ratio, "is_reached": is_reached}


def _target_table(results: Sequence[dict[str, Any]]) -> str:
    rows = [["", "measured", "target", "floor or peer", "ratio", ""]]
    for result in results:
        target, floor, ratio = result["target"], result["floor"], result["ratio"]
        sign = "≥" if target.larger_is_better else "≤"
        bound = f"{target.bound:.2f} floors" if target.is_relative else _cell(target.bound)
        rows.append(
            [
                *(f"{target.title} ({target.unit})", f"{result['measured']:,.1f}", f"{sign} {bound}"),
                "-" if floor is None else f"{floor:,.1f}",
                "-" if ratio is None else f"{ratio:.3g}",
                "reached" if result["is_reached"] else "NOT REACHED",
            ]
        )
    return _table("Against the targets", rows)


def _table(title: str, rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, aligned: the first column to the left, the others to the right. Empty without rows."""
    if len(rows) == 1:
        return ""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    return "\n".join([title, *lines])


def write_results(folder: Path, machine: str, results: Results) -> None:
    """Writes `<name>.json` for the floors and for each figure."""
    common = {"measured_at": format_time(datetime.now(UTC)), "machine": machine}
    documents = {"floors": common | {"floors": {name: asdict(m) for name, m in results.floors.items()}}}
    for name, measurement in results.figures.items():
        documents[name] = common | _against_target(measurement, results.floors) | asdict(measurement)
    for name, document in documents.items():
        (folder / f"{name}.json").write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
