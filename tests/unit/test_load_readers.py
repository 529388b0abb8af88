"""Files of operations: what is taken out of them, and what is said of what cannot be read."""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tracking.load.header import parse_map
from tracking.load.operations import ReadOptions
from tracking.load.readers import Files, Format, read_files
from tracking.load.records import Record, UnreadableFile
from tracking.load.sources import MAX_LINE_CHARACTERS

CREATE = {
    "op": "create",
    "order_id": "o-1",
    "merchant_id": "acme",
    "customer": {"name": "Ada", "contact_ref": "crm-1"},
}
CREATE_LINE = (
    '{"op":"create","order_id":"o-1","merchant_id":"acme","customer":{"name":"Ada","contact_ref":"crm-1"}}'
)


def _read(
    path: Path,
    content: bytes | str,
    *,
    maps: Sequence[str] = (),
    file_format: Format = "auto",
    **options: Any,
) -> tuple[list[Record], list[str]]:
    """The records of one file, and what was said of it."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    said: list[str] = []
    files = Files([path], said.append, file_format, columns=parse_map(maps), **options)
    return list(read_files(files)), said


def _operations(records: list[Record]) -> list[dict[str, Any]]:
    assert [record.fault.line() for record in records if record.fault] == []
    return [
        {name: value for name, value in record.operation.items() if name != "update_id"} for record in records
    ]


def _faults(records: list[Record]) -> list[str]:
    return [f"{record.location.line}: {record.fault.line()}" for record in records if record.fault]


def test_a_line_of_ndjson_is_an_operation(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"

    [record], _ = _read(path, f"{CREATE_LINE}\n\n")

    assert _operations([record]) == [CREATE]
    assert (str(record.location), record.order_key, record.creates) == (f"{path}:1", "o-1", True)


def test_a_bad_line_is_told_with_its_place_and_the_others_are_read(tmp_path: Path) -> None:
    records, _ = _read(
        tmp_path / "a.ndjson", f'{CREATE_LINE}\nnonsense\n[1]\n{{"op":"update"}}\n{{"order_id":"o"}}\n'
    )

    assert [record.fault is None for record in records] == [True, False, False, True, False]
    assert _faults(records) == [
        "2: \"nonsense\": not JSON; invalid literal, expected 'null', at character 1",
        '3: "[1]": not a JSON object',
        "5: neither a status nor a new order; a new order has a merchant and a customer",
    ]


def test_the_ids_of_earlier_releases_are_those_of_this_one(tmp_path: Path) -> None:
    rows, _ = _read(
        tmp_path / "a.csv",
        "order_id,merchant_id,customer_name,customer_contact_ref,status,occurred_at,metadata,expected_version,update_id\n"
        'o-1,acme,"Abel, Ada ",crm-1,,2026-01-31T08:15:00+01:00,"{""parcels"": 2}",,\n'
        "o-1,,,,picked_up,,{},1,\n"
        "o-1,,,,in_transit,2026-01-31 08:15:00.5Z,,,mine\n",
    )
    lines, _ = _read(
        tmp_path / "a.ndjson",
        '{"op":"create","order_id":"o-1","merchant_id":"m","customer":{"name":"Ada","contact_ref":"c"},'
        '"metadata":{},"occurred_at":null}\n'
        '{"op":"update","order_id":"o-1","status":"picked_up","update_id":""}\n',
    )

    assert [record.operation["update_id"] for record in rows + lines] == [
        "load-50f706df51635ce1899b061b35157f29",
        "load-463847176c93fd55f1a1b5e217cf434a",
        "mine",
        "load-e5c33ed3dd60ffca1388dc01ac61cac7",
        "load-51bb133eefe07a8409476912dd0202be",
    ]


def test_a_csv_row_becomes_a_create_or_an_update(tmp_path: Path) -> None:
    records, said = _read(
        tmp_path / "a.csv",
        "order_id,merchant_id,customer_name,customer_contact_ref,status,occurred_at,metadata,expected_version\n"
        'o-1,acme,"Abel, Ada",crm-1,,2026-01-31T08:15:00+01:00,"{""parcels"": 2}",\n'
        "o-1,,,,picked_up,,,1\n"
        "o-1,acme,,,in_transit,,,\n",
    )

    assert _operations(records) == [
        {
            "op": "create",
            "order_id": "o-1",
            "merchant_id": "acme",
            "customer": {"name": "Abel, Ada", "contact_ref": "crm-1"},
            "occurred_at": "2026-01-31T08:15:00+01:00",
            "metadata": {"parcels": 2},
        },
        {"op": "update", "order_id": "o-1", "status": "picked_up", "expected_version": 1},
        {"op": "update", "order_id": "o-1", "status": "in_transit"},
    ]
    assert said == [f"{tmp_path / 'a.csv'}: CSV separated by commas, UTF-8"]


def test_a_kind_is_a_checkpoint_and_a_status_with_a_reason_a_correction(tmp_path: Path) -> None:
    records, _ = _read(
        tmp_path / "a.csv",
        "order_id,merchant_id,status,kind,message,reason,eta,due_at,occurred_at\n"
        'o-1,acme,,note," ring twice",,2026-01-31T10:00:00Z,2026-01-31T12:00:00Z,2026-01-31T08:15:00Z\n'
        "o-1,acme,in_transit,,,wrong parcel,,,\n"
        "o-1,,in_transit,,,,,,\n",
    )
    assert _operations(records) == [
        {
            "op": "checkpoint",
            "order_id": "o-1",
            "kind": "note",
            "message": " ring twice",
            "eta": "2026-01-31T10:00:00Z",
            "due_at": "2026-01-31T12:00:00Z",
            "occurred_at": "2026-01-31T08:15:00Z",
        },
        {"op": "correct", "order_id": "o-1", "status": "in_transit", "reason": "wrong parcel"},
        {"op": "update", "order_id": "o-1", "status": "in_transit"},
    ]
    lines, _ = _read(
        tmp_path / "a.ndjson",
        '{"op":"checkpoint","order_id":"o-1","kind":"note"}\n{"order_id":"o-1","kind":"note"}\n'
        '{"op":"correct","order_id":"o-1","status":"created","reason":"r"}\n',
    )
    assert [operation["op"] for operation in _operations(lines)] == ["checkpoint", "checkpoint", "correct"]


UPDATE = {"op": "update", "order_id": "o-1", "status": "picked_up"}
TABLE = "Order ID;Status;Note\r\no-1;picked_up;J\u00fcrgen\r\n"
TABBED = TABLE.replace(";", "\t")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xef\xbb\xbforder_id,status\r\no-1,picked_up\r\n", "commas, UTF-8"),
        (b"\xef\xbb\xbf\r\n\r\n ORDER-id ,StatuS\r\no-1,picked_up\r\n", "commas, UTF-8"),
        (TABLE.encode(), "semicolons, UTF-8"),
        (TABLE.encode("cp1252"), "semicolons, Windows-1252"),
        (TABBED.encode("utf-16"), "tabs, UTF-16"),
        (b"\xfe\xff" + TABBED.encode("utf-16-be"), "tabs, UTF-16"),
        (TABBED.encode("utf-16-le"), "tabs, UTF-16"),
        (TABBED.encode("utf-16-be"), "tabs, UTF-16"),
        (TABLE.replace(";", "|").encode(), "vertical bars, UTF-8"),
        (f"sep=;\r\n{TABLE}".encode(), "semicolons, UTF-8"),
        (gzip.compress(TABLE.encode(), mtime=0), "semicolons, UTF-8"),
        (b"order_id,status,,\no-1,Picked up,,\n,,,\n", "commas, UTF-8"),
        (b'"order_id";"status"\r"o-1";"picked_up"\r', "semicolons, UTF-8"),
    ],
)
def test_tables_as_others_write_them_are_read_and_what_was_guessed_is_said(
    tmp_path: Path, content: bytes, said: str
) -> None:
    maps = ["Note="] if b"N" in content or content[:2] == b"\x1f\x8b" else []

    records, told = _read(tmp_path / "table.txt", content, maps=maps)

    assert _operations(records) == [UPDATE]
    assert told[0].endswith(f": CSV separated by {said}")


def test_what_the_options_say_is_not_guessed(tmp_path: Path) -> None:
    records, said = _read(
        tmp_path / "a",
        "order_id#status\no-1#picked_up\n".encode("utf-16-le"),
        delimiter="#",
        encoding="utf-16-le",
    )
    assert _operations(records) == [UPDATE]
    assert said[0].endswith('separated by "#", UTF-16')
    with pytest.raises(UnreadableFile, match="--encoding klingon"):
        _read(tmp_path / "a", b"", encoding="klingon")
    with pytest.raises(UnreadableFile, match="--encoding hex"):
        _read(tmp_path / "a", b"", encoding="hex")
    records, _ = _read(tmp_path / "a", b'\xef\xbb\xbf"order_id","status"\no-1,picked_up\n', encoding="utf-8")
    assert _operations(records) == [UPDATE]


def test_columns_are_named_put_into_the_metadata_or_left_out(tmp_path: Path) -> None:
    maps = ["Bestell Nr.=order_id", "Zustand=status", "Gewicht=metadata.weight", "*="]

    records, said = _read(
        tmp_path / "a.csv",
        "BESTELL NR.;Zustand;Gewicht;Farbe\no-1;Zugestellt;2,5;rot\n",
        maps=maps,
        options=ReadOptions(status_names={"zugestellt": "delivered"}),
    )

    assert _operations(records) == [
        {"op": "update", "order_id": "o-1", "status": "delivered", "metadata": {"weight": "2,5"}}
    ]
    assert said[1].endswith('columns that are not loaded: "Farbe"')


@pytest.mark.parametrize(
    ("maps", "fault"),
    [
        (["order_id"], "write theirs=ours"),
        (["=order_id"], "write theirs=ours"),
        (["*=order_id"], "write theirs=ours"),
        (["a=colour"], "none of ours"),
        (["a=metadata."], "none of ours"),
        (["a b=status", "A_B=order_id"], "mapped twice"),
    ],
)
def test_a_map_that_cannot_be_meant_is_refused(maps: list[str], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        parse_map(maps)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("o,picked_up,,{,", 'metadata "{": not JSON'),
        ("o,picked_up,,[],", 'metadata "[]": not a JSON object'),
        ("o,picked_up,,,two", 'expected_version "two": not a number'),
        ("o,picked_up,,,,x", '"x": more fields than the header'),
        ("o,picked_up,yesterday,,", 'occurred_at "yesterday": not a time'),
        ("o,picked_up,\x1b[2J\u202e,,", 'occurred_at "\\u001b[2J\\u202e": not a time'),
    ],
)
def test_a_bad_row_is_told_with_column_and_value(tmp_path: Path, row: str, fault: str) -> None:
    records, _ = _read(
        tmp_path / "a.csv", f"order_id,status,occurred_at,metadata,expected_version\n{row}\no,picked_up\n"
    )

    assert [record.fault is None for record in records] == [False, True]
    [told] = _faults(records)
    assert told.startswith(f"2: {fault}")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "without a header"),
        (b"\n\n", "without a header"),
        (b"order_id,colour\no,red\n", 'unknown columns "colour"'),
        (b"order_id,Status,status \no,a,b\n", 'two columns for "status"'),
        (b"colour,size\x1b[2J\no,red\n", r"no column of ours; it has \"colour\", \"size\\u001b\[2J\""),
        (b"status\npicked_up\n", "no column order_id"),
        (b"order_id,status\n\x81,x\n", "not Windows-1252"),
        (b'order_id,status\n"o"x,y\n', "broken quoting"),
        (b"order_id,status\n" + b"o" * (MAX_LINE_CHARACTERS + 1), "longer than"),
        (
            "order_id,status\n\u00e4,x\n".encode() + b"\xe4,x\n",
            r"UTF-8 in some lines and not in others \(line 3\)",
        ),
        (b"PK\x03\x04\x14\0\0\0", "a spreadsheet"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "an old spreadsheet"),
        (b"order_id\0\0\0,status\n", "not a text file"),
        (b'[{"op":"update"}]', "broken quoting|no column of ours"),
    ],
)
def test_a_file_that_is_no_table_of_ours_is_told_in_a_sentence(
    tmp_path: Path, content: bytes, fault: str
) -> None:
    with pytest.raises(UnreadableFile, match=fault) as raised:
        _read(tmp_path / "a.csv", content)
    assert str(raised.value).isprintable()


def test_of_an_exported_order_is_loaded_what_was_said_of_it(tmp_path: Path) -> None:
    line = (
        '{"order_id":"o-1","merchant_id":"acme","customer":{"name":"Ada","contact_ref":"crm-1"},'
        '"status":"created","version":1,"active":true,"created_at":"2026-01-31T08:15:00.000Z",'
        '"updated_at":"2026-02-01T08:15:00.000Z","source":{"type":"system","id":"x"},"metadata":{},'
        '"allowed_next":["picked_up"],"something_later":null}\n'
    )
    records, _ = _read(tmp_path / "orders.ndjson", line)
    assert _operations(records) == [CREATE | {"metadata": {}, "occurred_at": "2026-01-31T08:15:00.000Z"}]


def test_a_due_time_is_loaded_with_a_new_order_and_null_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    order = (
        '{"order_id":"o-1","merchant_id":"acme","customer":{"name":"Ada","contact_ref":"crm-1"},'
        '"status":"created","version":1,"allowed_next":["picked_up"]%s}'
    )
    lines = [order % "", order % ',"due_at":null,"eta":null,"overdue":false']
    lines.append(order % ',"due_at":"2026-02-01T08:00:00.000Z","overdue":true')
    records, _ = _read(tmp_path / "orders.ndjson", "\n".join(lines))
    due = {"due_at": "2026-02-01T08:00:00.000Z"}
    assert _operations(records) == [CREATE, CREATE, CREATE | due]
    assert records[0].operation["update_id"] == records[1].operation["update_id"]
    records, _ = _read(
        tmp_path / "orders.csv",
        "order_id,merchant_id,customer_name,customer_contact_ref,status,due_at\n"
        "o-1,acme,Ada,crm-1,created,01.02.2026 9:00\n"
        "o-1,,,,picked_up,01.02.2026 9:00\n",
        options=ReadOptions(ZoneInfo("Europe/Berlin")),
    )
    step = {"op": "update", "order_id": "o-1", "status": "picked_up"}
    assert _operations(records) == [CREATE | {"due_at": "2026-02-01T09:00:00+01:00"}, step]


def test_a_json_array_is_told_from_lines(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="one object a line"):
        _read(tmp_path / "a.json", b'[{"op":"update"}]')


def test_a_column_that_is_mapped_and_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match='no file has a column "bestellnr"'):
        _read(tmp_path / "a.csv", "order_id,status\no,picked_up\n", maps=["Bestellnr=order_id"])


PACKED = gzip.compress(b'{"op":"update"}\n' * 50, mtime=0)


@pytest.mark.parametrize("content", [b"plain", PACKED[:-12], PACKED[:12] + b"\xff\xff" + PACKED[14:]])
def test_broken_compression_is_told(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UnreadableFile, match=r"a\.ndjson\.gz"):
        _read(tmp_path / "a.ndjson.gz", content)


def test_a_folder_and_a_missing_file_are_told(tmp_path: Path) -> None:
    good = tmp_path / "good.csv"
    good.write_text("order_id,status\n")
    for path, fault in ((tmp_path, "is a directory"), (tmp_path / "none", "there is no such file")):
        said: list[str] = []
        with pytest.raises(UnreadableFile, match=fault):
            list(read_files(Files([good, path], said.append)))
        assert not said, "it is told before the others are read"
