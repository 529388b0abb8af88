"""Orders as rows of a table, for CSV and Parquet; CSV (RFC 4180) that a spreadsheet opens safely. Pure."""

import csv
from collections.abc import Iterable, Sequence
from datetime import datetime
from io import StringIO

import orjson

from tracking_shared.contracts.documents import CustomerDocument, OrderDocument
from tracking_shared.contracts.texts import FORMULA_STARTS
from tracking_shared.contracts.timestamps import format_time

CSV_MEDIA_TYPE = "text/csv"
CSV_CONTENT_TYPE = "text/csv; charset=utf-8; header=present"

Cell = str | int | float | bool | datetime | None


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
        return f"'{value}" if value[:1] in FORMULA_STARTS else value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return format_time(value)
    return value


PARQUET_MEDIA_TYPE = "application/vnd.apache.parquet"
"""Here, since `parquet_form` cannot be imported everywhere."""


def column_names(*, with_customer: bool) -> list[str]:
    """The columns of a table of orders. Those with personal data are there only for those entitled."""
    return [
        "order_id",
        "merchant_id",
        "reference",
        *(["customer_name", "customer_contact_ref"] if with_customer else []),
        "status",
        "version",
        "active",
        "created_at",
        "updated_at",
        "due_at",
        "eta",
        "overdue",
        "source_type",
        *(["source_id"] if with_customer else []),
        "metadata",
    ]


def table_row(order: OrderDocument, *, with_customer: bool) -> list[Cell]:
    """The order under `column_names`."""
    source = order["source"]
    return [
        order["_id"],
        order["merchant_id"],
        order.get("reference"),
        *(_customer_cells(order["customer"]) if with_customer else []),
        order["status"],
        order["version"],
        order["active"],
        order["created_at"],
        order["updated_at"],
        order.get("due_at"),
        order.get("eta"),
        order.get("overdue", False),
        source["type"],
        *([source["id"]] if with_customer else []),
        orjson.dumps(order["metadata"]).decode(),
    ]


def _customer_cells(customer: CustomerDocument | None) -> list[Cell]:
    return [None, None] if customer is None else [customer["name"], customer["contact_ref"]]
