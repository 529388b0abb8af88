"""Files of operations: what is taken out of them, and what is said of what cannot be read."""

import gzip
from pathlib import Path

import orjson
import pytest

from tracking.records import (
    MAX_LINE_BYTES,
    Record,
    UnreadableFile,
    UnreadableRecord,
    operation_of_row,
    read_csv,
    read_ndjson,
    with_update_id,
)

CREATE = {
    "op": "create",
    "order_id": "o-1",
    "merchant_id": "acme",
    "customer": {"name": "Ada", "contact_ref": "crm-1"},
}


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _operations(records: list[Record]) -> list[dict[str, object]]:
    operations = [orjson.loads(record.body) for record in records]
    for operation in operations:
        operation.pop("update_id")
    return operations


def test_a_line_of_ndjson_is_an_operation(tmp_path: Path) -> None:
    path = _written(tmp_path / "a.ndjson", orjson.dumps(CREATE).decode() + "\n\n")

    (record,) = read_ndjson(path)

    assert _operations([record]) == [CREATE]
    assert (record.place, record.order_key, record.creates) == (f"{path}:1", "o-1", True)


def test_a_bad_line_is_told_with_its_place_and_the_others_are_read(tmp_path: Path) -> None:
    path = _written(tmp_path / "a.ndjson", '{"op":"update","order_id":"o"}\nnonsense\n[1]\n{"op":"update"}\n')

    records = list(read_ndjson(path))

    assert [record.fault is None for record in records] == [True, False, False, True]
    assert records[1].place == f"{path}:2"
    assert records[2].fault == "not a JSON object"


def test_progress_adds_up_to_the_size_of_the_stored_file(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson.gz"
    with gzip.open(path, "wt") as file:
        file.writelines(f'{{"op":"update","order_id":"o-{n}"}}\n' for n in range(5_000))

    records = list(read_ndjson(path))

    assert len(records) == 5_000
    assert sum(record.input_bytes for record in records) == path.stat().st_size


def test_the_same_content_has_the_same_update_id_and_other_content_another() -> None:
    again = dict(reversed(CREATE.items()))
    other = CREATE | {"merchant_id": "bolt"}

    assert with_update_id(CREATE) == with_update_id(again)
    assert with_update_id(CREATE)["update_id"] != with_update_id(other)["update_id"]


def test_an_update_id_of_the_file_is_kept() -> None:
    assert with_update_id(CREATE | {"update_id": "mine"})["update_id"] == "mine"


def test_a_csv_row_becomes_a_create_or_an_update(tmp_path: Path) -> None:
    path = _written(
        tmp_path / "a.csv",
        "order_id,merchant_id,customer_name,customer_contact_ref,status,occurred_at,metadata,expected_version\n"
        'o-1,acme,"Abel, Ada",crm-1,,2026-01-31T08:15:00+01:00,"{""parcels"": 2}",\n'
        "o-1,,,,picked_up,,,1\n",
    )

    assert _operations(list(read_csv(path))) == [
        {
            "op": "create",
            "order_id": "o-1",
            "merchant_id": "acme",
            "customer": {"name": "Abel, Ada", "contact_ref": "crm-1"},
            "occurred_at": "2026-01-31T08:15:00+01:00",
            "metadata": {"parcels": 2},
        },
        {"op": "update", "order_id": "o-1", "status": "picked_up", "expected_version": 1},
    ]


def test_a_csv_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbforder_id,status\r\no-1,picked_up\r\n")

    assert _operations(list(read_csv(path))) == [{"op": "update", "order_id": "o-1", "status": "picked_up"}]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"order_id": "o", "metadata": "{"}, "not JSON"),
        ({"order_id": "o", "metadata": "[]"}, "not a JSON object"),
        ({"order_id": "o", "expected_version": "two"}, "is not a number"),
        ({"order_id": "o", "": "x"}, "more fields than the header"),
    ],
)
def test_a_bad_row_is_told(row: dict[str, str], fault: str) -> None:
    with pytest.raises(UnreadableRecord, match=fault):
        operation_of_row(row)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "without a header"),
        (b"order_id,colour\no,red\n", "unknown columns: colour"),
        (b"order_id,status\n\xff,x\n", "not UTF-8"),
        (b'order_id,status\n"o"x,y\n', "expected"),
        (b"order_id,status\n" + b"o" * (MAX_LINE_BYTES + 1), "longer than"),
    ],
)
def test_a_file_that_is_no_csv_of_ours_is_told(tmp_path: Path, content: bytes, fault: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)

    with pytest.raises(UnreadableFile, match=fault):
        list(read_csv(path))


@pytest.mark.parametrize("content", [b"plain", gzip.compress(b'{"op":"update"}\n' * 50, mtime=0)[:-12]])
def test_broken_compression_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.ndjson.gz"
    path.write_bytes(content)

    with pytest.raises(UnreadableFile, match=r"a\.ndjson\.gz"):
        list(read_ndjson(path))
