"""Text for a terminal: text from outside made safe, lines for events and problems, progress bars."""

import codecs
import json
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from io import TextIOWrapper
from typing import Any

import orjson
from rich.console import Console
from rich.progress import Progress, ProgressColumn
from rich.text import Text

_ESCAPED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Controls, formatting (bidirectional or zero-width), surrogates, unassigned characters, line separators."""

_BLANK_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and symbols without a visible glyph."""


def printable(text: str) -> str:
    """The text, with each character that a terminal would act on or not show as an escape (``\\u202e``)."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(character) if _is_hidden(character) else character for character in text)


def printable_lines(text: str) -> str:
    """The lines of the text, each made safe with `printable`."""
    return "\n".join(map(printable, text.split("\n")))


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _ESCAPED_CATEGORIES or character in _BLANK_LETTERS


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def echo(text: str) -> None:
    """Prints one or more lines and flushes, also into a pipe."""
    # Not with typer.echo, which writes UTF-8 where the terminal declares ASCII.
    sys.stdout.write(f"{printable_lines(text)}\n")
    sys.stdout.flush()


_STAND_INS = str.maketrans("█▓░▏─━→·…", "#=-|--> ~")
"""ASCII characters of the same width for those that tables and charts are drawn with."""


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end].translate(_STAND_INS)
    return missing.encode("ascii", "backslashreplace").decode(), error.end


def replace_missing_characters() -> None:
    """Has standard output and error write a stand-in or an escape where their encoding lacks a character."""
    codecs.register_error("tracking.replacement", _replace)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="tracking.replacement")


@contextmanager
def progress_bar(label: str, total: int, *columns: ProgressColumn) -> Iterator[tuple[Progress, Any]]:
    """Shows a progress bar on standard error while the body runs, and yields it with its task."""
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield progress, progress.add_task(label, total=total)


LATE = timedelta(minutes=2)
"""An event that is recorded this long after it happened is marked."""

_STYLES = {
    "created": "cyan",
    "picked_up": "blue",
    "in_transit": "yellow",
    "delivered": "green",
    "cancelled": "red",
}


def event_line(event: dict[str, Any]) -> Text:
    """A CloudEvent in one line: time, order (its reference, or else its id), merchant, statuses, version,
    source, and delay if it is late.

    A checkpoint has its kind and message in place of the statuses, a correction its reason beside them, and
    an order that becomes overdue its due time.
    """
    data = event["data"]
    recorded = datetime.fromisoformat(data["recorded_at"]).astimezone()
    line = _line_start(recorded, data.get("reference") or data["order_id"])
    line.append(f"{printable(data['merchant_id']):<14}  ", "magenta")
    if "kind" in data:
        line.append(printable(data["kind"]), "bold")
    elif event.get("type") == "order.overdue":
        line.append(printable(data["status"]), _STYLES.get(data["status"], "bold"))
        line.append(f"  overdue: was due at {data['due_at']}", "bold red")
    elif event.get("type") == "order.customer_erased":
        line.append(printable(data["status"]), _STYLES.get(data["status"], "bold")).append(
            "  customer erased"
        )
    else:
        if data["previous_status"] is not None:
            line.append(f"{printable(data['previous_status'])} → ", "dim")
        line.append(printable(data["status"]), _STYLES.get(data["status"], "bold"))
    if "reason" in data:
        line.append("  corrected", "bold red")
    if detail := data.get("message", data.get("reason")):
        line.append(f": {printable(' '.join(detail.split()))}")
    source = data["source"]
    line.append(f"  v{data['version']} by {printable(source['type'])} {printable(source['id'])}", "dim")
    line.append(lateness(data), "yellow")
    return line


def refusal_line(time: datetime, order_id: str, problem: dict[str, Any]) -> Text:
    """The problem document of a refused update in one line."""
    line = _line_start(time, order_id)
    return line.append("refused  ", "bold red").append(printable(problem["detail"]))


def _line_start(time: datetime, order_name: str) -> Text:
    clock = f"{time:%H:%M:%S}.{time.microsecond // 1000:03d}  "
    return Text.assemble((clock, "dim"), f"{printable(order_name):<20}  ")


def lateness(data: dict[str, Any]) -> str:
    """The delay between an event and its recording, if it is longer than `LATE`; else ""."""
    if data["occurred_at"] is None:
        return ""
    late = datetime.fromisoformat(data["recorded_at"]) - datetime.fromisoformat(data["occurred_at"])
    return f"  reported {describe_duration(late)} late" if late > LATE else ""


def describe_duration(duration: timedelta) -> str:
    """`3 min`, `2.5 h`, `12 d`."""
    minutes = duration.total_seconds() / 60
    if minutes < 90:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h" if minutes < 48 * 60 else f"{minutes / 1440:.0f} d"


def json_line(document: Any, encoding: str) -> str:
    """The document as one line of JSON that `encoding` can write and a terminal can show."""
    text = orjson.dumps(document).decode()
    if text.isascii() or (encoding.lower().replace("-", "") == "utf8" and printable(text) == text):
        return text
    return json.dumps(document, separators=(",", ":"))
