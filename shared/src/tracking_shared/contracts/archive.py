"""The archive: orders that have left the database, in files. Its manifest, and an event as a row. Pure.

An archive is a folder with `manifest.json` and one Parquet file for each *part*. A row is an event; an order
is the projection of its newest event, as in the database. A part may contain orders that have not left the
database, because they changed after it was written, or have come back. So an order is archived in a part
exactly if what stays of it in the database (`ArchivedOrderDocument`) names that part.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Literal, cast

import orjson

from tracking_shared.contracts.documents import EventDocument, position_key
from tracking_shared.contracts.erased import ErasedCustomers
from tracking_shared.contracts.timestamps import format_time, parse_time
from tracking_shared.errors import TrackingError

MANIFEST = "manifest.json"

FORMAT = 1
"""Of the manifest and of the files. A reader refuses a later one."""

ColumnKind = Literal["text", "number", "flag", "time", "json"]

COLUMNS: Mapping[str, ColumnKind] = {
    "order_id": "text",
    "version": "number",
    "merchant_id": "text",
    "reference": "text",
    "customer_name": "text",
    "customer_contact_ref": "text",
    "type": "text",
    "status": "text",
    "previous_status": "text",
    "active": "flag",
    "update_id": "text",
    "update_key": "text",
    "fingerprint": "text",
    "source_type": "text",
    "source_id": "text",
    "occurred_at": "time",
    "received_at": "time",
    "recorded_at": "time",
    "created_at": "time",
    "due_at": "time",
    "eta": "time",
    "overdue": "flag",
    "previous_overdue": "flag",
    "announced_due_at": "time",
    "kind": "text",
    "message": "text",
    "reason": "text",
    "corrected_at": "time",
    "closed_at": "time",
    "erased_at": "time",
    "metadata": "json",
    "order_metadata": "json",
    "partition": "number",
    "seq": "number",
    "traceparent": "text",
    "others": "json",
}
"""The columns of a part. `others` has the fields that have no column of their own."""

_PARTS = {"customer": {"customer_name": "name", "customer_contact_ref": "contact_ref"}}
_PARTS["source"] = {"source_type": "type", "source_id": "id"}
_MADE = {column for columns in _PARTS.values() for column in columns}

_NULLABLE = ("occurred_at", "previous_status")
"""Fields that every event has, and that may be null. Any other field without a value is absent."""

_TYPES: Mapping[ColumnKind, type] = {"text": str, "number": int, "flag": bool, "time": datetime, "json": dict}

_TIME = "$time"
"""Marks a time among the `others`."""


class BadArchive(TrackingError):
    """The archive cannot be read: a file is missing, damaged, or of a later release. The message names it."""


def row_of(event: EventDocument) -> dict[str, Any]:
    """The event as a row: a value, or None, for each of `COLUMNS`. `event_of` makes the same event of it."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    others: dict[str, Any] = {}
    for name, value in event.items():
        if name == "_id" and value == position_key(event["partition"], event["seq"]):
            continue
        if name in _PARTS and _fits_parts(name, value):
            for column, member in _PARTS[name].items():
                row[column] = None if value is None else value[member]  # type: ignore[index]
        elif _fits_column(name, value):
            row[name] = (
                orjson.dumps(value).decode() if COLUMNS[name] == "json" and value is not None else value
            )
        else:
            others[name] = value
    row["others"] = orjson.dumps(_marked(others)).decode() if others else None
    return row


def _fits_parts(name: str, value: Any) -> bool:
    if value is None:
        return name == "customer"
    members = _PARTS[name].values()
    return (
        isinstance(value, dict) and set(value) == set(members) and all(type(value[m]) is str for m in members)
    )


def _fits_column(name: str, value: Any) -> bool:
    if name not in COLUMNS or name in _MADE or name == "others":
        return False
    if value is None:
        return name in _NULLABLE
    if COLUMNS[name] == "json":
        return isinstance(value, dict) and orjson.loads(orjson.dumps(value)) == value
    # `bool` is an `int`, too.
    return type(value) is _TYPES[COLUMNS[name]] or (COLUMNS[name] == "time" and isinstance(value, datetime))


def _marked(value: Any) -> Any:
    if isinstance(value, datetime):
        return {_TIME: format_time(value)}
    if isinstance(value, dict):
        return {name: _marked(one) for name, one in value.items()}
    return [_marked(one) for one in value] if isinstance(value, list) else value


