"""The command line. Each command reads its options here and does its work elsewhere."""

import asyncio
import logging
import os
import shutil
import sys
from collections.abc import Coroutine
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer
from rich.console import Console

from shared.audit_trail import Actor
from shared.settings import SettingsError
from shared.workflow import load_workflow
from tracking.audit import NotRecorded, actor_of, audit_lines, record_token, time_since
from tracking.batch_client import BatchRefused, Undecided
from tracking.check import NotChecked, Target
from tracking.check import check as check_records
from tracking.check import describe as describe_check
from tracking.data_folder import DEFAULT_FOLDER, DataFolder, FolderUnusable
from tracking.demo import Demo
from tracking.demo_view import Board, print_introduction
from tracking.examination import NothingToCheck
from tracking.live import LiveOrders, StreamRefused
from tracking.load import Summary
from tracking.load import load as send_records
from tracking.load_view import Format, describe, input_bytes, progress_bar, records_in
from tracking.local_stack import NoStack, address_of, own_token, secret_of, server_url
from tracking.parked import NotReleased, list_parked
from tracking.parked import release as release_order
from tracking.records import UnreadableFile
from tracking.report import NoReport, Question, Report, fetch_report, time_of_option
from tracking.report_view import report_text
from tracking.revoke import NotRevoked, parse_revocation
from tracking.revoke import describe as describe_revocation
from tracking.revoke import revoke as write_revocation
from tracking.stack import MAX_REPLICAS, SERVICES, StackFailed, StackOptions, run_stack
from tracking.supervisor import first_of
from tracking.tail import print_events
from tracking.tokens import InvalidClaims, SourceType, mint_token, parse_ttl, read_signing_key

