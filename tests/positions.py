"""What the cursors of an installation stand for, read with its key."""

from collections.abc import Callable

from tracking_shared.auth.cursor_seals import CursorSeals
from tracking_shared.contracts.cursors import Position
from tracking_shared.storage.database import Database, open_database


async def position_of(database: Database, cursor: str) -> Position:
    seals = CursorSeals(database)
    await seals.look_for_key_of(cursor)
    return seals.decode(cursor)


async def cursor_opener(mongodb_url: str, database_name: str) -> Callable[[str], Position]:
    """What opens any number of them, once the installation is set up."""
    async with open_database(mongodb_url, database_name) as database:
        seals = CursorSeals(database)
        await seals.look_for(None)
    return seals.decode
