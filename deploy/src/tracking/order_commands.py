"""The commands that send orders, follow them and report on them."""

import shutil
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from tracking.command_options import DataDir, TokenOption, checked_url, run, say
from tracking.data_folder import DEFAULT_FOLDER
from tracking.live import LiveOrders
from tracking.load import Summary
from tracking.load import load as send_records
from tracking.load_view import Format, describe, input_bytes, progress_bar, records_in
from tracking.local_stack import address_of, own_token
from tracking.report import Question, Report, fetch_report, time_of_option
from tracking.report_view import report_text
from tracking.tail import print_events


def tail(
    *,
    merchant: Annotated[list[str] | None, typer.Option(help="Only this merchant; may be repeated.")] = None,
    order: Annotated[list[str] | None, typer.Option(help="Only this order; may be repeated.")] = None,
    status: Annotated[
        list[str] | None, typer.Option(help="Only into or out of this status; may be repeated.")
    ] = None,
    after: Annotated[str | None, typer.Option(help="Go on from this cursor; else from now on.")] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="Each event as one line of JSON.")] = False,
    url: Annotated[str, typer.Option(help="The stream; else that of the running stack.")] = "",
    bearer: TokenOption = "",
    data_dir: DataDir = DEFAULT_FOLDER,
) -> None:
    """Follows the live events, one line each, and joins again by itself after a loss."""
    wanted = {"merchant_id": merchant, "order_id": order, "status": status}
    live = LiveOrders(
        checked_url(url, "ws") or address_of(data_dir, "notifier"),
        bearer or partial(own_token, data_dir, "tail", "orders:read"),
        {name: values for name, values in wanted.items() if values},
        after=after,
        snapshot=False,
    )
    run(print_events(live, json_lines=json_lines))


def load(
    files: Annotated[list[Path], typer.Argument(help="Files, plain or .gz.", show_default=False)],
    *,
    file_format: Annotated[
        Format, typer.Option("--format", help="By the file's name, if not said.")
    ] = "auto",
    lanes: Annotated[int, typer.Option(min=1, max=64, help="Batches under way at once.")] = 8,
    url: Annotated[str, typer.Option(help="Base URL of ingest; else that of the running stack.")] = "",
    bearer: TokenOption = "",
    data_dir: DataDir = DEFAULT_FOLDER,
) -> None:
    """Sends orders and updates from files, and says what became of them.

    Safe to repeat: an update without an update_id gets one that is derived from its content, so that
    a second run changes nothing. Two lines that say exactly the same are one update; occurred_at
    tells them apart. The updates of one order are sent in the order of the files.

    \b
    ndjson: a line is an operation as POST /v1/batch takes it:
      {"op": "create", "order_id": "o-1", "merchant_id": "acme",
       "customer": {"name": "Ada Abel", "contact_ref": "crm-1"}}
      {"op": "update", "order_id": "o-1", "status": "picked_up",
       "occurred_at": "2026-01-31T08:15:00+01:00"}
    \b
    csv: the first row names the columns, any of:
      op, order_id, merchant_id, customer_name, customer_contact_ref, status,
      occurred_at, metadata (a JSON object), expected_version, update_id
      Without op, a row with a status is an update and any other one a create.
      An empty field is not given.
    \b
    olist: the three files of the public Olist data set:
      orders, order items and customers, in any order

    Exit code 0: everything was decided (a refusal is a decision). 1: something was not; run it again.
    """
    summary = Summary()
    address = checked_url(url, "http") or address_of(data_dir, "ingest")
    bearer = bearer or own_token(data_dir, "load", "orders:write")
    try:
        records = records_in(files, file_format)
        with progress_bar(input_bytes(files, file_format), summary) as on_decided:
            run(
                send_records(
                    records,
                    ingest_url=address,
                    token=bearer,
                    lanes=lanes,
                    summary=summary,
                    on_decided=on_decided,
                )
            )
    finally:
        if summary.decided or summary.unreadable:
            say(describe(summary))
    if summary.unreadable:
        raise typer.Exit(1)


def report(
    name: Annotated[Report, typer.Argument(help="Which one.", show_default=False)],
    *,
    start: Annotated[
        str, typer.Option("--from", help="A date or a time with its offset; else 7 days ago.")
    ] = "",
    end: Annotated[str, typer.Option("--to", help="Up to, not including; else until now.")] = "",
    interval: Annotated[
        Literal["", "hour", "day"], typer.Option(help="Rows for each; else the whole range as one.")
    ] = "",
    time_zone: Annotated[str, typer.Option(help="Whose days and hours: an IANA name.  [default: UTC]")] = "",
    merchant: Annotated[list[str] | None, typer.Option(help="Only this merchant; may be repeated.")] = None,
    by_merchant: Annotated[bool, typer.Option("--by-merchant", help="Rows for each merchant.")] = False,
    clock: Annotated[
        Literal["", "recorded", "occurred"],
        typer.Option(help="When changes were decided, or when they happened.  [default: recorded]"),
    ] = "",
    since: Annotated[
        Literal["", "created", "updated"], typer.Option(help="What ages count from.  [default: created]")
    ] = "",
    whole_way: Annotated[
        bool, typer.Option("--whole-way", help="Durations from creation to the final status.")
    ] = False,
    url: Annotated[str, typer.Option(help="Base URL of query; else that of the running stack.")] = "",
    bearer: TokenOption = "",
    data_dir: DataDir = DEFAULT_FOLDER,
) -> None:
    """Prints a report over many orders, as a table and a chart.

    \b
    durations      how long orders take from status to status, or --whole-way
    status-counts  how many orders came into each status, and left it
    open-orders    how many are open now, by status and age; takes --since, and no time
    refusals       how many updates were refused, by reason and source; takes no --clock
    """
    asked = {
        "from": start and time_of_option("--from", start, time_zone or "UTC"),
        "to": end and time_of_option("--to", end, time_zone or "UTC"),
        "interval": interval,
        "time_zone": time_zone,
        "group_by": "merchant" if by_merchant else "",
        "clock": clock,
        "since": since,
        "per": "order" if whole_way else "",
    }
    question: Question = [(parameter, value) for parameter, value in asked.items() if value]
    question += [("merchant_id", each) for each in merchant or []]
    address = checked_url(url, "http") or address_of(data_dir, "query")
    bearer = bearer or own_token(data_dir, "report", "orders:read")
    document = run(fetch_report(address, bearer, name, question))
    say(report_text(name, document, shutil.get_terminal_size().columns))
