"""The key of the cursors in the database, and how services keep up with it."""

import asyncio
import logging
import time

from tracking_shared.contracts.cursors import (
    CursorSeal,
    Position,
    cursor_content,
    encode_cursor,
    is_sealed,
    open_cursor,
)
from tracking_shared.contracts.documents import cursor_key_id
from tracking_shared.storage.database import Database, DatabaseUnavailable, driver_errors

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""Between two look-ups of a key that is not there. Anybody can send a cursor of another key."""


class CursorSeals:
    """The seal of the log as one service knows it. Until there is a key, cursors are written in the clear."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seal: CursorSeal | None = None
        self._looked_at = -LOOK_SECONDS

    def encode(self, position: Position) -> str:
        """The position as text: sealed, if all readers can open it by now."""
        seal = self._seal
        if seal is None or seal.epoch != position.epoch or time.time() < seal.sealed_from:
            return encode_cursor(position)
        return seal.seal(position.seqs)

    def decode(self, text: str) -> Position:
        """The position that was sealed, or written in the clear.

        Raises:
            InvalidCursor: anything else; whether the position exists in the log is not checked.
        """
        return open_cursor(text, self._seal)

    async def look_for(self, epoch: str | None) -> None:
        """Reads the key of the log with this epoch (None: whichever the database holds) if it is not known,
        at most every `LOOK_SECONDS` if it is not there.

        Raises:
            DatabaseUnavailable: what was known before still holds.
        """
        if self._seal is not None and self._seal.epoch == epoch:
            return
        if time.monotonic() - self._looked_at >= LOOK_SECONDS:
            self._seal = await self._read(epoch) or self._seal
            self._looked_at = time.monotonic()

    async def look_for_key_of(self, text: str) -> None:
        """Reads the key again if this cursor is said to be sealed with another one, as above.

        Raises:
            InvalidCursor: it is no text of a cursor.
            DatabaseUnavailable: what was known before still holds.
        """
        content = cursor_content(text)
        if is_sealed(content) and not (self._seal is not None and self._seal.has_sealed(content)):
            await self.look_for(None)

    async def learn(self, epoch: str) -> None:
        """Reads the key of a log that begins to be served.

        Raises:
            DatabaseUnavailable: what was known before still holds.
        """
        self._seal = await self._read(epoch)
        self._looked_at = time.monotonic()

    async def follow(self) -> None:
        """Looks for a key while there is none, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                if self._seal is None:
                    await self.look_for(None)
            except DatabaseUnavailable as error:
                log.warning("no key for cursors yet: %s", error)

    async def _read(self, epoch: str | None) -> CursorSeal | None:
        settings = self._database.raw["settings"]
        with driver_errors():
            if epoch is None:
                document = await settings.find_one({"_id": "partitions"})
                if document is None:
                    return None
                epoch = str(document["epoch"])
            found = await settings.find_one({"_id": cursor_key_id(epoch)})
        if found is None:
            return None
        return CursorSeal(epoch, bytes(found["key"]), found["sealed_from"].timestamp())
