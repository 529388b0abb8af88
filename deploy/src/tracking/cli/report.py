"""The reports of query: fetched, and shown as a table with a bar chart."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

import orjson
from aiohttp import ClientError, ClientSession, ClientTimeout

from tracking.errors import CommandError
from tracking.terminal import printable
from tracking_shared.contracts.timestamps import time_zones

Report = Literal["durations", "status-counts", "punctuality", "open-orders", "refusals"]

REQUEST_TIMEOUT = ClientTimeout(total=60)
"""The service times out earlier, with a reason."""

_DATE = re.compile(r"\d{4}-\d\d-\d\d")

QueryParameters = list[tuple[str, str]]
"""Parameters of the request; some are repeated."""


class NoReport(CommandError):
    """The report cannot be requested or was refused. The message says why."""


async def fetch_report(
    query_url: str, token: str, report: Report, parameters: QueryParameters
) -> dict[str, Any]:
    """Fetches a report as query returns it.

    Raises:
        NoReport: it was refused, or query cannot be reached.
    """
    url = f"{query_url.rstrip('/')}/v1/reports/{report}"
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    try:
        async with (
            ClientSession(timeout=REQUEST_TIMEOUT) as session,
            session.get(url, params=parameters, headers=headers) as response,
        ):
            body = await response.read()
            if response.status != 200:
                raise NoReport(_reason(response.status, body))
            document: dict[str, Any] = orjson.loads(body)
    except (ClientError, TimeoutError) as error:
        raise NoReport(f"{query_url}: {str(error) or 'no answer in time'}") from error
    return document


def _reason(status: int, body: bytes) -> str:
    try:
        problem = orjson.loads(body)
        errors = problem.get("errors", [])
        lines = [f"{error['pointer'].removeprefix('/query/')} {error['message']}" for error in errors]
        return "; ".join(lines) or str(problem["detail"])
    except (orjson.JSONDecodeError, AttributeError, TypeError, KeyError):
        return f"the answer was {status}"


def time_of_option(option: str, text: str, time_zone: str) -> str:
    """The time for the request: unchanged, or for a date its midnight in the zone.

    Raises:
        NoReport: there is no such date or zone.
    """
    if not _DATE.fullmatch(text):
        return text
    if time_zone not in time_zones():
        raise NoReport(f"--time-zone {time_zone}: not an IANA time zone, like Europe/Berlin")
    try:
        return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(time_zone)).isoformat()
    except ValueError:
        raise NoReport(f"{option} {text}: there is no such date") from None


Row = dict[str, Any]

MIN_BAR_CHARACTERS = 10
_SECONDS = frozenset({"p50", "p90", "p99", "age_from", "age_to"})
_UNITS = (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0))


@dataclass(frozen=True, slots=True)
class Chart:
    """The bar of a row: one segment for each of these columns, each in its own shade."""

    title: str
    columns: tuple[str, ...]
    shades: str


_CHARTS = {
    "durations": Chart("█ to p50, ▓ to p90, ░ to p99", ("p50", "p90", "p99"), "█▓░"),
    "status-counts": Chart("█ entered", ("entered",), "█"),
    "punctuality": Chart("█ late", ("late",), "█"),
    "open-orders": Chart("█ count", ("count",), "█"),
    "refusals": Chart("█ count", ("count",), "█"),
}


def report_text(report: str, document: dict[str, Any], width: int) -> str:
    """The whole report for a terminal of `width` characters."""
    rows = [_without_redundant_times(row, document.get("interval")) for row in document["rows"]]
    lines = [_heading(report, document), ""]
    if not rows:
        return "\n".join([*lines, "nothing to count"])
    chart = _CHARTS[report]
    return "\n".join([*lines, *_table(rows), "", chart.title, *_bars(chart, rows, width)])


def _without_redundant_times(row: Row, interval: str | None) -> Row:
    # The local start makes the start in UTC redundant, and a day needs no hour.
    shown = {name: value for name, value in row.items() if name != "start"}
    if interval == "day":
        shown["local_start"] = row["local_start"][: len("2026-01-31")]
    return shown


def duration_text(seconds: float) -> str:
    """A duration in its largest unit: `46.0 s`, `1.5 h`, `-2.0 d`."""
    for unit, size in _UNITS:
        if abs(seconds) >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _heading(report: str, document: dict[str, Any]) -> str:
    shown = {name: value for name, value in document.items() if name != "rows" and value is not None}
    if not shown.get("corrections"):  # there are few, and where there are none nobody asks
        shown.pop("corrections", None)
    return " · ".join([report, *(f"{name} {value}" for name, value in shown.items())])


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
        # Each time is printed once, on the first of its lines.
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
    # Even the smallest value above zero is visible.
    return bar or ("▏" if row[chart.columns[-1]] > 0 else "")
