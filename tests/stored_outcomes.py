"""The outcomes in a database, wherever they are stored; and the forms that earlier releases stored."""

from typing import Any

from tracking_shared.contracts.documents import OUTCOMES_ID, UpdateDocument, applied_outcome
from tracking_shared.contracts.timestamps import now
from tracking_shared.storage.database import OUTCOMES_GRACE, Database


async def stored_outcomes(database: Database) -> dict[str, UpdateDocument]:
    """By update key: of events that carry them, and of the collection `updates`."""
    outcomes = {outcome["_id"]: outcome async for outcome in database.updates.find({})}
    async for event in database.order_events.find({"update_key": {"$exists": True}}):
        outcomes[event["update_key"]] = applied_outcome(event)
    return outcomes


async def make_earlier(database: Database) -> None:
    """Gives everything the form in which the release before stored it. Nobody may be writing."""
    async for event in database.order_events.find({"update_key": {"$exists": True}}):
        outcome = applied_outcome(event)
        await database.updates.replace_one({"_id": outcome["_id"]}, outcome, upsert=True)
    without: dict[str, Any] = {"$unset": {"update_key": "", "fingerprint": ""}}
    await database.order_events.update_many({}, without)
    await database.order_events.drop_index("update_key")
    await database.unknown_orders.drop()
    await database.raw["settings"].delete_one({"_id": OUTCOMES_ID})
    await database.raw["settings"].update_one({"_id": "partitions"}, {"$unset": {"outcomes_in_events": ""}})


async def end_grace(database: Database) -> None:
    """Lets the time pass that an installation has to bring all its services to this release."""
    past = {"$set": {"in_events_from": now() - OUTCOMES_GRACE}}
    await database.raw["settings"].update_one({"_id": OUTCOMES_ID}, past)
