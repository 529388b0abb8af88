"""Erasures of persons, as they are asked for and looked at. order-state carries them out."""

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any

from uuid_utils import uuid7

from tracking_shared.contracts.documents import ERASURE_KEY_ID, ErasureDocument, EventDocument
from tracking_shared.contracts.erased import ErasedCustomers, contact_key
from tracking_shared.contracts.texts import canonical_forms
from tracking_shared.contracts.timestamps import format_time, now
from tracking_shared.storage.audit_trail import Act, Actor, AuditTrail
from tracking_shared.storage.database import Database, DatabaseUnavailable, driver_errors
from tracking_shared.storage.keyset import KeyOrder, read_pages

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

ERASURE_DAYS = 90
"""The life of an erasure after it was accepted. Until then a create that was received before it, and waited
in a queue, is recognised. A command waits for as long as order-state is away.
"""

PAGE_ERASURES = 1_000
"""Open erasures that are read at once."""

_BY_ID = KeyOrder(("_id",))

LOOK_SECONDS = 0.1

WAIT_SECONDS = 10.0
"""The time that a caller waits for the end of an erasure: 1,000 orders take about a second, a backlog
longer.
"""


async def request_erasure(
    database: Database, audit: AuditTrail, actor: Actor, contact_ref: str, merchant_id: str | None
) -> ErasureDocument:
    """Accepts the erasure of a person: from now on it is in effect, and order-state carries it out. The
    entry in the audit trail is written before, without the contact.

    Raises:
        DatabaseUnavailable: perhaps it was not accepted.
    """
    forms = canonical_forms(contact_ref)
    erasure_id = uuid7().hex
    await audit.record(actor, Act("customer.erased", erasure_id, {"merchant_id": merchant_id}))
    with driver_errors():
        accepted_at = await _accepted_at(database, forms, merchant_id)
        erasure: ErasureDocument = {
            "_id": erasure_id,
            "merchant_id": merchant_id,
            "accepted_at": accepted_at,
            "open": True,
            "contact_refs": forms,
            "expires_at": accepted_at + timedelta(days=ERASURE_DAYS),
        }
        await database.erasures.insert_one(erasure)
    return erasure


async def _accepted_at(database: Database, forms: Sequence[str], merchant_id: str | None) -> datetime:
    # An order that is there is erased, also where the clock of order-state is ahead of the one here.
    conditions: dict[str, Any] = {"customer.contact_ref": forms[0] if len(forms) == 1 else {"$in": forms}}
    if merchant_id is not None:
        conditions["merchant_id"] = merchant_id
    found = database.orders.find(conditions, {"created_at": 1})
    newest = await found.sort("created_at", -1).limit(1).to_list()
    return max([now(), *(order["created_at"] for order in newest)])


async def find_erasure(database: Database, erasure_id: str) -> ErasureDocument | None:
    """The erasure, if there is one that is not forgotten yet.

    Raises:
        DatabaseUnavailable: no answer.
    """
    with driver_errors():
        return await database.erasures.find_one({"_id": erasure_id})


async def erasure_key(database: Database, session: "AsyncClientSession | None" = None) -> bytes:
    """The key of the digests of erased contacts; empty before the first order-state has set it up. Errors of
    the driver are the caller's.
    """
    stored = await database.raw["settings"].find_one({"_id": ERASURE_KEY_ID}, session=session)
    return bytes(stored["key"]) if stored else b""


async def erased_among(
    database: Database, events: Collection[EventDocument], session: "AsyncClientSession | None" = None
) -> ErasedCustomers:
    """The customers of these events that are erased, and those of open erasures. Errors of the driver are the
    caller's.
    """
    contacts = {event["customer"]["contact_ref"] for event in events if event["customer"] is not None}
    if not contacts:
        return ErasedCustomers()
    key = await erasure_key(database, session)
    # Open ones first: one that is done meanwhile is among the others.
    pages = read_pages(database.erasures, {"open": True}, _BY_ID, batch=PAGE_ERASURES, session=session)
    digests = {contact_key(key, contact) for contact in contacts}
    erasures = [
        one async for page in pages for one in page if contact_key(key, one["contact_refs"][0]) in digests
    ]
    done = database.erasures.find({"contact_key": {"$in": sorted(digests)}}, session=session)
    return ErasedCustomers.of(key, [*erasures, *await done.to_list()])


async def wait_for_erasure(
    database: Database, erasure: ErasureDocument, seconds: float = WAIT_SECONDS
) -> ErasureDocument:
    """The erasure once it is done, or as it stands after `seconds`.

    Raises:
        DatabaseUnavailable: no answer. The erasure goes on.
    """
    deadline = monotonic() + seconds
    while "done_at" not in erasure and monotonic() < deadline:
        await asyncio.sleep(LOOK_SECONDS)
        found = await find_erasure(database, erasure["_id"])
        if found is None:
            raise DatabaseUnavailable("an erasure that was accepted is gone")
        erasure = found
    return erasure


def erasure_view(erasure: ErasureDocument) -> dict[str, Any]:
    """An erasure as it is shown, without the person."""
    view: dict[str, Any] = {
        "erasure_id": erasure["_id"],
        "merchant_id": erasure["merchant_id"],
        "erased_at": format_time(erasure["accepted_at"]),
        "done": "done_at" in erasure,
    }
    if "done_at" in erasure:
        view |= {"orders": erasure.get("orders", 0), "events": erasure.get("events", 0)}
    return view
