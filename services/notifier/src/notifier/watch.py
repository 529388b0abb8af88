"""Looks at the end of the log about once a second, beside the feed: a slow database delays no event."""

import asyncio
import logging
from time import monotonic

from notifier.hub import Hub
from notifier.log import EventLog
from notifier.positions import unjoinable_because
from shared.cursors import Position
from shared.database import DatabaseUnavailable

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""What was missed without a later event to show it is delivered after one to two of these; without a broker,
everything within one."""


class LogWatch:
    """What the feed should know about the log."""

    def __init__(self, hub: Hub, event_log: EventLog) -> None:
        self._hub = hub
        self._log = event_log
        self._latest: Position | None = None
        self._overdue: Position | None = None
        self.replaced = False
        """The hub's position is none of this log's: the log was replaced, or set back."""
        self.looked_at = monotonic()
        """When the end of the log was last seen."""

    def take_overdue(self) -> Position | None:
        """Where the log ended at the look before the last one, once for each look. What the hub has not got
        of that was missed; what is newer is most likely on its way.
        """
        overdue, self._overdue = self._overdue, None
        return overdue

    def take_latest(self) -> Position | None:
        """Where the log ended at the last look, for who has nothing else to follow it by."""
        latest, self._latest, self._overdue = self._latest, None, None
        return latest

    def forget(self) -> None:
        """Drops what was seen of a log that is no longer there."""
        self.replaced, self._overdue, self._latest = False, None, None

    async def run(self) -> None:
        """Looks until it is cancelled."""
        while True:
            # The hub moves on while the database answers, so the answer is compared with where it was before.
            before = self._hub.head
            try:
                heads = await self._log.heads_to_join(before)
            except DatabaseUnavailable as error:
                log.warning("the end of the log is not known: %s", error)
            else:
                self.looked_at = monotonic()
                self.replaced = unjoinable_because(before, heads) is not None
                self._overdue, self._latest = self._latest, heads
            await asyncio.sleep(LOOK_SECONDS)
