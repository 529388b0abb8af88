"""The public Olist data set (orders of a Brazilian marketplace) as operations of a batch.

Three CSV files, told apart by their columns: orders, order items (`seller_id` = merchant) and
customers (`customer_unique_id` = contact reference; the set has no names). An order of several
sellers becomes one order per seller, `<order_id>.<n>`.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

from tracking.records import Input, Operation, Record, UnreadableFile, UnreadableRecord, csv_rows, record_of

TIME_ZONE = ZoneInfo("America/Sao_Paulo")
"""The set's times are local and carry no offset."""

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
"""What is read of each of the three files."""

Row = dict[str, str]


@dataclass(slots=True)
class _Part:
    """What one seller sends of one order."""

    items: int = 0
    price: float = 0.0
    freight: float = 0.0


@dataclass(slots=True)
class Catalogue:
    """What the orders refer to, held in memory: about 1 KB an order."""

    parts: dict[str, dict[str, _Part]] = field(default_factory=lambda: defaultdict(dict))
    """By order id, then by seller, in the order of the items."""
    customers: dict[str, Row] = field(default_factory=dict)

    def add_item(self, row: Row) -> None:
        """Counts an item to its order and seller."""
        part = self.parts[row["order_id"]].setdefault(row["seller_id"], _Part())
        part.items += 1
        part.price += _number(row["price"])
        part.freight += _number(row["freight_value"])

    def add_customer(self, row: Row) -> None:
        """Remembers who stands behind the customer id of an order."""
        self.customers[row["customer_id"]] = row


def read_olist(paths: list[Path]) -> Iterator[Record]:
    """The operations of the set, order by order.

    Raises:
        UnreadableFile: the three files are not all there.
    """
    by_role = {_role_of(path): path for path in paths}
    if set(by_role) != set(_COLUMNS) or len(paths) != len(by_role):
        raise UnreadableFile("give the three files of the Olist set: orders, order items and customers")
    catalogue = Catalogue()
    for _, row in csv_rows(by_role["items"]):
        catalogue.add_item(row)
    for _, row in csv_rows(by_role["customers"]):
        catalogue.add_customer(row)
    for source, row in csv_rows(by_role["orders"]):
        yield from _records_of(source, row, catalogue)


def orders_file(paths: list[Path]) -> Path:
    """The one of the files that is read order by order."""
    return next((path for path in paths if _role_of(path) == "orders"), paths[0])


def operations_of(row: Row, catalogue: Catalogue) -> list[Operation]:
    """The operations of one row of the orders, in the order of the workflow whatever the times say.

    Raises:
        UnreadableRecord: its customer is missing, or a time cannot be read.
    """
    customer = catalogue.customers.get(row["customer_id"])
    if customer is None:
        raise UnreadableRecord(f"customer {row['customer_id']} is not in the customers file")
    parts = catalogue.parts.get(row["order_id"], {})
    operations: list[Operation] = []
    for number, (seller, part) in enumerate(parts.items(), 1):
        order_id = row["order_id"] if len(parts) == 1 else f"{row['order_id']}.{number}"
        operations.append(_creation(order_id, seller, part, row, customer))
        operations.extend(_updates(order_id, row))
    return operations


def _records_of(source: Input, row: Row, catalogue: Catalogue) -> Iterator[Record]:
    try:
        operations = operations_of(row, catalogue)
    except UnreadableRecord as error:
        yield Record(source.place, source.take_progress(), fault=str(error))
        return
    for operation in operations:
        yield record_of(source, partial(dict, operation))


def _role_of(path: Path) -> str:
    for _, row in csv_rows(path):
        for role, columns in _COLUMNS.items():
            if columns <= row.keys():
                return role
        break
    raise UnreadableFile(f"{path}: not a file of the Olist set")


def _creation(order_id: str, seller: str, part: _Part, row: Row, customer: Row) -> Operation:
    reference = customer["customer_unique_id"]
    metadata: dict[str, object] = {
        "city": customer["customer_city"],
        "state": customer["customer_state"],
        "items": part.items,
        "price_brl": round(part.price, 2),
        "freight_brl": round(part.freight, 2),
    }
    for key, column in (("approved_at", "order_approved_at"), ("due", "order_estimated_delivery_date")):
        if row[column]:
            metadata[key] = with_offset(row[column])
    return {
        "op": "create",
        "order_id": order_id,
        "merchant_id": seller,
        "customer": {"name": f"Customer {reference[:8]}", "contact_ref": reference},
        "occurred_at": with_offset(row["order_purchase_timestamp"]),
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


def _number(text: str) -> float:
    try:
        return float(text or 0)
    except ValueError:
        raise UnreadableFile(f"order items: {text!r} is not a number") from None


def with_offset(local: str) -> str:
    """`2018-03-27 18:00:43` in the set's time zone as RFC 3339 with its offset of that day.

    Raises:
        UnreadableRecord: it is not such a time.
    """
    try:
        time = datetime.fromisoformat(local)
    except ValueError:
        raise UnreadableRecord(f"{local!r} is not a time") from None
    return time.replace(tzinfo=TIME_ZONE).isoformat()
