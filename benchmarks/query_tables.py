"""The report's tables of reads and exports. Pure."""

from collections.abc import Iterable

from benchmarks.measurement import Measurement


def is_of_query(measurement: Measurement) -> bool:
    """Whether it is a read or an export, through the service or bare."""
    return "reads" in measurement.values or "rows" in measurement.values


def read_rows(measurements: Iterable[Measurement]) -> list[list[str]]:
    """Times of single reads, and the processor time of each by process (the generator's holds the driver
    where it is bare).
    """
    head = ["", "reads", "items each", "p50 ms", "p99 ms", "max ms"]
    return [[*head, "query µs", "database µs", "generator µs"]] + [
        [m.name, f"{m.values['reads']:,.0f}", f"{m.values['items'] / m.values['reads']:.1f}"]
        + [f"{m.values[key]:.2f}" for key in ("p50_ms", "p99_ms", "max_ms")]
        + [_each(m, process, "reads") for process in ("query", "database", "generator")]
        for m in measurements
        if "reads" in m.values
    ]


def export_rows(measurements: Iterable[Measurement]) -> list[list[str]]:
    """Rates, processor times of a row, and the memory of the service: its peak, and by how much that
    is above the peak of a small export.
    """
    head = ["", "rows", "MB", "seconds", "rows/s", "query µs", "database µs", "generator µs"]
    return [[*head, "peak MB", "growth MB", "of a small one"]] + [
        [m.name, f"{m.values['rows']:,.0f}", _value(m, "mb", ".0f"), f"{m.values['seconds']:.1f}"]
        + [f"{m.values['rate']:,.0f}"]
        + [_each(m, process, "rows") for process in ("query", "database", "generator")]
        + [_value(m, "peak_mb", ".1f"), _value(m, "growth_mb", ".1f"), _value(m, "small_rows", ",.0f")]
        for m in measurements
        if "rows" in m.values
    ]


def _value(measurement: Measurement, key: str, form: str) -> str:
    return format(measurement.values[key], form) if key in measurement.values else "-"


def _each(measurement: Measurement, process: str, unit: str) -> str:
    return f"{measurement.usage.processes[process] * 1e6 / measurement.values[unit]:.1f}"