app = typer.Typer(
    help="Live order tracking on one machine.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)

EXIT_INTERRUPTED = 130

Result = TypeVar("Result")


DataDir = Annotated[
    Path, typer.Option(help="Folder of the stack: data, logs, secret.", envvar="TRACKING_DATA")
]
TokenOption = Annotated[
    str,
    typer.Option(
        "--token", help="Bearer token; else one is made with the stack's secret.", envvar="TRACKING_TOKEN"
    ),
]
AsOption = Annotated[
    str, typer.Option("--as", help="Who does this, for the audit trail; else the user of this system.")
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")]


FAULTS = (
    StackFailed,
    NoStack,
    FolderUnusable,
    StreamRefused,
    BatchRefused,
    Undecided,
    UnreadableFile,
    InvalidClaims,
    SettingsError,
    NothingToCheck,
    NotChecked,
    NotRevoked,
    NotReleased,
    NotRecorded,
    NoReport,
)
"""What ends a command with one clear line."""


def main() -> None:
    """The console script."""
    logging.basicConfig(format="%(message)s")
    for chatty in ("aio_pika", "aiormq"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)  # what matters of it is raised
    try:
        app(prog_name="tracking")
    except FAULTS as error:
        typer.echo(f"tracking: {error}", err=True)
        sys.exit(error.exit_code if isinstance(error, StackFailed) else 1)


def say(line: str) -> None:
    """Tells one line at once, also into a pipe."""
    typer.echo(line)
    sys.stdout.flush()


def parse_replicas(texts: list[str]) -> dict[str, int]:
    """`["ingest=2"]` as numbers by service.

    Raises:
        typer.BadParameter: not of that form, an unknown service, or a number out of bounds.
    """
    replicas: dict[str, int] = {}
    for text in texts:
        service, _, number = text.partition("=")
        if service not in SERVICES:
            raise typer.BadParameter(f"{text}: the services are {', '.join(SERVICES)}")
        if not number.isdecimal() or not 1 <= int(number) <= MAX_REPLICAS:
            raise typer.BadParameter(f"{text}: write SERVICE=N with N from 1 to {MAX_REPLICAS}")
        replicas[service] = int(number)
    return replicas


@app.command()
def up(
    *,
    data_dir: DataDir = DEFAULT_FOLDER,
    ingest_port: Port = 8001,
    query_port: Port = 8002,
    notifier_port: Port = 8003,
    replicas: Annotated[
        list[str] | None, typer.Option(metavar="SERVICE=N", help="How many of a service; may be repeated.")
    ] = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Written when all is ready: addresses, secret, process ids.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin with empty data.")] = False,
) -> None:
    """Runs the whole system on this machine until Ctrl-C or SIGTERM.

    AMQP_URL and MONGODB_URL in the environment: use these instead of starting a broker and a database.
    """
    options = StackOptions(
        data=data_dir,
        ports={"ingest": ingest_port, "query": query_port, "notifier": notifier_port},
        replicas=parse_replicas(replicas or []),
        ready_file=ready_file,
        fresh=fresh,
    )

    async def until_stopped(document: dict[str, Any]) -> None:
        for name in ("ingest", "query", "notifier", "console"):
            say(f"{name:<9} {document[name]}")
        say(f"logs      {DataFolder(data_dir).logs}")
        say("ready; Ctrl-C stops everything")
        await asyncio.Event().wait()

    _run(run_stack(options, say, until_stopped))


@app.command()
def demo(
    *,
    data_dir: DataDir = DEFAULT_FOLDER,
    ingest_port: Port = 8001,
    query_port: Port = 8002,
    notifier_port: Port = 8003,
    rate: Annotated[float, typer.Option(min=0.1, max=200, help="New orders a second.")] = 5.0,
    seconds: Annotated[float, typer.Option(min=0, help="Stop by itself after so long; 0 = never.")] = 0.0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin with empty data.")] = False,
) -> None:
    """Runs the whole system with a simulated fleet, and shows live what happens, until Ctrl-C."""
    ports = {"ingest": ingest_port, "query": query_port, "notifier": notifier_port}
    console = Console(highlight=False)

    async def drive(document: dict[str, Any]) -> None:
        print_introduction(console, document)
        board = Board(console)
        works = [Demo(document, rate, board).run(), board.run()]
        await first_of(*works, *([asyncio.sleep(seconds)] if seconds else []))

    options = StackOptions(data=data_dir, ports=ports, fresh=fresh, signed_in=True)
    _run(run_stack(options, console.print, drive))


@app.command()
def token(
    *,
    sub: Annotated[str, typer.Option(help="Who it stands for.")],
    scope: Annotated[str, typer.Option(help="orders:write, orders:read, orders:admin; with spaces between.")],
    merchants: Annotated[str, typer.Option(help="Merchant ids with commas between, or *.")] = "",
    source_type: Annotated[SourceType, typer.Option(help="What it stands for.")] = "system",
    orders: Annotated[str, typer.Option(help="Narrow to these order ids, with commas between.")] = "",
    ttl: Annotated[str, typer.Option(help="How long it is valid: 90s, 30m, 1h, 7d.")] = "1h",
    key: Annotated[
        Path | None, typer.Option(help="Sign with this private key (PEM) instead of the secret.")
    ] = None,
    key_id: Annotated[str, typer.Option(help="Its name (kid) in the key set of the services.")] = "",
    acting: AsOption = "",
    data_dir: DataDir = DEFAULT_FOLDER,
) -> None:
    """Prints a token, signed with JWT_SECRET or else with the secret of the stack in the data folder."""
    text = mint_token(
        secret_of(data_dir) if key is None else read_signing_key(key, key_id),
        subject=sub,
        scope=scope,
        merchants=_split(merchants),
        source_type=source_type,
        orders=_split(orders) if orders else None,
        ttl_seconds=parse_ttl(ttl),
    )
    _record_token(data_dir, acting, text)
    typer.echo(text)


def _record_token(data_dir: Path, acting: str, text: str) -> None:
    try:
        mongodb_url = server_url(data_dir, "MONGODB_URL")
    except NoStack:  # the secret alone makes tokens, here as anywhere
        typer.echo("tracking: not in the audit trail, no database is known here", err=True)
    else:
        _run(record_token(mongodb_url, _database_name(), actor_of(acting), text))


@app.command()
def revoke(
    *,
    sub: Annotated[str, typer.Option(help="All tokens of this subject …")] = "",
    issued_before: Annotated[
        str, typer.Option(help="… that were issued before this time (iat); else before now.")
    ] = "",
    jti: Annotated[str, typer.Option(help="The token with this id.")] = "",
    until: Annotated[
        str, typer.Option(help="When they have expired anyway: the entry goes then; else it stays.")
    ] = "",
    acting: AsOption = "",
    data_dir: DataDir = DEFAULT_FOLDER,
) -> None:
    """Ends tokens before they expire: one by its id, or those of a subject.

    Tokens that are made afterwards are good. Times have an offset: 2026-01-31T08:15:00Z.

    It writes to the database of the running stack, or to what MONGODB_URL and MONGODB_DATABASE name.
    """
    revocation = parse_revocation(sub, issued_before, jti, until)
    mongodb_url = server_url(data_dir, "MONGODB_URL")
    _run(write_revocation(mongodb_url, _database_name(), revocation, actor_of(acting)))
    say(describe_revocation(revocation))


@app.command()
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
        _checked_url(url, "ws") or address_of(data_dir, "notifier"),
        bearer or partial(own_token, data_dir, "tail", "orders:read"),
        {name: values for name, values in wanted.items() if values},
        after=after,
        snapshot=False,
    )
    _run(print_events(live, json_lines=json_lines))


@app.command()
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
    address = _checked_url(url, "http") or address_of(data_dir, "ingest")
    bearer = bearer or own_token(data_dir, "load", "orders:write")
    try:
        records = records_in(files, file_format)
        with progress_bar(input_bytes(files, file_format), summary) as on_decided:
            _run(
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


@app.command()
def check(*, data_dir: DataDir = DEFAULT_FOLDER) -> None:
    """Reads everything that was recorded, and says whether it holds together.

    Versions and positions without holes, only legal steps, each order the fold of its history, each
    update with one effect and one outcome. Nothing is changed.

    Right while nothing is in flight. Else it says so: commands that wait in the queues are not decided
    yet, and an update that is applied during the check may look like a fault.

    It looks at the running stack, or at what AMQP_URL, MONGODB_URL, MONGODB_DATABASE and WORKFLOW_FILE
    in the environment name.

    Exit code 0: no faults. 1: faults, or it could not be checked.
    """
    workflow_file = os.environ.get("WORKFLOW_FILE")
    target = Target(
        amqp_url=server_url(data_dir, "AMQP_URL"),
        mongodb_url=server_url(data_dir, "MONGODB_URL"),
        database=os.environ.get("MONGODB_DATABASE", "tracking"),
        workflow=load_workflow(Path(workflow_file) if workflow_file else None),
    )
    report = _run(check_records(target))
    say(describe_check(report))
    if report.findings.faults:
        raise typer.Exit(1)


@app.command()
def audit(
    *,
    since: Annotated[str, typer.Option(help="From this time on, or how long ago: 90s, 30m, 1h, 7d.")] = "",
    json_lines: Annotated[bool, typer.Option("--json", help="Each act as one line of JSON.")] = False,
    data_dir: DataDir = DEFAULT_FOLDER,
) -> None:
    """Lists who did which administrative thing, the oldest first.

    An act is recorded before it is done; one that then failed is there, too.

    It reads the database of the running stack, or what MONGODB_URL and MONGODB_DATABASE name.
    """
    start = time_since(since)
    _run(_say_audit(server_url(data_dir, "MONGODB_URL"), start, as_json=json_lines))


async def _say_audit(mongodb_url: str, since: datetime | None, *, as_json: bool) -> None:
    async for line in audit_lines(mongodb_url, _database_name(), since, as_json=as_json):
        say(line)


@app.command()
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
    url: Annotated[str, typer.Option(help="Base URL of query; else that of the running stack.")] = "",
    bearer: TokenOption = "",
    data_dir: DataDir = DEFAULT_FOLDER,
) -> None:
    """Prints a report over many orders, as a table and a chart.

    \b
    durations      how long orders take from status to status
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
    }
    question: Question = [(parameter, value) for parameter, value in asked.items() if value]
    question += [("merchant_id", each) for each in merchant or []]
    address = _checked_url(url, "http") or address_of(data_dir, "query")
    bearer = bearer or own_token(data_dir, "report", "orders:read")
    document = _run(fetch_report(address, bearer, name, question))
    say(report_text(name, document, shutil.get_terminal_size().columns))


parked_app = typer.Typer(help="Orders that wait for an operator.", invoke_without_command=True)
app.add_typer(parked_app, name="parked")
OrderId = Annotated[str, typer.Argument(metavar="ORDER", help="The order's id.", show_default=False)]


@parked_app.callback()
def parked(context: typer.Context, *, data_dir: DataDir = DEFAULT_FOLDER) -> None:
    """Lists the orders that wait because order-state failed on one of their updates.

    For each one: the update that failed, since when, how, and how many wait behind it.

    It looks at the running stack, or at what AMQP_URL, MONGODB_URL and MONGODB_DATABASE name.
    """
    if context.invoked_subcommand is None:
        _run(_say_parked(server_url(data_dir, "MONGODB_URL")))


async def _say_parked(mongodb_url: str) -> None:
    number = 0
    async for line in list_parked(mongodb_url, _database_name()):
        number += 1
        say(line)
    if not number:
        say("nothing is parked")


@parked_app.command()
def replay(order: OrderId, *, acting: AsOption = "", data_dir: DataDir = DEFAULT_FOLDER) -> None:
    """Decides what waits of an order, one update after the other, until one fails again.

    Exit code 0: nothing of the order waits any more. 1: something does, or nobody knows.
    """
    _release(data_dir, order, actor_of(acting), skip=False)


@parked_app.command()
def skip(order: OrderId, *, acting: AsOption = "", data_dir: DataDir = DEFAULT_FOLDER) -> None:
    """Gives up the update that failed: it is rejected, for good. Then goes on as replay does."""
    _release(data_dir, order, actor_of(acting), skip=True)


def _release(data_dir: Path, order_id: str, actor: Actor, *, skip: bool) -> None:
    amqp_url, mongodb_url = server_url(data_dir, "AMQP_URL"), server_url(data_dir, "MONGODB_URL")
    say(_run(release_order(amqp_url, mongodb_url, _database_name(), order_id, skip=skip, actor=actor)))


def _database_name() -> str:
    return os.environ.get("MONGODB_DATABASE", "tracking")


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _checked_url(url: str, scheme: str) -> str:
    if url and not url.startswith((f"{scheme}://", f"{scheme}s://")):
        raise typer.BadParameter(f"begin with {scheme}:// or {scheme}s://", param_hint="--url")
    return url


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None
