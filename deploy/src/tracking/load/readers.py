"""Reads CSV and NDJSON files into records. An unreadable row becomes a record with a fault."""

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tracking.load.header import ColumnMap, Header, read_header
from tracking.load.operations import (
    Parsed,
    ReadOptions,
    operations_of_line,
    operations_of_row,
    record_of,
)
from tracking.load.records import (
    Location,
    Record,
    UnreadableFile,
    UnreadableRecord,
    quoted,
    unreadable,
)
from tracking.load.sources import Source, open_source, refuse_missing

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
"""The delimiters that are recognised, with their names."""

_DECLARATION = "sep="


def declared_delimiter(line: str) -> str | None:
    """The delimiter in a first line `sep=;`, as spreadsheets write it; None for any other line."""
    text = line.strip("\r\n").strip('"').lower()
    if text.startswith(_DECLARATION) and len(text) == len(_DECLARATION) + 1:
        return text[-1]
    return None


def guess_delimiter(header: str, is_known: Callable[[str], bool]) -> str:
    """The delimiter that gives the most known names in the header, then the most columns; else a comma."""

    def score(delimiter: str) -> tuple[int, int]:
        names = split_header(header, delimiter)
        return sum(map(is_known, names)), len(names)

    return max(DELIMITERS, key=score)


def split_header(header: str, delimiter: str) -> list[str]:
    """The names in one line; empty if its quoting is broken or continues in the next line."""
    try:
        return next(csv.reader([header], delimiter=delimiter), [])
    except csv.Error:
        return []


Format = Literal["auto", "ndjson", "csv", "olist"]

_BY_SUFFIX: dict[str, Format] = {".csv": "csv", ".tsv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}

Notice = Callable[[str], None]
"""Receives notes for the user: the detected format, and ignored columns."""


@dataclass(frozen=True, slots=True)
class Files:
    """The files to load, and the options for reading them."""

    paths: list[Path]
    notice: Notice
    file_format: Format = "auto"
    encoding: str = ""
    """"" = detected."""
    delimiter: str = ""
    """"" = detected from the header."""
    columns: ColumnMap = field(default_factory=ColumnMap)
    options: ReadOptions = field(default_factory=ReadOptions)
    headers: dict[int, Header] = field(default_factory=dict)
    """The header of each CSV file by its number, filled while reading."""


def read_files(files: Files) -> Iterator[Record]:
    """Reads the records of all files, one file after another.

    Raises:
        UnreadableFile: one cannot be read, or `--map` names a column that none has.
    """
    for path in files.paths:
        refuse_missing(path)
    for number, path in enumerate(files.paths):
        with open_source(path, files.encoding) as source:
            if _format_of(path, source, files.file_format) == "ndjson":
                yield from _read_ndjson(files, source, number)
            else:
                yield from _read_csv(files, source, number)
    if unused := files.columns.unused():
        raise UnreadableFile(f"--map: no file has a column {', '.join(map(quoted, unused))}")


def _format_of(path: Path, source: Source, chosen: Format) -> Format:
    if chosen != "auto":
        return chosen
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    by_suffix = _BY_SUFFIX.get("".join(suffixes[-1:]))
    if by_suffix is not None:
        return by_suffix
    first = source.first_character()
    if first == "[":
        raise UnreadableFile(f"{source.name}: a JSON array; write one object a line (NDJSON)")
    return "ndjson" if first == "{" else "csv"


def _read_ndjson(files: Files, source: Source, number: int) -> Iterator[Record]:
    for line in source:
        if line.strip():
            location = Location(source.name, source.line, number)
            yield from _records(location, lambda text=line: operations_of_line(text, files.options))  # type: ignore[misc]


def _read_csv(files: Files, source: Source, number: int) -> Iterator[Record]:
    header, rows = read_table(source, files.columns, files.delimiter, files.notice)
    files.headers[number] = header
    for row in rows:
        location = Location(source.name, source.line, number)
        yield from _records(location, lambda cells=row: _row_operations(cells, header, files.options))  # type: ignore[misc]


def _row_operations(cells: list[str], header: Header, options: ReadOptions) -> list[Parsed]:
    return operations_of_row(named_cells(cells, header), header, options)


def _records(location: Location, parse: Callable[[], list[Parsed]]) -> Iterator[Record]:
    try:
        parsed = parse()
    except UnreadableRecord as error:
        yield Record(location, fault=error.fault)
        return
    for each in parsed:
        yield record_of(location, each)


def read_table(
    source: Source, columns: ColumnMap, delimiter: str, notice: Notice
) -> tuple[Header, Iterator[list[str]]]:
    """Reads the header of a CSV file, and its rows that are not blank.

    Raises:
        UnreadableFile: the header is missing or invalid; while reading: broken quoting.
    """
    chosen, rows = table_rows(source, lambda name: bool(columns.target_of(name)), delimiter)
    header = read_header(source.name, next(rows, []), columns)
    notice(f"{source.name}: CSV separated by {DELIMITERS.get(chosen, quoted(chosen))}, {source.encoding}")
    if header.ignored:
        shown = ", ".join(map(quoted, header.ignored))
        notice(f"{source.name}: columns that are not loaded: {shown}")
    return header, rows


def table_rows(
    source: Source, is_known: Callable[[str], bool], delimiter: str = ""
) -> tuple[str, Iterator[list[str]]]:
    """Detects the delimiter of a CSV file, and reads its rows that are not blank, including the header.

    Raises:
        UnreadableFile: it is empty; while reading: broken quoting.
    """
    lines = iter(source)
    first = _first_line(lines)
    declared = declared_delimiter(first)
    if declared:
        first = _first_line(lines)
    if not first:
        raise UnreadableFile(f"{source.name}: empty, without a header")
    chosen = delimiter or declared or guess_delimiter(first, is_known)
    return chosen, _rows(source, _chained(first, lines), chosen)


def _first_line(lines: Iterator[str]) -> str:
    return next((line for line in lines if line.strip("\ufeff \t\r\n,;|")), "")


def _chained(first: str, lines: Iterator[str]) -> Iterator[str]:
    yield first
    yield from lines


def _rows(source: Source, lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield row
    except csv.Error as error:
        raise UnreadableFile(f"{source.location}: broken quoting: {error}") from None


def named_cells(cells: list[str], header: Header) -> dict[str, str]:
    """The cells of a row by our column names.

    Raises:
        UnreadableRecord: a value has no column.
    """
    for index, cell in enumerate(cells):
        is_nameless = index >= len(header.names) or not header.names[index].strip()
        if is_nameless and cell.strip():
            raise unreadable("more fields than the header", "", cell, f"field {index + 1} has no column")
    return {target: cell for target, cell in zip(header.targets, cells, strict=False) if target}
