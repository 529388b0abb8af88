"""A load counts the updates that the server holds, and sends the steps to a status that is out of reach."""

from collections.abc import Sequence
from pathlib import Path

from tracking.load.order_records import OrderQueue, sort_records
from tracking.load.readers import Files, read_files
from tracking.load.records import Record
from tracking.load.spool import open_spool
from tracking.load.summary import Summary, describe
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

HEADER = "order_id,merchant_id,customer_name,customer_contact_ref,status,occurred_at"


def records_of(folder: Path, rows: Sequence[str]) -> list[Record]:
    path = folder / "a.csv"
    path.write_text("\n".join([HEADER, *rows, ""]))
    with open_spool() as spool:
        spool.add_all(read_files(Files([path], lambda _: None)))
        [records] = spool.orders()
    return sort_records(list(records), DEFAULT_WORKFLOW)


def sent(records: list[Record], outcomes: list[str], summary: Summary) -> list[str]:
    """The statuses that are sent, if the server answers so, and then applies all."""
    queue = OrderQueue(records, DEFAULT_WORKFLOW)
    statuses = []
    while (record := queue.next(summary)) is not None:
        statuses.append(str(record.operation.get("status", "create")))
        queue.take({"outcome": outcomes.pop(0) if outcomes else "applied"}, summary)
    return statuses


def test_a_held_update_is_counted_and_is_no_refusal(tmp_path: Path) -> None:
    summary = Summary()
    records = records_of(tmp_path, ["o-1,,,,delivered,2026-11-01T08:00:00Z"])
    assert sent(records, ["held"], summary) == ["delivered"]
    assert (summary.held, summary.updates, summary.is_complete) == (1, 1, True)
    assert "held 1," in describe(summary)


def test_the_steps_to_the_status_of_a_flat_row_are_sent_where_it_is_held(tmp_path: Path) -> None:
    summary = Summary()
    records = records_of(tmp_path, ["o-1,acme,Ada,crm-1,delivered,2026-11-01T08:00:00Z"])
    statuses = sent(records, ["duplicate", "held", "duplicate", "applied", "duplicate"], summary)
    assert statuses == ["create", "delivered", "picked_up", "in_transit", "delivered"]
    assert (summary.held, summary.inferred, summary.duplicate) == (0, 1, 2)


def test_where_it_is_held_again_and_again_it_is_counted_in_the_end(tmp_path: Path) -> None:
    summary = Summary()
    records = records_of(tmp_path, ["o-1,acme,Ada,crm-1,delivered,2026-11-01T08:00:00Z"])
    assert len(sent(records, ["duplicate", *["held"] * 20], summary)) < 12
    assert summary.held == 1
