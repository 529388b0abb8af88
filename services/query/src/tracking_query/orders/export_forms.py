"""The forms of an export: orders as lines of CSV and NDJSON, or as Parquet where that is installed. Pure."""

import codecs
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Protocol

import orjson

from tracking_query.orders.tables import (
    CSV_CONTENT_TYPE,
    CSV_MEDIA_TYPE,
    PARQUET_MEDIA_TYPE,
    column_names,
    csv_lines,
    table_row,
)
from tracking_shared.contracts.documents import OrderDocument
from tracking_shared.contracts.messages import order_view
from tracking_shared.contracts.workflow import Workflow

NDJSON_MEDIA_TYPE = "application/x-ndjson"


class ExportForm(Protocol):
    """Turns orders, chunk by chunk, into the bytes of one file."""

    content_type: str
    extension: str
    packed: bool
    """True if its bytes are compressed already."""

    def start(self) -> bytes:
        """The bytes before the first order."""
        ...

    def chunk(self, orders: Sequence[OrderDocument]) -> bytes:
        """The next orders."""
        ...

    def end(self) -> bytes:
        """The bytes behind the last order."""
        ...


class NdjsonForm:
    """One order a line, as `GET /v1/orders/{order_id}` shows it."""

    content_type = NDJSON_MEDIA_TYPE
    extension = "ndjson"
    packed = False

    def __init__(self, workflow: Workflow, *, with_customer: bool) -> None:
        self._workflow = workflow
        self._with_customer = with_customer

    def start(self) -> bytes:
        """Nothing."""
        return b""

    def chunk(self, orders: Sequence[OrderDocument]) -> bytes:
        """One line an order."""
        return b"".join(
            orjson.dumps(
                order_view(order, self._workflow, with_customer=self._with_customer),
                option=orjson.OPT_APPEND_NEWLINE,
            )
            for order in orders
        )

    def end(self) -> bytes:
        """Nothing."""
        return b""


class CsvForm:
    """A header, then one order a line; the columns that `tracking load` knows have the same names there."""

    content_type = CSV_CONTENT_TYPE
    extension = "csv"
    packed = False

    def __init__(self, *, with_customer: bool, with_bom: bool = False) -> None:
        self._with_customer = with_customer
        self._with_bom = with_bom

    def start(self) -> bytes:
        """The names of the columns; before them, if it is wanted, the mark by which Excel knows UTF-8."""
        names = csv_lines([column_names(with_customer=self._with_customer)])
        return codecs.BOM_UTF8 + names if self._with_bom else names

    def chunk(self, orders: Sequence[OrderDocument]) -> bytes:
        """One line an order."""
        return csv_lines(table_row(order, with_customer=self._with_customer) for order in orders)

    def end(self) -> bytes:
        """Nothing."""
        return b""


EXPORTED_TYPES = (CSV_MEDIA_TYPE, NDJSON_MEDIA_TYPE, PARQUET_MEDIA_TYPE)
"""The media types of the forms."""


def missing_types() -> frozenset[str]:
    """Those of `EXPORTED_TYPES` that this installation cannot produce."""
    return frozenset() if find_spec("pyarrow") else frozenset({PARQUET_MEDIA_TYPE})


def export_form(
    media_type: str, workflow: Workflow, *, with_customer: bool, with_bom: bool = False
) -> ExportForm:
    """The form for one of `EXPORTED_TYPES` that is not missing. The first as Parquet takes half a second.

    `with_bom`: a byte order mark before a CSV; the other forms have none.
    """
    if media_type == PARQUET_MEDIA_TYPE:
        from tracking_query.orders.parquet_form import ParquetForm  # noqa: PLC0415 - what it imports may not be installed

        return ParquetForm(with_customer=with_customer)
    if media_type == CSV_MEDIA_TYPE:
        return CsvForm(with_customer=with_customer, with_bom=with_bom)
    return NdjsonForm(workflow, with_customer=with_customer)
