"""A partition whose next message was written by a later release waits for an order-state that reads it.

The message stays where it is, unacknowledged, and so do those behind it. This process gives the partition up
after a while, since a replica of the later release may be a standby. Each time that costs the message one of
the returns that its queue allows (`DELIVERY_LIMIT`), so the times grow, and after `MAX_RETURNS` the partition
is kept until this process ends.
"""

import logging
from math import inf

from tracking_order_state import metrics
from tracking_shared.contracts.formats import COMMANDS
from tracking_shared.messaging.consumer import NewerMessage

log = logging.getLogger(__name__)

FIRST_WAIT_SECONDS = 5.0
"""Longer than a replica that is just starting takes to subscribe as a standby."""

MAX_RETURNS = 10
"""Far below the delivery limit, for crashes need some of it, too. The last wait is 43 minutes."""


def seconds_to_wait(newer: NewerMessage) -> float:
    """The time for which a partition is kept whose next message is this one."""
    return FIRST_WAIT_SECONDS * 2**newer.returns if newer.returns < MAX_RETURNS else inf


class UpgradeWait:
    """Notes whether a partition waits for a later release. Logs it once, however often it is given up
    meanwhile.
    """

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._is_logged = False
        self._gauge = metrics.WAITS_FOR_UPGRADE.labels(partition)

    def begin(self, newer: NewerMessage) -> None:
        """Notes that the next message cannot be read."""
        self._gauge.set(1)
        if not self._is_logged:
            self._is_logged = True
            log.error(
                "partition %d waits: its next message is of format %d, and this release reads up to %d;"
                " upgrade order-state",
                self._partition,
                newer.version,
                COMMANDS.newest,
            )

    def pause(self) -> None:
        """Notes that this process does not have the message any more."""
        self._gauge.set(0)

    def end(self) -> None:
        """Notes that the next message can be read."""
        if self._is_logged:
            self._is_logged = False
            log.info("partition %d goes on", self._partition)
