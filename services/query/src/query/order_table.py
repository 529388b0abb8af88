"""Orders as rows of a table: what CSV and Parquet have in common. Pure."""

import orjson

from query.csv_text import Cell
from shared.documents import OrderDocument

PARQUET_MEDIA_TYPE = "application/vnd.apache.parquet"
"""Here, since `parquet_form` cannot be imported everywhere."""


def column_names(*, with_customer: bool) -> list[str]:
    """The columns of a table of orders. Those with personal data are there only for those entitled."""
    return [
        "order_id",
        "merchant_id",
        *(["customer_name", "customer_contact_ref"] if with_customer else []),
        "status",
        "version",
        "active",
        "created_at",
        "updated_at",
        "source_type",
        *(["source_id"] if with_customer else []),
        "metadata",
    ]


def table_row(order: OrderDocument, *, with_customer: bool) -> list[Cell]:
    """The order under `column_names`."""
    customer = order["customer"]
    source = order["source"]
    return [
        order["_id"],
        order["merchant_id"],
        *([customer["name"], customer["contact_ref"]] if with_customer else []),
        order["status"],
        order["version"],
        order["active"],
        order["created_at"],
        order["updated_at"],
        source["type"],
        *([source["id"]] if with_customer else []),
        orjson.dumps(order["metadata"]).decode(),
    ]