def _unmarked(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {_TIME}:
            return parse_time(value[_TIME])
        return {name: _unmarked(one) for name, one in value.items()}
    return [_unmarked(one) for one in value] if isinstance(value, list) else value


def event_of(row: Mapping[str, Any]) -> EventDocument:
    """The event that was made a row."""
    event: dict[str, Any] = {"_id": position_key(row["partition"], row["seq"])}
    for name, kind in COLUMNS.items():
        value = row[name]
        if name in _MADE or name == "others" or (value is None and name not in _NULLABLE):
            continue
        event[name] = orjson.loads(value) if kind == "json" and value is not None else value
    for name, columns in _PARTS.items():
        values = {member: row[column] for column, member in columns.items()}
        event[name] = None if all(value is None for value in values.values()) else values
    if row["others"] is not None:
        event |= _unmarked(orjson.loads(row["others"]))
    return cast(EventDocument, event)


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the archive, as its manifest describes it."""

    name: str
    file: str
    state: Literal["written", "done"]
    """`written`: its orders are leaving the database. `done`: those that could have left."""
    orders: int
    """In the file. Some may have changed since, and be in the database still."""
    events: int
    left: int
    """Orders that have left the database for this part. 0 until it is done."""
    first_order_id: str
    last_order_id: str
    first_recorded_at: datetime
    last_recorded_at: datetime
    positions: Mapping[str, Sequence[int]]
    """By partition: the lowest and the highest seq of an event."""
    bytes: int
    sha256: str
    written_at: datetime
    erased_at: datetime
    """Customers whose erasure was accepted before it were erased in the file."""


_TIMES = ("first_recorded_at", "last_recorded_at", "written_at", "erased_at")


@dataclass(frozen=True, slots=True)
class Manifest:
    """The table of contents of an archive."""

    epoch: str
    """Of the log that the events are of."""
    parts: Mapping[str, Part]

    def with_part(self, part: Part) -> "Manifest":
        """The manifest with this part, in the place of an earlier one of its name."""
        return replace(self, parts={**self.parts, part.name: part})

    def unfinished(self) -> list[Part]:
        """The parts whose orders may still have to leave the database."""
        return [part for part in self.parts.values() if part.state == "written"]


def encode_manifest(manifest: Manifest) -> bytes:
    """The manifest as JSON."""
    parts = [asdict(part) for part in manifest.parts.values()]
    for part in parts:
        for name in _TIMES:
            part[name] = format_time(part[name])
    totals = {"orders": sum(part["left"] for part in parts), "parts": len(parts)}
    document = {"format": FORMAT, "epoch": manifest.epoch, "totals": totals, "parts": parts}
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def decode_manifest(content: bytes) -> Manifest:
    """The manifest in JSON.

    Raises:
        BadArchive: it is none, or of a later release.
    """
    try:
        document = orjson.loads(content)
        if document["format"] != FORMAT:
            raise BadArchive(f"{MANIFEST} has format {document['format']}; this release reads {FORMAT}")
        parts = [_decode_part(part) for part in document["parts"]]
        return Manifest(document["epoch"], {part.name: part for part in parts})
    except (ValueError, KeyError, TypeError) as error:
        raise BadArchive(f"{MANIFEST} cannot be read: {type(error).__name__}") from None


def _decode_part(document: dict[str, Any]) -> Part:
    return Part(**document | {name: parse_time(document[name]) for name in _TIMES})


@dataclass(slots=True)
class PartContents:
    """Sums up the events of a part while it is written."""

    orders: int = 0
    events: int = 0
    first_order_id: str = ""
    last_order_id: str = ""
    first_recorded_at: datetime | None = None
    last_recorded_at: datetime | None = None
    positions: dict[str, list[int]] | None = None

    def add(self, events: Iterable[EventDocument]) -> None:
        """Adds whole orders, behind those before in the order of their ids."""
        positions = self.positions = self.positions or {}
        for event in events:
            if event["order_id"] != self.last_order_id or not self.orders:
                self.orders += 1
                self.first_order_id = self.first_order_id or event["order_id"]
                self.last_order_id = event["order_id"]
            self.events += 1
            time = event["recorded_at"]
            self.first_recorded_at = min(self.first_recorded_at or time, time)
            self.last_recorded_at = max(self.last_recorded_at or time, time)
            low, high = positions.get(str(event["partition"]), (event["seq"], event["seq"]))
            positions[str(event["partition"])] = [min(low, event["seq"]), max(high, event["seq"])]


def whole_histories(
    versions: Mapping[str, int], events: Iterable[EventDocument]
) -> dict[str, list[EventDocument]]:
    """The histories of those orders of which `events` has exactly the versions 1 to n, by order id in the
    order of the ids. The others have changed since `versions` was read.
    """
    found: dict[str, list[EventDocument]] = {order_id: [] for order_id in sorted(versions)}
    for event in events:
        if event["order_id"] in found:
            found[event["order_id"]].append(event)
    for history in found.values():
        history.sort(key=lambda event: event["version"])
    return {
        order_id: history
        for order_id, history in found.items()
        if history and [event["version"] for event in history] == list(range(1, versions[order_id] + 1))
    }


def in_chunks(versions: Mapping[str, int], most_events: int, most_orders: int) -> list[list[str]]:
    """The order ids in chunks of at most so many events, or of one order that has more; sorted by id."""
    chunks: list[list[str]] = []
    events = 0
    for order_id in sorted(versions):
        events += versions[order_id]
        if not chunks or events > most_events or len(chunks[-1]) >= most_orders:
            chunks.append([])
            events = versions[order_id]
        chunks[-1].append(order_id)
    return chunks


def without_erased(event: EventDocument, erased: ErasedCustomers) -> EventDocument:
    """The event without its customer, if that one was erased."""
    customer = event["customer"]
    if customer is None:
        return event
    erased_at = erased.erased_at(customer["contact_ref"], event["merchant_id"], event["created_at"])
    return event if erased_at is None else {**event, "customer": None, "erased_at": erased_at}
