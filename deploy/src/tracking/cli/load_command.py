"""The command `load`."""

import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.progress import BarColumn, ProgressColumn, Task, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from tracking.cli.command_options import DataDir, TokenOption, checked_url, configured_workflow, run
from tracking.devstack.data_folder import DEFAULT_FOLDER, address_of, own_token
from tracking.errors import ExitCode
from tracking.load.dry_run import check_order
from tracking.load.header import ColumnMap, parse_map
from tracking.load.olist import read_olist
from tracking.load.operations import ReadOptions
from tracking.load.order_records import sort_records
from tracking.load.readers import Files, Format, read_files
from tracking.load.records import Record, quoted
from tracking.load.sender import send
from tracking.load.spool import Spool, open_spool
from tracking.load.summary import Summary, describe, describe_check
from tracking.terminal import echo, progress_bar
from tracking_shared.contracts.timestamps import time_zones
from tracking_shared.contracts.workflow import Workflow


def load(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILES...", help="Files, plain or gzipped; - is standard input.", show_default=False
        ),
    ],
    *,
    file_format: Annotated[
        Format, typer.Option("--format", help="Else detected by the file's name or first character.")
    ] = "auto",
    column_map: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="THEIRS=OURS", help="Assigns a column; may be repeated. See below."),
    ] = None,
    status_map: Annotated[
        list[str] | None,
        typer.Option("--map-status", metavar="THEIRS=OURS", help="Translates a status; may be repeated."),
    ] = None,
    time_zone: Annotated[
        str, typer.Option(help="The zone of times without an offset: an IANA name, Europe/Berlin.")
    ] = "",
    delimiter: Annotated[str, typer.Option(help="Of CSV; else detected from the header.")] = "",
    encoding: Annotated[str, typer.Option(help="Else detected: UTF-8, UTF-16 or Windows-1252.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Validate all files, and send nothing.")] = False,
    allow_refused: Annotated[
        bool, typer.Option("--allow-refused", help="Exit code 0 also if something was refused or not sent.")
    ] = False,
    lanes: Annotated[int, typer.Option(min=1, max=64, help="Batches in progress at once.")] = 8,
    url: Annotated[str, typer.Option(help="Base URL of ingest; else that of the running stack.")] = "",
    bearer: TokenOption = "",
    data_dir: DataDir = DEFAULT_FOLDER,
) -> None:
    """Sends orders and updates from files, and reports the results.

    Safe to repeat: an update without an update_id gets one that is derived from its content, so that
    a second run changes nothing. Two identical lines are one update; occurred_at makes them
    different. All files are read before anything is sent, and the rows of one order are sent
    in the order of their times.

    \b
    csv: the first row names the columns, any of:
      op, order_id, merchant_id, reference, customer_name, customer_contact_ref,
      status, occurred_at, created_at, updated_at, due_at, metadata (a JSON
      object), expected_version, update_id, kind, message, reason, eta
      In place of order_id, merchant_id and reference may name the order.
      A row with merchant, customer and status creates the order and updates it to
      that status, through the statuses between. Else a row with a kind is a
      checkpoint, one with a status an update, with a reason besides a correction,
      and any other one a create. An empty field counts as absent.
      --map "Order no=order_id" names a column, --map Weight=metadata.weight puts
      it into the metadata, --map Weight= leaves it out, --map "*=" all others.
    \b
    ndjson: a line is an operation of POST /v1/batch, or an order of an export:
      {"op": "create", "order_id": "o-1", "merchant_id": "acme",
       "customer": {"name": "Ada Abel", "contact_ref": "crm-1"}}
      {"op": "update", "order_id": "o-1", "status": "picked_up",
       "occurred_at": "2026-01-31T08:15:00+01:00"}
      {"op": "checkpoint", "order_id": "o-1", "kind": "note", "message": "Ring twice"}
      {"op": "correct", "order_id": "o-1", "status": "created", "reason": "Wrong parcel"}
    \b
    olist: the three files of the public Olist data set:
      orders, order items and customers, in any order

    Exit code 0: everything is recorded. 2: some rows were refused or not sent; they are counted, and
    the first 20 are shown. 1: a file cannot be read, or some rows were not decided; run it again.
    """
    workflow = configured_workflow()
    summary = Summary()
    files = Files(
        paths,
        _notice,
        file_format,
        encoding,
        _delimiter(delimiter),
        _checked_map(column_map or []),
        ReadOptions(_zone(time_zone), _statuses(status_map or [], workflow), workflow),
    )
    summary.headers = files.headers
    send_all = None if dry_run else _sender(url, bearer, lanes, data_dir)
    with open_spool() as spool:
        spool.add_all(_without_faults(files, summary))
        orders = _sorted_orders(spool, workflow, summary)
        if send_all is None:
            for records in orders:
                check_order(records, workflow, summary)
            echo(describe_check(summary))
        else:
            _send(partial(send_all, orders, workflow=workflow, summary=summary), spool.count, summary)
    if not (summary.is_complete or allow_refused):
        raise typer.Exit(ExitCode.INCOMPLETE)


