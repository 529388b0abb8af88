"""order-state as the release before it was: it keeps the outcomes of applied updates beside their events, and
knows an update again by these alone. Events do not carry them.
"""

from collections.abc import Sequence
from typing import Any

from pymongo import UpdateOne

from tracking_order_state.adapters.store import Store
from tracking_order_state.app import serve
from tracking_order_state.domain.decisions import Known
from tracking_order_state.settings import OrderStateSettings
from tracking_shared.contracts.commands import AnyCommand
from tracking_shared.contracts.documents import update_key
from tracking_shared.serving import run_service


class EarlierStore(Store):
    """Neither reads nor leaves outcomes in events."""

    def _writes_copies(self) -> bool:
        return True

    async def load(self, commands: Sequence[AnyCommand], *arguments: Any) -> Known:
        known = await super().load(commands, *arguments)
        keys = {update_key(command.order_id, command.update_id) for command in commands}
        stored = await self._database.updates.find({"_id": {"$in": list(keys)}}).to_list()
        applied = {outcome["_id"] for outcome in stored if outcome["outcome"] == "applied"}
        events = {key: event for key, event in known.events.items() if key in applied}
        refusals = {outcome["_id"]: outcome for outcome in stored if outcome["outcome"] == "rejected"}
        return Known(known.orders, events, refusals, known.parked)

    async def _write(self, session: Any, writes: Any) -> None:
        await super()._write(session, writes)
        without: dict[str, Any] = {"$unset": {"update_key": "", "fingerprint": ""}}
        plain = [
            UpdateOne({"_id": event["_id"]}, without) for _, decisions in writes for event in decisions.events
        ]
        if plain:
            await self._database.raw["order_events"].bulk_write(plain, session=session)


async def earlier(settings: OrderStateSettings) -> None:
    """order-state with the store of the release before."""
    await serve(settings, EarlierStore)


if __name__ == "__main__":
    run_service("order-state", OrderStateSettings, earlier)
