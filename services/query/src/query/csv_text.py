"""CSV (RFC 4180) that is safe to open in a spreadsheet. Pure."""

import csv
from collections.abc import Iterable, Sequence
from datetime import datetime
from io import StringIO

from shared.timestamps import format_time

CSV_MEDIA_TYPE = "text/csv"
CSV_CONTENT_TYPE = "text/csv; charset=utf-8; header=present"

Cell = str | int | float | bool | datetime | None

_FORMULA_STARTS = frozenset("=+-@\t\r\n＝＋－＠")  # noqa: RUF001 - the wide ones are formulas in some locales
"""What makes a spreadsheet take a text for a formula (OWASP, CSV injection)."""


def csv_lines(rows: Iterable[Sequence[Cell]]) -> bytes:
    """The rows as lines that end in CR LF, in UTF-8.

    A text that a spreadsheet would run as a formula gets an apostrophe in front. Booleans are `true` and
    `false`, None is an empty cell, times are written as everywhere.
    """
    text = StringIO(newline="")
    csv.writer(text).writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue().encode()


def _cell(value: Cell) -> str | int | float | None:
    if isinstance(value, str):
        return f"'{value}" if value[:1] in _FORMULA_STARTS else value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return format_time(value)
    return value
