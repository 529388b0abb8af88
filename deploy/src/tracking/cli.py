"""The command line. Each command reads its options here and does its work elsewhere."""

import asyncio
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from tracking.data_folder import DEFAULT_FOLDER, DataFolder, FolderUnusable
from tracking.stack import MAX_REPLICAS, SERVICES, StackFailed, StackOptions, run_stack
from tracking.tokens import InvalidClaims, SourceType, mint_token, parse_ttl

app = typer.Typer(
    help="Live order tracking on one machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

EXIT_USAGE = 2

DataDir = Annotated[
    Path, typer.Option(help="Folder of the stack: data, logs, secret.", envvar="TRACKING_DATA")
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")]


def main() -> None:
    """The console script."""
    app(prog_name="tracking")


def fail(line: str, code: int = 1) -> NoReturn:
    """Ends the process with one clear line."""
    typer.echo(f"tracking: {line}", err=True)
    raise typer.Exit(code)


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
        for name in ("ingest", "query", "console", "notifier"):
            say(f"{name:<9} {document[name]}")
        say(f"logs      {DataFolder(data_dir).logs}")
        say("ready; Ctrl-C stops everything")
        await asyncio.Event().wait()

    _run(run_stack(options, say, until_stopped))


@app.command()
def token(
    sub: Annotated[str, typer.Option(help="Who it stands for.")],
    scope: Annotated[str, typer.Option(help="orders:write, orders:read, orders:admin; with spaces between.")],
    merchants: Annotated[str, typer.Option(help="Merchant ids with commas between, or *.")] = "",
    source_type: Annotated[SourceType, typer.Option(help="What it stands for.")] = "system",
    orders: Annotated[str, typer.Option(help="Narrow to these order ids, with commas between.")] = "",
    ttl: Annotated[str, typer.Option(help="How long it is valid: 90s, 30m, 1h, 7d.")] = "1h",
    data_dir: DataDir = DEFAULT_FOLDER,
) -> None:
    """Prints a token, signed with JWT_SECRET or else with the secret of the stack in the data folder."""
    try:
        text = mint_token(
            secret_of(data_dir),
            subject=sub,
            scope=scope,
            merchants=_split(merchants),
            source_type=source_type,
            orders=_split(orders) if orders else None,
            ttl_seconds=parse_ttl(ttl),
        )
    except InvalidClaims as error:
        fail(str(error), EXIT_USAGE)
    typer.echo(text)


def secret_of(data_dir: Path) -> str:
    """The secret to sign with, or the end of the process with one line."""
    folder = DataFolder(data_dir)
    try:
        running = folder.running_stack()
        secret = os.environ.get("JWT_SECRET") or (running and running["jwt_secret"]) or folder.stored_secret()
    except (OSError, FolderUnusable) as error:
        fail(f"{folder.path}: cannot be read: {error}")
    if not secret:
        fail(f"no secret to sign with: set JWT_SECRET, or start a stack in {folder.path} (tracking up)")
    return secret


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _run(work: Coroutine[Any, Any, None]) -> None:
    try:
        asyncio.run(work)
    except StackFailed as error:
        fail(str(error), error.exit_code)
