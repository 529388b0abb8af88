"""Follows the layout of the partitions, and finds the homes of orders."""

import asyncio
import logging
from collections.abc import Mapping, Sequence

from tracking_ingest.submission.dispatcher import Dispatcher
from tracking_shared.contracts.layout import Layout
from tracking_shared.storage.database import Database, DatabaseUnavailable
from tracking_shared.storage.homes import find_homes

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
"""The interval at which the layout is read: after a change, updates are taken again so much later."""

MAX_KNOWN_ORDERS = 100_000
"""Homes that are remembered, some 100 bytes each. They never change."""


class KnownHomes:
    """The homes of orders, remembered once they are found."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, int] = {}

    async def __call__(self, layout: Layout, order_ids: Sequence[str]) -> Mapping[str, int]:
        """The homes of those of these orders that have one.

        Raises:
            DatabaseUnavailable: no answer.
        """
        homes = {order_id: self._known[order_id] for order_id in order_ids if order_id in self._known}
        found = await find_homes(self._database, layout, set(order_ids) - homes.keys())
        if len(self._known) + len(found) > MAX_KNOWN_ORDERS:
            self._known.clear()
        self._known |= found
        return homes | found


async def follow_routing(database: Database, dispatcher: Dispatcher) -> None:
    """Keeps the dispatcher to the current routing until cancelled."""
    while True:
        try:
            if (routing := await database.read_routing()) is not None:
                dispatcher.reroute(routing)
        except DatabaseUnavailable as error:
            log.debug("the layout of the partitions cannot be read: %s", error)
        await asyncio.sleep(LOOK_SECONDS)
