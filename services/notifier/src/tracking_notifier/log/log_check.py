"""The periodic check of the end of the event log: finds events that the broker lost, and a replaced log."""

import asyncio
import logging
from functools import partial
from time import monotonic

from tracking_notifier.hub import Hub
from tracking_notifier.log.event_log import EventLog
from tracking_notifier.metrics import LAG
from tracking_shared.contracts.cursors import Position, resync_reason
from tracking_shared.storage.database import DatabaseUnavailable

log = logging.getLogger(__name__)

CHECK_SECONDS = 1.0
"""The interval of checks of the end of the log. An event that the broker lost, and that no later event
reveals, is delivered after one to two intervals; without a broker, every event within one."""


class LogCheck:
    """Reads the end of the log about once a second and compares it with the hub. It runs next to the feed, so
    that a slow database delays no event.
    """

    def __init__(self, hub: Hub, event_log: EventLog, partitions: int) -> None:
        self._hub = hub
        self._log = event_log
        self._partitions = partitions
        self._latest: Position | None = None
        self._end_before: Position | None = None
        self._newest: Position | None = None
        self.is_replaced = False
        """True if the hub cannot continue in this log: it was replaced, or set back."""
        self.checked_at = monotonic()
        """The time of the last check that succeeded."""

    def take_end_before(self) -> Position | None:
        """The end of the log at the check before the last one; None if it was taken already. Events up to it
        that the hub lacks were missed. Newer ones are most likely on their way.
        """
        end, self._end_before = self._end_before, None
        return end

    def take_latest(self) -> Position | None:
        """The end of the log at the last check; None if it was taken already. For a feed without a broker."""
        latest, self._latest, self._end_before = self._latest, None, None
        return latest

    def reset(self) -> None:
        """Drops the results of a log that was replaced."""
        self.is_replaced, self._end_before, self._latest = False, None, None

    def record(self, end: Position) -> None:
        """Records the result of a check."""
        self._end_before, self._latest, self._newest = self._latest, end, end

    def lag_events(self, partition: int) -> int:
        """The events that the log had at the last check and that the hub has not published by now."""
        if self._newest is None or not self._hub.is_started:
            return 0
        return max(self._newest.seqs[partition] - self._hub.seqs[partition], 0)

    async def run(self) -> None:
        """Checks until it is cancelled."""
        for partition in range(self._partitions):
            LAG.labels(partition).set_function(partial(self.lag_events, partition))
        while True:
            # The hub may move on while the database answers, so the answer is compared with the position
            # before.
            position = self._hub.position
            try:
                end = await self._log.read_end_to_resume(position)
            except DatabaseUnavailable as error:
                log.warning("cannot read the end of the log: %s", error)
            else:
                self.checked_at = monotonic()
                self._hub.log_start = self._log.start
                self.is_replaced = resync_reason(position, end) is not None
                self.record(end)
            await asyncio.sleep(CHECK_SECONDS)