def _sender(url: str, bearer: str, lanes: int, data_dir: Path) -> partial[Coroutine[Any, Any, None]]:
    address = checked_url(url, "http") or address_of(data_dir, "ingest")
    token = bearer or own_token(data_dir, "load", "orders:write orders:correct")
    return partial(send, ingest_url=address, token=token, lanes=lanes)


def _send(send_all: partial[Coroutine[Any, Any, None]], total: int, summary: Summary) -> None:
    try:
        with _decided_bar(total, summary) as on_decided:
            run(send_all(on_decided=on_decided))
    finally:
        summary.undecided = total - summary.repeated - summary.decided
        echo(describe(summary))


class _Rate(ProgressColumn):
    """The column with the number of decided records, and the rate."""

    def __init__(self, summary: Summary) -> None:
        super().__init__()
        self._summary = summary

    def render(self, task: Task) -> Text:
        rate = self._summary.decided / max(self._summary.seconds, 0.001)
        return Text(f"{self._summary.decided:,} decided, {rate:,.0f}/s")


@contextmanager
def _decided_bar(total: int, summary: Summary) -> Iterator[Callable[[], None]]:
    """Shows the decided part of `total` records while the body runs, and yields a function to update it."""
    columns = (
        TextColumn("loading"),
        BarColumn(),
        TaskProgressColumn(),
        _Rate(summary),
        TimeRemainingColumn(),
    )
    with progress_bar("load", total, *columns) as (progress, task):

        def update() -> None:
            progress.update(task, completed=summary.decided + summary.repeated)

        yield update
        update()


def _without_faults(files: Files, summary: Summary) -> Iterator[Record]:
    is_olist = files.file_format == "olist"
    for record in read_olist(files.paths, files.encoding) if is_olist else read_files(files):
        if record.fault is None:
            yield record
        else:
            summary.add_fault(record)


def _sorted_orders(spool: Spool, workflow: Workflow, summary: Summary) -> Iterator[list[Record]]:
    for records in spool.orders():
        ordered = sort_records(records, workflow)
        summary.repeated += len(records) - len(ordered)
        yield ordered


def _notice(line: str) -> None:
    typer.echo(line, err=True)
    sys.stderr.flush()


def _delimiter(text: str) -> str:
    chosen = {"tab": "\t", "\\t": "\t"}.get(text.lower(), text)
    if len(chosen) > 1 or chosen in ('"', "\r", "\n"):
        raise typer.BadParameter("one character, or tab", param_hint="--delimiter")
    return chosen


def _zone(name: str) -> ZoneInfo | None:
    if not name:
        return None
    if name not in time_zones():
        message = f"{quoted(name)} is no IANA name of a time zone, like Europe/Berlin"
        raise typer.BadParameter(message, param_hint="--time-zone")
    return ZoneInfo(name)


def _checked_map(texts: list[str]) -> ColumnMap:
    try:
        return parse_map(texts)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--map") from None


def _statuses(texts: list[str], workflow: Workflow) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        theirs, equals, ours = (part.strip() for part in text.rpartition("="))
        if not equals or not theirs or ours not in workflow.statuses:
            known = ", ".join(workflow.transitions)
            message = f"write theirs=ours, not {quoted(text)}; ours are {known}"
            raise typer.BadParameter(message, param_hint="--map-status")
        found[" ".join(theirs.split()).casefold()] = ours
    return found
