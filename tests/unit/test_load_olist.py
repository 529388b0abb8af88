"""The converter of the Olist data set."""

import csv
from pathlib import Path
from typing import Any

import orjson
import pytest

from tracking.load.olist import Catalogue, operations_of, read_olist, with_offset
from tracking.load.records import UnreadableFile, UnreadableRecord

ORDER = {
    "order_id": "order1",
    "customer_id": "c1",
    "order_status": "delivered",
    "order_purchase_timestamp": "2018-01-10 10:00:00",
    "order_approved_at": "2018-01-10 11:00:00",
    "order_delivered_carrier_date": "2018-01-11 09:00:00",
    "order_delivered_customer_date": "2018-01-12 16:30:00",
    "order_estimated_delivery_date": "2018-01-20 00:00:00",
}
CUSTOMER = {
    "customer_id": "c1",
    "customer_unique_id": "0123456789abcdef",
    "customer_city": "campinas",
    "customer_state": "SP",
}


def _item(seller: str, order_id: str = "order1") -> dict[str, str]:
    return {"order_id": order_id, "seller_id": seller, "price": "10.5", "freight_value": "2.25"}


def _catalogue(*sellers: str) -> Catalogue:
    catalogue = Catalogue()
    for seller in sellers:
        catalogue.add_item(_item(seller))
    catalogue.add_customer(CUSTOMER)
    return catalogue


def _told(operations: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(o["order_id"], o.get("status", "created"), o.get("occurred_at")) for o in operations]


def test_an_order_becomes_a_create_and_its_updates() -> None:
    operations = operations_of(ORDER, _catalogue("s1", "s1"))

    assert _told(operations) == [
        ("order1", "created", "2018-01-10T10:00:00-02:00"),
        ("order1", "picked_up", "2018-01-11T09:00:00-02:00"),
        ("order1", "in_transit", "2018-01-11T09:00:00-02:00"),
        ("order1", "delivered", "2018-01-12T16:30:00-02:00"),
    ]
    assert operations[0] == {
        "op": "create",
        "order_id": "order1",
        "merchant_id": "s1",
        "customer": {"name": "Customer 01234567", "contact_ref": "0123456789abcdef"},
        "occurred_at": "2018-01-10T10:00:00-02:00",
        "metadata": {
            "city": "campinas",
            "state": "SP",
            "items": 2,
            "price_brl": 21.0,
            "freight_brl": 4.5,
            "approved_at": "2018-01-10T11:00:00-02:00",
        },
        "due_at": "2018-01-20T00:00:00-02:00",
    }


def test_an_order_of_several_sellers_becomes_one_per_seller() -> None:
    operations = operations_of(ORDER, _catalogue("s2", "s1", "s2"))

    creates = [o for o in operations if o["op"] == "create"]
    assert [(o["order_id"], o["merchant_id"], o["metadata"]["items"]) for o in creates] == [
        ("order1.1", "s2", 2),
        ("order1.2", "s1", 1),
    ]


def test_times_that_run_backwards_keep_the_order_of_the_workflow() -> None:
    backwards = ORDER | {"order_delivered_carrier_date": "2018-01-09 08:00:00"}

    assert [told[1] for told in _told(operations_of(backwards, _catalogue("s1")))] == [
        "created",
        "picked_up",
        "in_transit",
        "delivered",
    ]


def test_what_did_not_happen_is_not_sent() -> None:
    row = ORDER | {"order_delivered_customer_date": "", "order_status": "canceled", "order_approved_at": ""}

    operations = operations_of(row, _catalogue("s1"))

    assert [told[1] for told in _told(operations)] == ["created", "picked_up", "in_transit", "cancelled"]
    assert "approved_at" not in operations[0]["metadata"]


def test_the_offset_is_that_of_the_day() -> None:
    assert with_offset("2018-01-10 10:00:00").endswith("-02:00")  # summer time
    assert with_offset("2018-07-10 10:00:00").endswith("-03:00")


def test_what_cannot_be_understood_is_told() -> None:
    with pytest.raises(UnreadableRecord, match="not a time"):
        with_offset("yesterday")
    with pytest.raises(UnreadableRecord, match="no customer"):
        operations_of(ORDER | {"customer_id": "c9"}, _catalogue("s1"))


def _write(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_the_files_are_told_apart_by_their_columns(tmp_path: Path) -> None:
    customers = _write(tmp_path / "a.csv", [CUSTOMER])
    orders = _write(tmp_path / "b.csv", [ORDER, ORDER | {"order_id": "order2", "customer_id": "c9"}])
    items = _write(tmp_path / "c.csv", [_item("s1"), _item("s1", "order2")])

    records = list(read_olist([customers, orders, items]))

    assert [record.fault is None for record in records] == [True] * 4 + [False]
    assert {record.order_key for record in records[:4]} == {"order1"}
    assert orjson.loads(records[3].body)["status"] == "delivered"


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    orders = _write(tmp_path / "b.csv", [ORDER])

    with pytest.raises(UnreadableFile, match="three files"):
        list(read_olist([orders, orders]))


def test_whatever_is_not_sent_is_told_with_its_line_and_reason(tmp_path: Path) -> None:
    customers = _write(tmp_path / "a.csv", [CUSTOMER])
    undated = ORDER | {"order_id": "order2", "order_delivered_customer_date": ""}
    orders = _write(tmp_path / "b.csv", [ORDER, undated, ORDER | {"order_id": "bare"}])
    items = [_item("s1"), _item("s1", "order2"), _item("s1", "gone"), _item("s1", "gone") | {"price": "free"}]

    records = list(read_olist([customers, orders, _write(tmp_path / "c.csv", items)]))

    told = [f"{record.location}: {record.fault.line()}" for record in records if record.fault]
    assert told == [
        f'{tmp_path}/c.csv:5: price "free": not a number',
        f"{tmp_path}/b.csv:3: order_delivered_customer_date: a step without its time;"
        " the order is delivered; the step is not sent",
        f'{tmp_path}/b.csv:4: order_id "bare": no items; '
        "the items say whose order it is; there are none of it",
        f'{tmp_path}/c.csv:4: order_id "gone": items without their order;'
        " gone is not in the orders file; nothing of it is sent",
    ]
    assert [record.operation.get("status") for record in records if not record.fault] == [
        None,
        "picked_up",
        "in_transit",
        "delivered",
        None,
        "picked_up",
        "in_transit",
    ]
