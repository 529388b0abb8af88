"""Follows the layout of the partitions, and finds the homes of orders."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from tracking_shared.contracts.layout import Layout, Routing
from tracking_shared.storage.database import Database, DatabaseUnavailable
from tracking_shared.storage.homes import find_homes
from tracking_shared.storage.reads import CausalReads, bounded_read

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
"""The interval at which the layout is read: after a change, updates are taken again so much later."""

MAX_KNOWN_ORDERS = 100_000
"""Homes that are remembered, some 100 bytes each. They never change."""


class StoredRouting:
    """The stored routing, and the homes of orders under it, remembered once they are found.

    No read is older than one before it. So once a new layout was read, every order that was created under the
    one before is found, also after the database has elected another primary.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reads = CausalReads(database)
        self._layout: Layout | None = None
        self._known: dict[str, int] = {}

    async def read(self) -> Routing | None:
        """The current routing; None: the database is not set up yet.

        Raises:
            DatabaseUnavailable: no answer.
        """
        with bounded_read():
            async with self._reads.session() as session:
                return await self._database.read_routing(session)

    async def is_current(self, routing: Routing) -> bool:
        """True if this is still the routing, surely as of now. It costs the servers a round among them.

        Raises:
            DatabaseUnavailable: no answer.
        """
        with bounded_read():
            return await self._database.read_newest_routing() in (routing, None)

    async def homes(self, layout: Layout, order_ids: Sequence[str]) -> Mapping[str, int]:
        """The homes of those of these orders that have one.

        Raises:
            DatabaseUnavailable: no answer.
        """
        if layout.generation == 0:
            return {}
        if layout != self._layout:  # after a restore, an order may be created in another partition
            self._layout, self._known = layout, {}
        known = self._known
        homes = {order_id: known[order_id] for order_id in order_ids if order_id in known}
        if missing := set(order_ids) - homes.keys():
            async with self._reads.session() as session:
                found = await find_homes(self._database, layout, missing, session)
            if len(known) + len(found) > MAX_KNOWN_ORDERS:
                known.clear()
            known |= found
            homes |= found
        return homes


async def follow_routing(stored: StoredRouting, reroute: Callable[[Routing], None]) -> None:
    """Calls `reroute` with the current routing again and again until cancelled."""
    while True:
        try:
            if (routing := await stored.read()) is not None:
                reroute(routing)
        except DatabaseUnavailable as error:
            log.debug("the layout of the partitions cannot be read: %s", error)
        await asyncio.sleep(LOOK_SECONDS)
