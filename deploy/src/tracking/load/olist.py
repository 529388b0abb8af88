"""The public Olist data set (orders of a Brazilian marketplace) as operations of a batch.

Three CSV files, recognised by their columns: orders, order items (`seller_id` = merchant) and
customers (`customer_unique_id` = contact reference; the set has no names). An order of several
sellers becomes one order per seller, `<order_id>.<n>`.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest
from pathlib import Path
from zoneinfo import ZoneInfo

from tracking.load.operations import Parsed, record_of
from tracking.load.readers import table_rows
from tracking.load.records import (
    Fault,
    Location,
    Operation,
    Record,
    UnreadableFile,
    UnreadableRecord,
    unreadable,
)
from tracking.load.sources import Source, open_source

TIME_ZONE = ZoneInfo("America/Sao_Paulo")
"""The times of the set are local, without offset."""

_CANCELLED = ("canceled", "unavailable")

_COLUMNS = {
    "orders": {
        "order_id",
        "customer_id",
        "order_status",
        "order_purchase_timestamp",
        "order_approved_at",
        "order_delivered_carrier_date",
        "order_delivered_customer_date",
        "order_estimated_delivery_date",
    },
    "items": {"order_id", "seller_id", "price", "freight_value"},
    "customers": {"customer_id", "customer_unique_id", "customer_city", "customer_state"},
}
"""The columns that are read of each file."""

_NEEDED_TIMES = {
    "shipped": ("order_delivered_carrier_date",),
    "delivered": ("order_delivered_carrier_date", "order_delivered_customer_date"),
}
"""The times that an order with this status must have."""

Row = dict[str, str]


@dataclass(slots=True)
class _Part:
    """The items of one seller in one order."""

    items: int = 0
    price: float = 0.0
    freight: float = 0.0


@dataclass(slots=True)
class Catalogue:
    """The items and customers that the orders refer to, in memory: about 1 KB per order."""

    parts: dict[str, dict[str, _Part]] = field(default_factory=lambda: defaultdict(dict))
    """By order id, then by seller, in file order."""
    item_locations: dict[str, Location] = field(default_factory=dict)
    """The first item of each order."""
    customers: dict[str, Row] = field(default_factory=dict)

    def add_item(self, row: Row, location: Location | None = None) -> None:
        """Adds an item to its order and seller.

        Raises:
            UnreadableRecord: price or freight is no number.
        """
        price, freight = _number(row, "price"), _number(row, "freight_value")
        part = self.parts[row["order_id"]].setdefault(row["seller_id"], _Part())
        part.items += 1
        part.price += price
        part.freight += freight
        if location is not None:
            self.item_locations.setdefault(row["order_id"], location)

    def add_customer(self, row: Row) -> None:
        """Adds the customer of an order."""
        self.customers[row["customer_id"]] = row


def read_olist(paths: list[Path], encoding: str = "") -> Iterator[Record]:
    """Reads the operations of the set, order by order, and the faults in it.

    Raises:
        UnreadableFile: the paths are not the three files.
    """
    with ExitStack() as stack:
        tables: dict[str, _Table] = {}
        for number, path in enumerate(paths):
            table = _Table(stack.enter_context(open_source(path, encoding)), number)
            tables[table.role] = table
        if set(tables) != set(_COLUMNS) or len(paths) != len(tables):
            raise UnreadableFile("give the three files of the Olist set: orders, order items and customers")
        catalogue = Catalogue()
        for row in tables["items"]:
            try:
                catalogue.add_item(row, tables["items"].location)
            except UnreadableRecord as error:
                yield Record(tables["items"].location, fault=error.fault)
        for row in tables["customers"]:
            catalogue.add_customer(row)
        for row in tables["orders"]:
            yield from _records_of(tables["orders"].location, row, catalogue)
            catalogue.item_locations.pop(row["order_id"], None)
    for order_id, location in catalogue.item_locations.items():
        detail = f"{order_id} is not in the orders file; nothing of it is sent"
        yield Record(location, fault=Fault("items without their order", "order_id", order_id, detail))


class _Table:
    """One of the files: its rows by column, and the location of the last one."""

    def __init__(self, source: Source, number: int) -> None:
        self._source = source
        self._number = number
        _, self._rows = table_rows(source, frozenset().union(*_COLUMNS.values()).__contains__)
        self._names = [name.strip() for name in next(self._rows, [])]
        self.role = next((role for role, columns in _COLUMNS.items() if columns <= set(self._names)), "")
        if not self.role:
            raise UnreadableFile(f"{source.name}: not a file of the Olist set")

    def __iter__(self) -> Iterator[Row]:
        for cells in self._rows:
            yield dict(zip_longest(self._names, cells[: len(self._names)], fillvalue=""))

    @property
    def location(self) -> Location:
        return Location(self._source.name, self._source.line, self._number)


def operations_of(row: Row, catalogue: Catalogue) -> list[Operation]:
    """The operations of one row of the orders, in the order of the workflow, regardless of their times.

    Raises:
        UnreadableRecord: its customer or its items are missing, or a time cannot be read.
    """
    customer = catalogue.customers.get(row["customer_id"])
    if customer is None:
        raise unreadable("no customer", "customer_id", row["customer_id"], "it is not in the customers file")
    parts = catalogue.parts.get(row["order_id"], {})
    if not parts:
        raise unreadable(
            "no items", "order_id", row["order_id"], "the items say whose order it is; there are none of it"
        )
    operations: list[Operation] = []
    for number, (seller, part) in enumerate(parts.items(), 1):
        order_id = row["order_id"] if len(parts) == 1 else f"{row['order_id']}.{number}"
        operations.append(_creation(order_id, seller, part, row, customer))
        operations.extend(_updates(order_id, row))
    return operations


def _records_of(location: Location, row: Row, catalogue: Catalogue) -> Iterator[Record]:
    try:
        operations = operations_of(row, catalogue)
    except UnreadableRecord as error:
        yield Record(location, fault=error.fault)
        return
    for operation in operations:
        yield record_of(location, Parsed(operation), in_file_order=True)
    for column in _NEEDED_TIMES.get(row["order_status"], ()):
        if not row[column]:
            detail = f"the order is {row['order_status']}; the step is not sent"
            yield Record(location, fault=Fault("a step without its time", column, None, detail))


def _creation(order_id: str, seller: str, part: _Part, row: Row, customer: Row) -> Operation:
    reference = customer["customer_unique_id"]
    metadata: dict[str, object] = {
        "city": customer["customer_city"],
        "state": customer["customer_state"],
        "items": part.items,
        "price_brl": round(part.price, 2),
        "freight_brl": round(part.freight, 2),
    }
    if row["order_approved_at"]:
        metadata["approved_at"] = with_offset(row["order_approved_at"])
    due = row["order_estimated_delivery_date"]
    return {
        "op": "create",
        "order_id": order_id,
        "merchant_id": seller,
        "customer": {"name": f"Customer {reference[:8]}", "contact_ref": reference},
        "occurred_at": with_offset(row["order_purchase_timestamp"]),
        **({"due_at": with_offset(due)} if due else {}),
        "metadata": metadata,
    }


def _updates(order_id: str, row: Row) -> Iterator[Operation]:
    steps = [
        ("picked_up", row["order_delivered_carrier_date"]),
        ("in_transit", row["order_delivered_carrier_date"]),
        ("delivered", row["order_delivered_customer_date"]),
    ]
    for status, time in steps:
        if time:
            yield _update(order_id, status) | {"occurred_at": with_offset(time)}
    if row["order_status"] in _CANCELLED:
        yield _update(order_id, "cancelled")


def _update(order_id: str, status: str) -> Operation:
    return {"op": "update", "order_id": order_id, "status": status}


def _number(row: Row, column: str) -> float:
    try:
        return float(row[column] or 0)
    except ValueError:
        raise unreadable("not a number", column, row[column]) from None


def with_offset(local: str) -> str:
    """`2018-03-27 18:00:43` in the set's time zone as RFC 3339 with its offset of that day.

    Raises:
        UnreadableRecord: it is not such a time.
    """
    try:
        time = datetime.fromisoformat(local)
    except ValueError:
        raise unreadable("not a time", "", local) from None
    return time.replace(tzinfo=TIME_ZONE).isoformat()
