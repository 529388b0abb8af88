"""The commands of an operator: `check` (consistency check), `erase` (a person), `parked` (orders), `held`
(early updates) and `dead` (dead letters).
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from tracking.cli.command_options import AsOption, DataDir, configured_workflow, database_name, run
from tracking.devstack.data_folder import DEFAULT_FOLDER, server_url
from tracking.errors import ExitCode
from tracking.terminal import echo
from tracking.upkeep.audit import actor_of, audit_days
from tracking.upkeep.check import Target, check_installation, describe
from tracking.upkeep.erasure import erase_person
from tracking.upkeep.failed_updates import MAX_LETTERS, list_dead, list_parked, move, release
from tracking.upkeep.held_updates import MAX_LISTED, list_held
from tracking_shared.storage.audit_trail import Actor

ArchiveFolderOption = Annotated[
    Path | None,
    typer.Option("--archive", help="Folder of the archive.", envvar="ARCHIVE_DIR", show_default=False),
]


def check(*, archive: ArchiveFolderOption = None, data_dir: DataDir = DEFAULT_FOLDER) -> None:
    """Verifies that all stored data is consistent.

    Versions and positions have no gaps, transitions are legal, each order equals the result of its
    history, each update has one effect and one outcome, and each correction is in the audit trail for the
    AUDIT_DAYS of the environment. Archived orders are checked, too, if the archive is given. Nothing is
    changed.

    It may run while orders change: suspicious data is read again, and reported only if the fault is
    still there and the data did not change meanwhile. Commands in the queues are not decided yet; their
    number is reported.

    It checks the running stack, or the servers that AMQP_URL, MONGODB_URL, MONGODB_DATABASE and
    WORKFLOW_FILE in the environment name. With RABBITMQ_MANAGEMENT_URL, of a user with the tag monitoring,
    it also says which queues are on too few nodes.

    Exit code 0: no faults. 1: faults, or it could not be checked.
    """
    target = Target(
        amqp_url=server_url(data_dir, "AMQP_URL"),
        mongodb_url=server_url(data_dir, "MONGODB_URL"),
        database=database_name(),
        workflow=configured_workflow(),
        audit_days=audit_days(),
        archive=archive,
        management_url=os.environ.get("RABBITMQ_MANAGEMENT_URL", ""),
    )
    report = run(check_installation(target))
    echo(describe(report))
    if report.findings.faults:
        raise typer.Exit(ExitCode.FAILED)


def erase(
    *,
    customer_ref: Annotated[
        str, typer.Option(metavar="CONTACT", help="The contact reference of the person.", show_default=False)
    ],
    merchant: Annotated[str, typer.Option(help="Only orders of this merchant.", show_default=False)] = "",
    archive: ArchiveFolderOption = None,
    acting: AsOption = "",
    data_dir: DataDir = DEFAULT_FOLDER,
) -> None:
    """Erases a person: the name and the contact, in all orders and events, and wherever else they are stored.

    Each order keeps its versions and positions, and gets an event order.customer_erased. order-state does it;
    the command waits for the end. To interrupt it changes nothing: what is accepted is carried out. It may be
    repeated. Orders that are created later with the same contact are not touched. With the folder of the
    archive, the person is then erased there, too.

    It asks the database of the running stack, or the one that MONGODB_URL and MONGODB_DATABASE name.

    Exit code 0: done. 1: not accepted, or not done within 60 s; then it goes on.
    """
    mongodb_url = server_url(data_dir, "MONGODB_URL")
    actor = actor_of(acting)
    echo(run(erase_person(mongodb_url, database_name(), customer_ref, merchant or None, actor)))
    if archive is not None:
        from tracking.upkeep.archive import archive_orders  # noqa: PLC0415 - only it needs pyarrow

        result = run(archive_orders(mongodb_url, database_name(), archive, None, actor))
        echo(f"events erased in the archive: {result['erased_events']}")


parked_app = typer.Typer(
    name="parked",
    help="Orders that wait for an operator.",
    invoke_without_command=True,
    rich_markup_mode=None,
    add_completion=False,
)
OrderId = Annotated[str, typer.Argument(metavar="ORDER", help="The order's id.", show_default=False)]


@parked_app.callback()
def parked(context: typer.Context, *, data_dir: DataDir = DEFAULT_FOLDER) -> None:
    """Lists the orders that wait because order-state failed on one of their updates.

    For each one: the update that failed, the time, the error, and the number of later updates.

    It reads the database of the running stack, or the one that MONGODB_URL and MONGODB_DATABASE name.
    """
    if context.invoked_subcommand is None:
        run(_print_parked(server_url(data_dir, "MONGODB_URL")))


async def _print_parked(mongodb_url: str) -> None:
    number = 0
    async for line in list_parked(mongodb_url, database_name()):
        number += 1
        echo(line)
    if not number:
        echo("nothing is parked")


@parked_app.command()
def replay(order: OrderId, *, acting: AsOption = "", data_dir: DataDir = DEFAULT_FOLDER) -> None:
    """Decides the parked updates of an order one after the other, until one fails again.

    Exit code 0: no update of the order is parked any more. 1: some are, or the result is unknown.
    """
    _release(data_dir, order, actor_of(acting), skip=False)


@parked_app.command()
def skip(order: OrderId, *, acting: AsOption = "", data_dir: DataDir = DEFAULT_FOLDER) -> None:
    """Rejects the update that failed, for good, and then continues like replay."""
    _release(data_dir, order, actor_of(acting), skip=True)


def _release(data_dir: Path, order_id: str, actor: Actor, *, skip: bool) -> None:
    amqp_url, mongodb_url = server_url(data_dir, "AMQP_URL"), server_url(data_dir, "MONGODB_URL")
    echo(run(release(amqp_url, mongodb_url, database_name(), order_id, skip=skip, actor=actor)))


HeldLimit = Annotated[int, typer.Option(min=1, max=MAX_LISTED, help="The number to list.")]


def held(*, limit: HeldLimit = 20, data_dir: DataDir = DEFAULT_FOLDER) -> None:
    """Counts the updates that came too early and are held, and lists those whose time is over first.

    For each one: its order and update, the status that it asks for (or the kind of its checkpoint), its
    sender, since when it is held, and until when it waits. Nothing is changed.

    It reads the database of the running stack, or the one that MONGODB_URL and MONGODB_DATABASE name.
    """
    run(_print_held(server_url(data_dir, "MONGODB_URL"), limit))


async def _print_held(mongodb_url: str, limit: int) -> None:
    async for line in list_held(mongodb_url, database_name(), limit):
        echo(line)


dead_app = typer.Typer(
    name="dead",
    help="Messages that order-state could not process.",
    invoke_without_command=True,
    rich_markup_mode=None,
    add_completion=False,
)
LetterName = Annotated[
    str, typer.Argument(metavar="LETTER", help="Its name in the list.", show_default=False)
]
Limit = Annotated[int, typer.Option(min=1, max=MAX_LETTERS, help="The number to list.")]


@dead_app.callback()
def dead(context: typer.Context, *, limit: Limit = 20, data_dir: DataDir = DEFAULT_FOLDER) -> None:
    """Counts the dead letters, and lists the first ones.

    They are messages that order-state could not decode, or that were redelivered too often.

    For each one: its name, the reason and time of its death, and its first order and update. Nothing is
    changed.

    It reads the broker of the running stack, or the one that AMQP_URL names.
    """
    if context.invoked_subcommand is None:
        for line in run(list_dead(server_url(data_dir, "AMQP_URL"), limit)):
            echo(line)


@dead_app.command()
def send(letter: LetterName, *, acting: AsOption = "", data_dir: DataDir = DEFAULT_FOLDER) -> None:
    """Sends the commands of a dead letter to their partitions again, and removes it.

    Updates that were applied before are not sent. Later updates of the same order are decided first.
    """
    _move(data_dir, letter, actor_of(acting), again=True)


@dead_app.command()
def drop(letter: LetterName, *, acting: AsOption = "", data_dir: DataDir = DEFAULT_FOLDER) -> None:
    """Removes a dead letter for good. Its commands are not applied, and their callers get no result."""
    _move(data_dir, letter, actor_of(acting), again=False)


def _move(data_dir: Path, letter: str, actor: Actor, *, again: bool) -> None:
    amqp_url, mongodb_url = server_url(data_dir, "AMQP_URL"), server_url(data_dir, "MONGODB_URL")
    echo(run(move(amqp_url, mongodb_url, database_name(), letter, again=again, actor=actor)))
