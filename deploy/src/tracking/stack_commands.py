"""The commands that run the system on this machine."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from shared.origins import BadOrigin, parse_origins
from tracking.command_options import DataDir, Port, run, say
from tracking.data_folder import DEFAULT_FOLDER, DataFolder
from tracking.demo import Demo
from tracking.demo_view import Board, print_introduction
from tracking.stack import MAX_REPLICAS, SERVICES, StackOptions, run_stack
from tracking.supervisor import first_of

AllowOrigin = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ORIGIN",
        help="Web pages that may call, like http://localhost:8080, beside ALLOWED_ORIGINS; may be repeated.",
    ),
]


def up(
    *,
    data_dir: DataDir = DEFAULT_FOLDER,
    ingest_port: Port = 8001,
    query_port: Port = 8002,
    notifier_port: Port = 8003,
    replicas: Annotated[
        list[str] | None, typer.Option(metavar="SERVICE=N", help="How many of a service; may be repeated.")
    ] = None,
    allow_origin: AllowOrigin = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Written when all is ready: addresses, secret, process ids.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin with empty data. Not with AMQP_URL or MONGODB_URL.")
    ] = False,
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
        allowed_origins=checked_origins(allow_origin or []),
    )

    async def until_stopped(document: dict[str, Any]) -> None:
        for name in ("ingest", "query", "notifier", "console"):
            say(f"{name:<9} {document[name]}")
        say(f"logs      {DataFolder(data_dir).logs}")
        say("ready; Ctrl-C stops everything")
        await asyncio.Event().wait()

    run(run_stack(options, say, until_stopped))


def demo(
    *,
    data_dir: DataDir = DEFAULT_FOLDER,
    ingest_port: Port = 8001,
    query_port: Port = 8002,
    notifier_port: Port = 8003,
    rate: Annotated[float, typer.Option(min=0.1, max=200, help="New orders a second.")] = 5.0,
    allow_origin: AllowOrigin = None,
    seconds: Annotated[float, typer.Option(min=0, help="Stop by itself after so long; 0 = never.")] = 0.0,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin with empty data. Not with AMQP_URL or MONGODB_URL.")
    ] = False,
) -> None:
    """Runs the whole system with a simulated fleet, and shows live what happens, until Ctrl-C."""
    ports = {"ingest": ingest_port, "query": query_port, "notifier": notifier_port}
    console = Console(highlight=False)

    async def drive(document: dict[str, Any]) -> None:
        print_introduction(console, document)
        board = Board(console)
        works = [Demo(document, rate, board).run(), board.run()]
        await first_of(*works, *([asyncio.sleep(seconds)] if seconds else []))

    options = StackOptions(
        data=data_dir,
        ports=ports,
        fresh=fresh,
        signed_in=True,
        allowed_origins=checked_origins(allow_origin or []),
    )
    run(run_stack(options, console.print, drive))


def checked_origins(texts: list[str]) -> list[str]:
    """The origins of `--allow-origin`, as they were given.

    Raises:
        typer.BadParameter: one of them is no origin.
    """
    try:
        parse_origins(",".join(texts))
    except BadOrigin as error:
        raise typer.BadParameter(str(error), param_hint="--allow-origin") from None
    return texts


def parse_replicas(texts: list[str]) -> dict[str, int]:
    """`["ingest=2"]` as numbers by service.

    Raises:
        typer.BadParameter: not of that form, an unknown service, or a number out of bounds.
    """
    replicas: dict[str, int] = {}
    for text in texts:
        service, _, number = text.partition("=")
        if service not in SERVICES:
            raise typer.BadParameter(
                f"{text}: the services are {', '.join(SERVICES)}", param_hint="--replicas"
            )
        if not number.isdecimal() or not 1 <= int(number) <= MAX_REPLICAS:
            raise typer.BadParameter(
                f"{text}: write SERVICE=N with N from 1 to {MAX_REPLICAS}", param_hint="--replicas"
            )
        replicas[service] = int(number)
    return replicas
