"""Writes the outcomes of a transaction, except for those that its events carry.

An update of an order that does not exist is refused, too, and anybody may invent order ids. So of those
refusals only the newest ones of each sender are kept in each partition, and not for as long.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from pymongo import DeleteOne, InsertOne, ReplaceOne
from pymongo.asynchronous.client_session import AsyncClientSession

from tracking_order_state.domain.decisions import Decisions
from tracking_order_state.domain.parking import GIVEN_UP
from tracking_shared.contracts.documents import UnknownOrdersDocument, UpdateDocument, applied_outcome
from tracking_shared.contracts.formats import UPDATES, stamped
from tracking_shared.contracts.held import held_update_key
from tracking_shared.storage.database import Database

MAX_UNKNOWN_PER_SENDER = 256
"""Refusals for orders that do not exist, of one sender in one partition: 0.1 MB. An honest sender has none,
or a handful that came before their orders."""

UNKNOWN_LIFE = timedelta(days=7)
"""Of those: longer than any sender repeats an update without being answered."""


async def write_outcomes(
    database: Database,
    session: AsyncClientSession,
    writes: Sequence[tuple[int, Decisions]],
    *,
    with_copies: bool,
) -> None:
    """Writes the refusals of these partitions, and removes those whose place an event or a held update takes.

    `with_copies`: writes the outcomes of events, too, where an order-state of an earlier release looks.
    """
    replaced = {key for _, decisions in writes for key in decisions.replaced}
    made = [applied_outcome(event) for _, decisions in writes for event in decisions.events]
    refusals = [refusal for _, decisions in writes for refusal in decisions.refusals.values()]
    unknown = [
        (partition, refusal)
        for partition, decisions in writes
        for refusal in decisions.refusals.values()
        if _is_of_unknown_order(refusal)
    ]
    dropped: set[str] = set()
    operations: list[Any] = []
    if unknown:
        dropped = await _make_room(database, session, unknown)
        stored = await _still_stored(database, session, dropped - {refusal["_id"] for _, refusal in unknown})
        operations += [DeleteOne({"_id": key}) for key in stored]
    kept = [refusal for refusal in refusals if refusal["_id"] not in dropped]
    if with_copies:
        kept += made
    else:
        operations += [DeleteOne({"_id": one["_id"]}) for one in made if one["_id"] in replaced]
    held = {held_update_key(one) for _, decisions in writes for one in decisions.held.values()}
    operations += [DeleteOne({"_id": key}) for key in held & replaced]
    operations += [_store(outcome, is_new=outcome["_id"] not in replaced) for outcome in kept]
    if operations:
        await database.updates.bulk_write(operations, ordered=True, session=session)


def _is_of_unknown_order(refusal: UpdateDocument) -> bool:
    # An operator gives up few commands, and of any order.
    return refusal["merchant_id"] is None and refusal["problem"] != GIVEN_UP


def _store(outcome: UpdateDocument, *, is_new: bool) -> Any:
    document = dict(stamped(UPDATES, outcome))
    if _is_of_unknown_order(outcome):
        document["expires_at"] = outcome["recorded_at"] + UNKNOWN_LIFE
    return InsertOne(document) if is_new else ReplaceOne({"_id": outcome["_id"]}, document, upsert=True)


async def _make_room(
    database: Database, session: AsyncClientSession, unknown: Iterable[tuple[int, UpdateDocument]]
) -> set[str]:
    """Notes these refusals as the newest ones of their senders. Returns the keys of those beyond the bound,
    of which some may be among these.
    """
    by_sender: dict[str, list[UpdateDocument]] = defaultdict(list)
    for partition, refusal in unknown:
        by_sender[f"{partition}/{refusal['source']['id']}"].append(refusal)
    found = database.unknown_orders.find({"_id": {"$in": list(by_sender)}}, session=session)
    noted = {document["_id"]: document["keys"] for document in await found.to_list()}
    dropped: set[str] = set()
    operations: list[Any] = []
    for sender, refusals in by_sender.items():
        new = [refusal["_id"] for refusal in refusals]
        keys = [*(key for key in noted.get(sender, ()) if key not in set(new)), *new]
        dropped |= set(keys[:-MAX_UNKNOWN_PER_SENDER])
        document: UnknownOrdersDocument = {
            "_id": sender,
            "keys": keys[-MAX_UNKNOWN_PER_SENDER:],
            "expires_at": refusals[-1]["recorded_at"] + UNKNOWN_LIFE,
        }
        operations.append(ReplaceOne({"_id": sender}, document, upsert=True))
    await database.unknown_orders.bulk_write(operations, ordered=True, session=session)
    return dropped


async def _still_stored(database: Database, session: AsyncClientSession, keys: set[str]) -> list[str]:
    # Meanwhile the order may have come to be, and the id have been used for it.
    if not keys:
        return []
    fields = {"merchant_id": 1, "problem": 1}
    found = await database.updates.find({"_id": {"$in": list(keys)}}, fields, session=session).to_list()
    return [outcome["_id"] for outcome in found if _is_of_unknown_order(outcome)]
