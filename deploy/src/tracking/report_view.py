"""A report as a table and a bar chart of text. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tracking.terminal_text import printable

Row = dict[str, Any]

MIN_BAR_CHARACTERS = 10
_SECONDS = frozenset({"p50", "p90", "p99", "age_from", "age_to"})
_UNITS = (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0))


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn of a row: a bar up to each of these columns, in its own shade."""

    title: str
    columns: tuple[str, ...]
    shades: str


_CHARTS = {
    "durations": Chart("█ to p50, ▓ to p90, ░ to p99", ("p50", "p90", "p99"), "█▓░"),
    "status-counts": Chart("█ entered", ("entered",), "█"),
    "open-orders": Chart("█ count", ("count",), "█"),
    "refusals": Chart("█ count", ("count",), "█"),
}


def report_text(report: str, document: dict[str, Any], width: int) -> str:
    """The whole report for a terminal of `width` characters."""
    rows = [_for_a_person(row, document.get("interval")) for row in document["rows"]]
    lines = [_heading(report, document), ""]
    if not rows:
        return "\n".join([*lines, "nothing to count"])
    chart = _CHARTS[report]
    return "\n".join([*lines, *_table(rows), "", chart.title, *_bars(chart, rows, width)])


def _for_a_person(row: Row, interval: str | None) -> Row:
    # The local start says what the start in UTC says, and a day needs no hour.
    told = {name: value for name, value in row.items() if name != "start"}
    if interval == "day":
        told["local_start"] = row["local_start"][: len("2026-01-31")]
    return told


def duration_text(seconds: float) -> str:
    """A duration for a person, in its greatest unit: `46.0 s`, `1.5 h`, `-2.0 d`."""
    for unit, size in _UNITS:
        if abs(seconds) >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _heading(report: str, document: dict[str, Any]) -> str:
    asked = [f"{name} {value}" for name, value in document.items() if name != "rows" and value is not None]
    return " · ".join([report, *asked])


def _table(rows: Sequence[Row]) -> Iterator[str]:
    cells = [[name.replace("_", " ") for name in rows[0]]]
    cells += [[_cell(name, value) for name, value in row.items()] for row in rows]
    widths = [max(len(line[number]) for line in cells) for number in range(len(rows[0]))]
    is_text = [isinstance(value, str) for value in rows[0].values()]
    for number, line in enumerate(cells):
        padded = [
            cell.ljust(width) if text else cell.rjust(width)
            for cell, width, text in zip(line, widths, is_text, strict=True)
        ]
        yield "  ".join(padded).rstrip()
        if number == 0:
            yield "  ".join("─" * width for width in widths)


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "…"
    if name in _SECONDS:
        return duration_text(value)
    return f"{value:,}" if isinstance(value, int) else printable(str(value))


def _bars(chart: Chart, rows: Sequence[Row], width: int) -> Iterator[str]:
    labels = [_label(row) for row in rows]
    longest = max(len(label) for label in labels)
    ends = [_cell(chart.columns[-1], row[chart.columns[-1]]) for row in rows]
    room = max(width - longest - max(len(end) for end in ends) - 3, MIN_BAR_CHARACTERS)
    scale = room / max(1e-9, *(row[name] for row in rows for name in chart.columns))
    previous = ""
    for row, label, end in zip(rows, labels, ends, strict=True):
        when = row.get("local_start", "")
        # A time stands once, in front of the first of its lines.
        shown = label.removeprefix(when).rjust(len(label)) if when == previous else label
        previous = when
        yield " ".join(part for part in (f"{shown.ljust(longest)} ", _bar(chart, row, scale), end) if part)


def _label(row: Row) -> str:
    texts = [printable(value) for value in row.values() if isinstance(value, str)]
    if "leg_to" in row:
        texts[-2:] = [f"{texts[-2]} → {texts[-1]}"]
    if "age_to" in row:
        texts.append(f"{_cell('age_from', row['age_from'])} to {_cell('age_to', row['age_to'])}")
    return "  ".join(texts)


def _bar(chart: Chart, row: Row, scale: float) -> str:
    bar = ""
    for name, shade in zip(chart.columns, chart.shades, strict=True):
        bar = bar.ljust(max(round(row[name] * scale), 0), shade)
    # What is there is seen, however small.
    return bar or ("▏" if row[chart.columns[-1]] > 0 else "")
