"""Files of orders and updates, read as operations of a batch: NDJSON and CSV, plain or gzipped.

Pure but for reading the file. An operation without an update id gets one that is derived from its
content, so that loading a file again repeats the same updates instead of adding new ones.
"""

import csv
import gzip
import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import orjson

MAX_LINE_BYTES = 64 * 1024
"""What the services take as one operation."""

Operation = dict[str, Any]

CSV_COLUMNS = (
    "op",
    "order_id",
    "merchant_id",
    "customer_name",
    "customer_contact_ref",
    "status",
    "occurred_at",
    "metadata",
    "expected_version",
    "update_id",
)

_PLAIN = ("op", "order_id", "merchant_id", "status", "occurred_at", "update_id")


class UnreadableFile(Exception):
    """The file cannot be read as what it should be."""


class UnreadableRecord(ValueError):
    """One record cannot be read. The message says why."""


@dataclass(frozen=True, slots=True)
class Record:
    """One operation, or the fault because of which there is none."""

    place: str
    """File and line."""
    input_bytes: int
    """How much of the file was read for it, as stored (compressed)."""
    body: bytes = b""
    """The operation as JSON."""
    order_key: str = ""
    """Its order id; for a create without one, its update id."""
    creates: bool = False
    fault: str | None = None


class Input:
    """A file that is being read: text lines, and how far the stored file has been read."""

    def __init__(self, path: Path, raw: IO[bytes], lines: IO[bytes]) -> None:
        self.path = path
        self.number = 0
        self._raw = raw
        self._lines = lines
        self._told_bytes = 0

    def __iter__(self) -> Iterator[str]:
        """The lines with their ends.

        Raises:
            UnreadableFile: a line is too long or not UTF-8, or the compression is broken.
        """
        encoding = "utf-8-sig"
        try:
            while line := self._lines.readline(MAX_LINE_BYTES + 1):
                self.number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise UnreadableFile(f"{self.place}: longer than {MAX_LINE_BYTES} bytes")
                yield line.decode(encoding)
                encoding = "utf-8"
        except UnicodeDecodeError:
            raise UnreadableFile(f"{self.place}: not UTF-8") from None
        except (OSError, EOFError) as error:
            raise UnreadableFile(f"{self.path}: {error}") from None

    @property
    def place(self) -> str:
        """File and line, for a person."""
        return f"{self.path}:{self.number}"

    def take_progress(self) -> int:
        """Bytes of the stored file that were read since the last call."""
        position = self._raw.tell()
        taken, self._told_bytes = position - self._told_bytes, position
        return taken


@contextmanager
def open_input(path: Path) -> Iterator[Input]:
    """The file, unpacked if its name ends in `.gz`.

    Raises:
        UnreadableFile: it cannot be opened.
    """
    try:
        raw = path.open("rb")
    except OSError as error:
        raise UnreadableFile(f"{path}: {error.strerror}") from None
    with raw:
        if path.suffix == ".gz":
            with gzip.open(raw) as lines:
                yield Input(path, raw, cast(IO[bytes], lines))
        else:
            yield Input(path, raw, raw)


def read_ndjson(path: Path) -> Iterator[Record]:
    """One operation a line, exactly as `POST /v1/batch` takes it. Empty lines are skipped."""
    with open_input(path) as source:
        for line in source:
            if line.strip():
                yield record_of(source, partial(_parse_json_object, line))


def read_csv(path: Path) -> Iterator[Record]:
    """One operation a row; the first row names the columns, any of `CSV_COLUMNS`.

    Raises:
        UnreadableFile: also for a column that is none of these.
    """
    for source, row in csv_rows(path, allowed=CSV_COLUMNS):
        yield record_of(source, partial(operation_of_row, row))


def csv_rows(path: Path, *, allowed: Iterable[str] | None = None) -> Iterator[tuple[Input, dict[str, str]]]:
    """The rows of a CSV file by column name. `allowed` None = any columns.

    Raises:
        UnreadableFile: it has no header, a column that is not allowed, or broken quoting.
    """
    with open_input(path) as source:
        rows = csv.DictReader(source, restkey="", restval="", strict=True)
        try:
            _check_header(path, list(rows.fieldnames or []), allowed)
            for row in rows:
                yield source, row
        except csv.Error as error:
            raise UnreadableFile(f"{source.place}: {error}") from None


def _check_header(path: Path, columns: list[str], allowed: Iterable[str] | None) -> None:
    if not columns:
        raise UnreadableFile(f"{path}: empty, without a header")
    unknown = set(columns) - set(columns if allowed is None else allowed)
    if unknown:
        raise UnreadableFile(
            f"{path}: unknown columns: {', '.join(sorted(unknown))}; known are {', '.join(allowed or [])}"
        )


def record_of(source: Input, parse: Callable[[], Operation]) -> Record:
    """The record that `parse` makes of what was read last, with its update id."""
    try:
        operation = with_update_id(parse())
    except UnreadableRecord as error:
        return Record(source.place, source.take_progress(), fault=str(error))
    return Record(
        source.place,
        source.take_progress(),
        body=orjson.dumps(operation),
        order_key=str(operation.get("order_id") or operation["update_id"]),
        creates=operation.get("op") == "create",
    )


def operation_of_row(row: dict[str, str]) -> Operation:
    """The operation of a CSV row. Without `op`, a row with a status is an update, else a create.

    Raises:
        UnreadableRecord: too many fields, or metadata or version that cannot be read.
    """
    if "" in row:
        raise UnreadableRecord("has more fields than the header")
    operation: Operation = {name: row[name] for name in _PLAIN if row.get(name)}
    operation.setdefault("op", "update" if "status" in operation else "create")
    if row.get("customer_name") or row.get("customer_contact_ref"):
        operation["customer"] = {
            "name": row.get("customer_name", ""),
            "contact_ref": row.get("customer_contact_ref", ""),
        }
    if row.get("metadata"):
        operation["metadata"] = _parse_json_object(row["metadata"])
    if row.get("expected_version"):
        operation["expected_version"] = _parse_version(row["expected_version"])
    return operation


def with_update_id(operation: Operation) -> Operation:
    """The operation, with an update id derived from its content where it has none of its own."""
    if operation.get("update_id"):
        return operation
    canonical = orjson.dumps(operation, option=orjson.OPT_SORT_KEYS)
    digest = hashlib.blake2b(canonical, digest_size=16).hexdigest()
    return operation | {"update_id": f"load-{digest}"}


def _parse_json_object(text: str) -> Operation:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UnreadableRecord(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise UnreadableRecord("not a JSON object")
    return value


def _parse_version(text: str) -> int:
    if not text.isdecimal():
        raise UnreadableRecord(f"expected_version {text!r} is not a number")
    return int(text)
