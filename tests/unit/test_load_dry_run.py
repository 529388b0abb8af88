"""A dry run: what ingest and order-state would refuse of a file is told before anything is sent."""

from pathlib import Path

from tracking.load.dry_run import check_order
from tracking.load.header import parse_map
from tracking.load.order_records import sort_records
from tracking.load.readers import Files, read_files
from tracking.load.spool import open_spool
from tracking.load.summary import Summary, describe_check
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

HEADER = "order_id,merchant_id,customer_name,Tel,status,occurred_at,metadata,op"


def _checked(folder: Path, *rows: str) -> Summary:
    path = folder / "a.csv"
    path.write_text("\n".join([HEADER, *rows, ""]))
    files = Files([path], lambda _: None, columns=parse_map(["Tel=customer_contact_ref"]))
    summary = Summary(headers=files.headers)
    with open_spool() as spool:
        spool.add_all(read_files(files))
        for records in spool.orders():
            check_order(sort_records(records, DEFAULT_WORKFLOW), DEFAULT_WORKFLOW, summary)
    return summary


def test_a_good_file_has_no_faults(tmp_path: Path) -> None:
    summary = _checked(
        tmp_path, "o-1,m,Ada,c,,,,", "o-1,,,,picked_up,,,", "o-2,m,Bob,c,delivered,2026-01-31T08:15:00Z,,"
    )
    assert summary.is_complete
    assert describe_check(summary) == "dry run, nothing was sent: orders 2, updates 2: no faults"


def test_faults_are_told_with_line_column_and_value(tmp_path: Path) -> None:
    summary = _checked(
        tmp_path,
        "#1,m,Ada,c,,,,",
        "o-2,m,Ada,,,,,",
        "o-3,,,,picked_up,2199-01-31T08:15:00Z,,",
        "o-4,,,,lost,,,",
        'o-5,,,,picked_up,,"{""a.b"": 1}",',
        "o-6,,,,picked_up,,,delete",
        "o-7,m,Ada,c,,,,",
        "o-7,,,,delivered,,,",
    )

    places = [told.partition(": ")[2] for _, _, told in summary.shown]
    assert places == [
        'order_id "#1": must be 1 to 64 of letters, digits and . _ : -, a letter or digit first',
        'Tel "": must have at least 1 character',
        'occurred_at "2199-01-31T08:15:00Z": must not be more than 5 minutes in the future',
        'status "lost": unknown status; known are created, picked_up, in_transit, delivered, cancelled',
        "metadata: a key must not start with $ nor hold a dot or NUL",
        'op "delete": must be create, update, checkpoint or correct',
        "the order would be created by then; it cannot become delivered",
    ]
    assert summary.not_sent == {"not valid": 5, "unknown status": 1, "invalid-transition": 1}
    assert "faults 7 (5 not valid, 1 invalid-transition, 1 unknown status)" in describe_check(summary)


def test_checkpoints_and_corrections_are_checked_too(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    create = '{"op":"create","order_id":"o","merchant_id":"m","customer":{"name":"Ada","contact_ref":"c"}}'
    lines = [
        create,
        '{"op":"checkpoint","order_id":"o","kind":"note"}',
        '{"op":"correct","order_id":"o","status":"delivered","reason":"scans were lost"}',
        '{"op":"checkpoint","order_id":"o","kind":"eaten"}',
        '{"op":"correct","order_id":"o","status":"delivered","reason":"again"}',
        '{"op":"correct","order_id":"o","status":"in_transit"}',
    ]
    path.write_text("\n".join(lines))
    summary = Summary()
    with open_spool() as spool:
        spool.add_all(read_files(Files([path], lambda _: None)))
        for records in spool.orders():
            check_order(records, DEFAULT_WORKFLOW, summary)
    assert [told.partition(": ")[2] for _, _, told in summary.shown] == [
        'kind "eaten": unknown kind; known are note, delivery_attempted, delayed, eta_changed, proof_added',
        "the order would be delivered by then",
        "reason: is missing",
    ]
