"""order-state that is careless about what the database answers: the campaign's judges must notice.

`CARELESS=presuming`: takes a commit without an answer for done, and tells callers so. `CARELESS=forgetful`:
takes it for not done, and decides again without looking for what it has done before.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tracking_order_state.adapters.store import Store
from tracking_order_state.app import serve
from tracking_order_state.domain.decisions import Decisions, Known
from tracking_order_state.domain.partition import PartitionPosition
from tracking_order_state.settings import OrderStateSettings
from tracking_shared.contracts.commands import AnyCommand
from tracking_shared.serving import run_service
from tracking_shared.storage.database import DatabaseUnavailable


class Presuming(Store):
    """Does not ask what became of a commit."""

    async def commit(
        self, positions: Sequence[PartitionPosition], decided: Sequence[Decisions]
    ) -> list[PartitionPosition]:
        try:
            return await super().commit(positions, decided)
        except DatabaseUnavailable:
            return [await self.recover(position) for position in positions]


class Forgetful(Store):
    """Knows no update again, and overwrites its outcome."""

    async def load(self, commands: Sequence[AnyCommand], *arguments: Any) -> Known:
        return replace(await super().load(commands, *arguments), events={}, refusals={})

    async def commit(
        self, positions: Sequence[PartitionPosition], decided: Sequence[Decisions]
    ) -> list[PartitionPosition]:
        for one in decided:
            one.replaced |= one.refusals.keys()
        return await super().commit(positions, decided)


STORES = {"presuming": Presuming, "forgetful": Forgetful}


async def careless(settings: OrderStateSettings) -> None:
    """order-state with the store that is asked for."""
    await serve(settings, STORES[os.environ["CARELESS"]])


if __name__ == "__main__":
    run_service("order-state", OrderStateSettings, careless)
