"""The command line: all commands, and what ends one with a clear line."""

import logging
import sys
from io import TextIOWrapper

import typer

from shared.settings import SettingsError
from tracking.audit import NotRecorded
from tracking.batch_client import BatchRefused, Undecided
from tracking.check import NotChecked
from tracking.command_options import printable_lines
from tracking.data_folder import FolderUnusable
from tracking.dead import NotMoved
from tracking.examination import NothingToCheck
from tracking.live import StreamRefused
from tracking.load.faults import UnreadableFile
from tracking.load_command import load
from tracking.local_stack import NoStack
from tracking.narrow_terminals import REPLACEMENT
from tracking.order_commands import report, tail
from tracking.parked import NotReleased
from tracking.report import NoReport
from tracking.revoke import NotRevoked
from tracking.stack import StackFailed
from tracking.stack_commands import demo, up
from tracking.token_commands import audit, revoke, token
from tracking.tokens import InvalidClaims
from tracking.upkeep_commands import check, dead_app, parked_app

app = typer.Typer(
    help="Live order tracking on one machine.",
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)

for command in (up, demo, token, revoke, tail, load, check, audit, report):
    app.command()(command)
app.add_typer(parked_app, name="parked")
app.add_typer(dead_app, name="dead")

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
    NotMoved,
    NotRecorded,
    NoReport,
)
"""What ends a command with one clear line."""


def main() -> None:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=REPLACEMENT)
    log_lines = logging.StreamHandler()
    log_lines.setFormatter(_PrintableLines())
    logging.basicConfig(handlers=[log_lines])
    for chatty in ("aio_pika", "aiormq"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)  # what matters of it is raised
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="tracking", standalone_mode=False)
    except typer.TyperException as error:  # wrong usage; its own way to say so takes four lines
        _leave(" ".join(error.format_message().replace("Value error, ", "").split()), error.exit_code)
    except FAULTS as error:
        _leave(str(error), error.exit_code if isinstance(error, StackFailed) else 1)
    else:
        sys.exit(code)


class _PrintableLines(logging.Formatter):
    """Messages alone; they may hold what a server said."""

    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record))


def _leave(line: str, code: int) -> None:
    sys.stderr.write(f"tracking: {printable_lines(line)}\n")
    sys.exit(code)
