"""The command that loads files."""

import sys
from collections.abc import Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from shared.time_zones import time_zones
from shared.workflow import Workflow
from tracking.command_options import DataDir, TokenOption, checked_url, run, say, workflow_here
from tracking.data_folder import DEFAULT_FOLDER
from tracking.load.arrange import arranged
from tracking.load.dry_run import check_order
from tracking.load.faults import quoted
from tracking.load.header import ColumnMap, parse_map
from tracking.load.olist import read_olist
from tracking.load.operations import Reading
from tracking.load.readers import Files, Format, read_files
from tracking.load.records import Record
from tracking.load.sender import send
from tracking.load.spool import Spool, open_spool
from tracking.load.summary import Summary
from tracking.load.view import describe, describe_check, progress_bar
from tracking.local_stack import address_of, own_token

EXIT_LEFT_OUT = 2


def load(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILES...", help="Files, plain or gzipped; - is standard input.", show_default=False
        ),
    ],
    *,
    file_format: Annotated[
        Format, typer.Option("--format", help="By the file's name or its first character, if not said.")
    ] = "auto",
    column_map: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="THEIRS=OURS", help="What a column is; may be repeated. See below."),
    ] = None,
    status_map: Annotated[
        list[str] | None,
        typer.Option("--map-status", metavar="THEIRS=OURS", help="What a status is; may be repeated."),
    ] = None,
    time_zone: Annotated[
        str, typer.Option(help="Whose times those without an offset are: an IANA name, Europe/Berlin.")
    ] = "",
    delimiter: Annotated[str, typer.Option(help="Of CSV; else it is guessed from the header.")] = "",
    encoding: Annotated[
        str, typer.Option(help="Else UTF-8, UTF-16 or Windows-1252, as the file looks.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the files to their end, and send nothing.")
    ] = False,
    allow_refused: Annotated[
        bool, typer.Option("--allow-refused", help="Exit code 0 also if something was refused or not sent.")
    ] = False,
    lanes: Annotated[int, typer.Option(min=1, max=64, help="Batches under way at once.")] = 8,
    url: Annotated[str, typer.Option(help="Base URL of ingest; else that of the running stack.")] = "",
    bearer: TokenOption = "",
    data_dir: DataDir = DEFAULT_FOLDER,
) -> None:
    """Sends orders and updates from files, and says what became of them.

    Safe to repeat: an update without an update_id gets one that is derived from its content, so that
    a second run changes nothing. Two lines that say exactly the same are one update; occurred_at
    tells them apart. All files are read before anything is sent, and the rows of one order are sent
    in the order of their times.

    \b
    csv: the first row names the columns, any of:
      op, order_id, merchant_id, customer_name, customer_contact_ref, status,
      occurred_at, created_at, updated_at, metadata (a JSON object),
      expected_version, update_id
      A row with merchant, customer and status creates the order and leads it to
      that status, through the steps between. Else a row with a status is an
      update, and any other one a create. An empty field is not given.
      --map "Order no=order_id" names a column, --map Weight=metadata.weight puts
      it into the metadata, --map Weight= leaves it out, --map "*=" all others.
    \b
    ndjson: a line is an operation as POST /v1/batch takes it, or an order as
      an export has it:
      {"op": "create", "order_id": "o-1", "merchant_id": "acme",
       "customer": {"name": "Ada Abel", "contact_ref": "crm-1"}}
      {"op": "update", "order_id": "o-1", "status": "picked_up",
       "occurred_at": "2026-01-31T08:15:00+01:00"}
    \b
    olist: the three files of the public Olist data set:
      orders, order items and customers, in any order

    Exit code 0: all of it is recorded. 2: something was refused or not sent; it is counted, and the
    first 20 are shown. 1: a file cannot be read, or something was not decided; run it again.
    """
    workflow = workflow_here()
    summary = Summary()
    files = Files(
        paths,
        _notice,
        file_format,
        encoding,
        _delimiter(delimiter),
        _checked_map(column_map or []),
        Reading(_zone(time_zone), _statuses(status_map or [], workflow), workflow),
    )
    summary.headers = files.headers
    send_all = None if dry_run else _sender(url, bearer, lanes, data_dir)
    with open_spool() as spool:
        spool.add_all(_without_faults(files, summary))
        orders = _arranged(spool, workflow, summary)
        if send_all is None:
            for records in orders:
                check_order(records, workflow, summary)
            say(describe_check(summary))
        else:
            _send(partial(send_all, orders, workflow=workflow, summary=summary), spool.count, summary)
    if not (summary.is_complete or allow_refused):
        raise typer.Exit(EXIT_LEFT_OUT)


def _sender(url: str, bearer: str, lanes: int, data_dir: Path) -> partial[Coroutine[Any, Any, None]]:
    address = checked_url(url, "http") or address_of(data_dir, "ingest")
    token = bearer or own_token(data_dir, "load", "orders:write")
    return partial(send, ingest_url=address, token=token, lanes=lanes)


def _send(send_all: partial[Coroutine[Any, Any, None]], total: int, summary: Summary) -> None:
    try:
        with progress_bar(total, summary) as on_decided:
            run(send_all(on_decided=on_decided))
    finally:
        summary.undecided = total - summary.repeated - summary.decided
        say(describe(summary))


def _without_faults(files: Files, summary: Summary) -> Iterator[Record]:
    is_olist = files.file_format == "olist"
    for record in read_olist(files.paths, files.encoding) if is_olist else read_files(files):
        if record.fault is None:
            yield record
        else:
            summary.add_fault(record)


def _arranged(spool: Spool, workflow: Workflow, summary: Summary) -> Iterator[list[Record]]:
    for records in spool.orders():
        ordered = arranged(records, workflow)
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
