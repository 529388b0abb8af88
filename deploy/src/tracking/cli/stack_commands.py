"""The commands `up` and `demo`: they run the whole system on this machine."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tracking.cli.command_options import DataDir, Port, run
from tracking.demo import Demo, LiveScreen, print_introduction
from tracking.devstack.data_folder import DEFAULT_FOLDER, DataFolder
from tracking.devstack.stack import MAX_REPLICAS, SERVICES, StackOptions, run_stack
from tracking.tasks import first_of
from tracking.terminal import echo
from tracking_shared.policy.origins import BadOrigin, parse_origins

Fresh = Annotated[
    bool, typer.Option("--fresh", help="Begin with empty data. Not with AMQP_URL or MONGODB_URL.")
]
AllowOrigin = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ORIGIN",
        help="Another allowed origin, like http://localhost:8080; may be repeated.",
    ),
]


def up(
    *,
    data_dir: DataDir = DEFAULT_FOLDER,
    ingest_port: Port = 8001,
    query_port: Port = 8002,
    notifier_port: Port = 8003,
    replicas: Annotated[
        list[str] | None,
        typer.Option(metavar="SERVICE=N", help="The replicas of a service; may be repeated."),
    ] = None,
    allow_origin: AllowOrigin = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Written when the stack is ready: addresses, secret, process ids.")
    ] = None,
    fresh: Fresh = False,
) -> None:
    """Runs the whole system on this machine until Ctrl-C or SIGTERM.

    With AMQP_URL or MONGODB_URL in the environment, it uses these servers instead of starting its own.
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
            echo(f"{name:<9} {document[name]}")
        echo(f"logs      {DataFolder(data_dir).logs}")
        echo("ready; Ctrl-C stops everything")
        await asyncio.Event().wait()

    run(run_stack(options, echo, until_stopped))


def demo(
    *,
    data_dir: DataDir = DEFAULT_FOLDER,
    ingest_port: Port = 8001,
    query_port: Port = 8002,
    notifier_port: Port = 8003,
    rate: Annotated[float, typer.Option(min=0.1, max=200, help="New orders a second.")] = 5.0,
    allow_origin: AllowOrigin = None,
    seconds: Annotated[float, typer.Option(min=0, help="Stop after this time; 0 = never.")] = 0.0,
    fresh: Fresh = False,
) -> None:
    """Runs the whole system with a simulated fleet, and shows the live events, until Ctrl-C."""
    console = Console(highlight=False)

    async def drive(document: dict[str, Any]) -> None:
        print_introduction(console, document)
        screen = LiveScreen(console)
        tasks = [Demo(document, rate, screen).run(), screen.run()]
        await first_of(*tasks, *([asyncio.sleep(seconds)] if seconds else []))

    options = StackOptions(
        data=data_dir,
        ports={"ingest": ingest_port, "query": query_port, "notifier": notifier_port},
        fresh=fresh,
        signed_in=True,
        allowed_origins=checked_origins(allow_origin or []),
    )
    run(run_stack(options, console.print, drive))


def checked_origins(texts: list[str]) -> list[str]:
    """Checks the origins of `--allow-origin` and returns them unchanged.

    Raises:
        typer.BadParameter: one of them is no origin.
    """
    try:
        parse_origins(",".join(texts))
    except BadOrigin as error:
        raise typer.BadParameter(str(error), param_hint="--allow-origin") from None
    return texts


def parse_replicas(texts: list[str]) -> dict[str, int]:
    """Parses `["ingest=2"]` into numbers by service.

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
