"""What several commands share: options, and how a command works and speaks."""

import asyncio
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from shared.workflow import Workflow, load_workflow
from tracking.terminal_text import printable

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


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """What `work` returns. Ctrl-C ends the command."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


def say(text: str) -> None:
    """Tells one line or more at once, also into a pipe."""
    # Not by typer, which writes UTF-8 where the terminal says that it takes ASCII.
    sys.stdout.write(f"{printable_lines(text)}\n")
    sys.stdout.flush()


def printable_lines(text: str) -> str:
    """The lines of the text, each as a terminal may show it."""
    return "\n".join(map(printable, text.split("\n")))


def database_name() -> str:
    """The database of the services."""
    return os.environ.get("MONGODB_DATABASE", "tracking")


def workflow_here() -> Workflow:
    """That of `WORKFLOW_FILE` in the environment, else the default one.

    Raises:
        SettingsError: the file cannot be read.
    """
    path = os.environ.get("WORKFLOW_FILE")
    return load_workflow(Path(path) if path else None)


def checked_url(url: str, scheme: str) -> str:
    """The URL, if one was given.

    Raises:
        typer.BadParameter: it does not begin with `scheme`, with or without TLS.
    """
    if url and not url.startswith((f"{scheme}://", f"{scheme}s://")):
        raise typer.BadParameter(f"begin with {scheme}:// or {scheme}s://", param_hint="--url")
    return url
