"""Files in which orders have their merchants' own numbers."""

from pathlib import Path
from typing import Any

from tracking.load.header import ColumnMap, parse_map
from tracking.load.readers import Files, read_files
from tracking.load.records import Record
from tracking_shared.contracts.references import referenced_order_id

ORDER_ID = referenced_order_id("acme", "WH/OUT/00012")
CUSTOMER = {"name": "Ada", "contact_ref": "crm-1"}
NAMED = {"merchant_id": "acme", "reference": "WH/OUT/00012"}


def read(path: Path, content: str, columns: ColumnMap | None = None) -> list[Record]:
    path.write_text(content)
    files = Files([path], lambda _: None, "auto", columns=columns or ColumnMap())
    return list(read_files(files))


def operations(records: list[Record]) -> list[dict[str, Any]]:
    assert [record.fault.line() for record in records if record.fault] == []
    return [
        {name: value for name, value in record.operation.items() if name != "update_id"} for record in records
    ]


def test_a_row_names_its_order_by_merchant_and_reference(tmp_path: Path) -> None:
    records = read(
        tmp_path / "a.csv",
        "merchant_id,reference,customer_name,customer_contact_ref,status\n"
        "acme,WH/OUT/00012,Ada,crm-1,\n"
        "acme,WH/OUT/00012,,,picked_up\n"
        "acme,,,,picked_up\n",
    )
    assert operations(records)[:2] == [
        {"op": "create", "order_id": ORDER_ID, "customer": CUSTOMER, **NAMED},
        {"op": "update", "order_id": ORDER_ID, "status": "picked_up"},
    ]
    assert [record.order_key for record in records[:2]] == [
        ORDER_ID
    ] * 2  # so they are sent one after the other
    assert "order_id" not in operations(records)[2]  # which ingest refuses


def test_an_order_with_its_status_may_be_named_so(tmp_path: Path) -> None:
    records = read(
        tmp_path / "a.csv",
        "merchant_id,Order no,customer_name,customer_contact_ref,status\n"
        "acme,WH/OUT/00012,Ada,crm-1,picked_up\n",
        parse_map(["Order no=reference"]),
    )
    assert operations(records) == [
        {"op": "create", "order_id": ORDER_ID, "customer": CUSTOMER, **NAMED},
        {"op": "update", "order_id": ORDER_ID, "status": "picked_up"},
    ]
    assert [record.kind for record in records] == ["may_exist", "current_status"]


def test_a_line_names_its_order_by_merchant_and_reference(tmp_path: Path) -> None:
    named = '"merchant_id":"acme","reference":"WH/OUT/00012"'
    records = read(
        tmp_path / "a.ndjson",
        f'{{"op":"create",{named},"customer":{{"name":"Ada","contact_ref":"crm-1"}}}}\n'
        f'{{"op":"update",{named},"status":"picked_up"}}\n'
        f'{{{named},"order_id":null,"status":"in_transit"}}\n',
    )
    assert operations(records) == [
        {"op": "create", "order_id": ORDER_ID, "customer": CUSTOMER, **NAMED},
        {"op": "update", "order_id": ORDER_ID, "status": "picked_up"},
        {"op": "update", "order_id": ORDER_ID, "status": "in_transit"},
    ]


def test_an_update_is_the_same_however_it_names_its_order(tmp_path: Path) -> None:
    by_reference, by_id = (
        read(tmp_path / "a.ndjson", f'{{"op":"update",{named},"status":"picked_up"}}\n')
        for named in ('"merchant_id":"acme","reference":"WH/OUT/00012"', f'"order_id":"{ORDER_ID}"')
    )
    assert by_reference[0].operation["update_id"] == by_id[0].operation["update_id"]


def test_an_order_id_of_the_file_stays(tmp_path: Path) -> None:
    records = read(
        tmp_path / "a.csv",
        "order_id,merchant_id,reference,customer_name,customer_contact_ref,status\n"
        "o-1,acme,WH/OUT/00012,Ada,crm-1,\no-1,acme,WH/OUT/00012,,,picked_up\n",
    )
    assert operations(records) == [
        {"op": "create", "order_id": "o-1", "customer": CUSTOMER, **NAMED},
        {"op": "update", "order_id": "o-1", "status": "picked_up"},
    ]


def test_what_is_no_reference_is_left_to_ingest_which_says_why(tmp_path: Path) -> None:
    too_long = "x" * 65
    records = read(
        tmp_path / "a.ndjson",
        f'{{"op":"update","merchant_id":"acme","reference":"{too_long}","status":"picked_up"}}\n'
        '{"op":"update","merchant_id":7,"reference":"1","status":"picked_up"}\n',
    )
    assert [operation["reference"] for operation in operations(records)] == [too_long, "1"]


def test_an_export_is_loaded_with_its_references(tmp_path: Path) -> None:
    records = read(
        tmp_path / "a.csv",
        "order_id,merchant_id,reference,customer_name,customer_contact_ref,status,version,active,created_at,"
        "updated_at,source_type,source_id,metadata\n"
        f"{ORDER_ID},acme,WH/OUT/00012,Ada,crm-1,created,1,true,2026-03-01T08:00:00.000Z,"
        "2026-03-01T08:00:00.000Z,system,shop,{}\n"
        "o-2,acme,'=1+1,Ada,crm-1,created,1,true,2026-03-01T08:00:00.000Z,2026-03-01T08:00:00.000Z,system,shop,{}\n",
    )
    assert [(operation["order_id"], operation["reference"]) for operation in operations(records)] == [
        (ORDER_ID, "WH/OUT/00012"),
        ("o-2", "=1+1"),
    ]
