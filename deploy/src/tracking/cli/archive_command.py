"""The command `archive`: moves old final orders to an archive, and restores them."""

import re
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import orjson
import typer

from tracking.cli.command_options import AsOption, DataDir, database_name, run
from tracking.devstack.data_folder import DEFAULT_FOLDER, server_url
from tracking.terminal import echo
from tracking.upkeep.audit import actor_of

_AGE = re.compile(r"([0-9]{1,5})([smhd])")
_UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}

OlderThan = Annotated[
    str,
    typer.Option(
        metavar="AGE", help="Only orders without a change for so long: 400d, 12h.", show_default=False
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option("--to", help="Folder of the archive.", envvar="ARCHIVE_DIR", show_default=False),
]
RestoredOrder = Annotated[
    str, typer.Option("--restore", metavar="ORDER", help="Bring this order back.", show_default=False)
]


def archive(
    *,
    older_than: OlderThan = "",
    folder: Folder = None,
    restore: RestoredOrder = "",
    acting: AsOption = "",
    data_dir: DataDir = DEFAULT_FOLDER,
) -> None:
    """Moves final orders that have not changed for a time from the database to Parquet files.

    The folder has a manifest of all files. query answers for these orders if it has the folder as
    ARCHIVE_DIR. Updates of them are refused with order-archived.

    It may run while everything runs, and may be interrupted at any time: the next run continues. Without
    --older-than it only continues, and erases in the archive who was erased since. order-state must be
    running. --restore brings one order back into the database.

    It uses the database of the running stack, or the one that MONGODB_URL and MONGODB_DATABASE name.

    Exit code 0: done. 1: not, or not everything; the line says why.
    """
    if folder is None:
        raise typer.BadParameter("name the folder of the archive, here or in ARCHIVE_DIR", param_hint="--to")
    if find_spec("pyarrow") is None:
        raise typer.BadParameter("archives need the package pyarrow", param_hint="--to")
    if restore and older_than:
        raise typer.BadParameter("not together with --restore", param_hint="--older-than")
    age = _age(older_than)
    mongodb_url, actor = server_url(data_dir, "MONGODB_URL"), actor_of(acting)
    # Imported here: only these need pyarrow.
    from tracking.upkeep.archive import archive_orders  # noqa: PLC0415
    from tracking.upkeep.restore import restore_order  # noqa: PLC0415

    work = (
        restore_order(mongodb_url, database_name(), folder, restore, actor)
        if restore
        else archive_orders(mongodb_url, database_name(), folder, age, actor)
    )
    echo(orjson.dumps(run(work)).decode())


def _age(text: str) -> timedelta | None:
    if not text:
        return None
    found = _AGE.fullmatch(text)
    if found is None:
        raise typer.BadParameter(
            "write a number and a unit, such as 400d, 12h or 90s", param_hint="--older-than"
        )
    return int(found[1]) * _UNITS[found[2]]
