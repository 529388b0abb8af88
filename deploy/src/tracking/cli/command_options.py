"""Options and helpers that several commands share."""

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from tracking.errors import ExitCode
from tracking_shared.contracts.workflow import Workflow, load_workflow

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
    str, typer.Option("--as", help="The actor in the audit trail; else the user of this system.")
]
MerchantOption = Annotated[list[str] | None, typer.Option(help="Only this merchant; may be repeated.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")]


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs a coroutine to its end and returns its result. Ctrl-C ends the command."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def database_name() -> str:
    """The name of the services' database: `MONGODB_DATABASE`, else `tracking`."""
    return os.environ.get("MONGODB_DATABASE", "tracking")


def configured_workflow() -> Workflow:
    """The workflow in the file that `WORKFLOW_FILE` names, else the default one.

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
