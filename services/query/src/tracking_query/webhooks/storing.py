"""Webhooks in the database, as requests read and change them."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from pymongo.errors import DuplicateKeyError
from uuid_utils import uuid7

from tracking_query.api.page_cursors import KeysetPosition
from tracking_query.webhooks.changes import new_key
from tracking_shared.contracts.access import Principal, covers, may_administer
from tracking_shared.contracts.problems import ProblemError
from tracking_shared.contracts.timestamps import now
from tracking_shared.contracts.webhooks import (
    KEPT_ATTEMPTS,
    MAX_OPEN_TESTS,
    MAX_WEBHOOKS_PER_SUBJECT,
    OLD_SECRET_HOURS,
    AttemptDocument,
    WebhookDocument,
    grant_of,
)
from tracking_shared.storage.database import Database, DatabaseUnavailable
from tracking_shared.storage.embedded_database import match_stages
from tracking_shared.storage.reads import bounded_read

MAX_TRIES = 10
"""Of a change that meets another one: its sender saves a few times a second at most."""

MAX_LOOKED_THROUGH = 10_000
"""Webhooks that one request looks through for those that its token may see."""

Changes = Callable[[WebhookDocument], dict[str, Any]]


def may_see(principal: Principal, webhook: WebhookDocument) -> bool:
    """True if the webhook exists for the caller: nothing goes there that the caller could not read."""
    return may_administer(principal) or covers(principal.grant, grant_of(webhook["grant"]))


async def find_webhook(database: Database, webhook_id: str, principal: Principal) -> WebhookDocument:
    """The webhook.

    Raises:
        ProblemError: `not-found`, also where it does not exist for the caller.
    """
    with bounded_read():
        webhook = await database.webhooks.find_one({"_id": webhook_id})
    if webhook is None or not may_see(principal, webhook):
        raise ProblemError("not-found", f"There is no webhook {webhook_id[:64]}.")
    return webhook


async def refuse_too_many(database: Database, principal: Principal) -> None:
    """Raises `ProblemError` (`too-many-requests`) if the caller has registered as many as one may have."""
    with bounded_read():
        count = await database.webhooks.count_documents(
            {"grant.sub": principal.subject}, limit=MAX_WEBHOOKS_PER_SUBJECT
        )
    if count >= MAX_WEBHOOKS_PER_SUBJECT:
        raise ProblemError(
            "too-many-requests", f"One principal may have {MAX_WEBHOOKS_PER_SUBJECT} webhooks."
        )


async def insert_webhook(database: Database, webhook: WebhookDocument) -> bytes | None:
    """Stores a new webhook and returns its key; None: there is one with this id."""
    key = new_key()
    secret_id = uuid7().hex
    with bounded_read():
        # The key first: there is no webhook without one.
        await database.webhook_secrets.insert_one(
            {
                "_id": secret_id,
                "webhook_id": webhook["_id"],
                "key": key,
                "created_at": now(),
                "until": None,
            }
        )
        try:
            await database.webhooks.insert_one(webhook)
        except DuplicateKeyError:
            await database.webhook_secrets.delete_one({"_id": secret_id})
            return None
    return key


async def change_webhook(database: Database, webhook: WebhookDocument, changes: Changes) -> WebhookDocument:
    """Makes changes, which its sender notices by the fence: it drops what it has not saved, and starts
    again with the changed document.

    Raises:
        ProblemError: `not-found`: it was deleted meanwhile.
        DatabaseUnavailable: no answer, or others changed it again and again.
    """
    for _ in range(MAX_TRIES):
        fields = {**changes(webhook), "updated_at": now()}
        seen = {"_id": webhook["_id"], "fence": webhook["fence"]}
        with bounded_read():
            changed = await database.webhooks.update_one(seen, {"$set": fields, "$inc": {"fence": 1}})
            found = await database.webhooks.find_one({"_id": webhook["_id"]})
        if found is None:
            raise ProblemError("not-found", "The webhook was deleted meanwhile.")
        if changed.matched_count:
            return found
        webhook = found
    raise DatabaseUnavailable("a webhook was changed by others again and again")


async def delete_webhook(database: Database, webhook_id: str) -> None:
    """Deletes a webhook, its keys and its attempts. Safe to repeat."""
    with bounded_read():
        await database.webhooks.delete_one({"_id": webhook_id})
        await database.webhook_secrets.delete_many({"webhook_id": webhook_id})
        await database.webhook_attempts.delete_many({"webhook_id": webhook_id})


async def rotate_secret(database: Database, webhook: WebhookDocument) -> bytes:
    """Gives a webhook a new key. Those before it sign too for `OLD_SECRET_HOURS`."""
    key, time, secret_id = new_key(), now(), uuid7().hex
    with bounded_read():
        await database.webhook_secrets.insert_one(
            {
                "_id": secret_id,
                "webhook_id": webhook["_id"],
                "key": key,
                "created_at": time,
                "until": None,
            }
        )
        await database.webhook_secrets.update_many(
            # Only earlier ones: of two that rotate at the same time, neither must end the key of the other.
            {"webhook_id": webhook["_id"], "until": None, "created_at": {"$lt": time}},
            {"$set": {"until": time + timedelta(hours=OLD_SECRET_HOURS)}},
        )
    await change_webhook(database, webhook, lambda _: {})
    return key


async def request_test(database: Database, webhook_id: str) -> str:
    """Asks the sender for a test delivery; returns its id."""
    test_id = f"test_{uuid7().hex}"
    test = {"id": test_id, "requested_at": now()}
    with bounded_read():
        await database.webhooks.update_one(
            {"_id": webhook_id}, {"$push": {"tests": {"$each": [test], "$slice": -MAX_OPEN_TESTS}}}
        )
    return test_id


async def find_attempt(database: Database, webhook_id: str, event_id: str) -> AttemptDocument | None:
    """The newest attempt to deliver an event."""
    attempts = await find_attempts(database, webhook_id, KEPT_ATTEMPTS)
    return next((one for one in attempts if one["event_id"] == event_id), None)


async def find_attempts(database: Database, webhook_id: str, limit: int) -> list[AttemptDocument]:
    """The newest attempts, the newest one first."""
    with bounded_read():
        found = await database.webhook_attempts.find({"webhook_id": webhook_id}).to_list()
    # There are few: a sort would cost more than it saves.
    return sorted(found, key=lambda one: one["number"], reverse=True)[:limit]


async def list_webhooks(
    database: Database, principal: Principal, after: KeysetPosition | None, limit: int
) -> list[WebhookDocument]:
    """The next webhooks that exist for the caller, newest first, at most `limit`."""
    stages: list[dict[str, Any]] = []
    if after is not None:
        stages.append({"created_at": {"$lte": after.time}})
        stages.append({"$or": [{"created_at": {"$lt": after.time}}, {"_id": {"$lt": after.order_id}}]})
    pipeline = [
        *match_stages(stages),
        {"$sort": {"created_at": -1, "_id": -1}},
        {"$limit": MAX_LOOKED_THROUGH},
    ]
    found: list[WebhookDocument] = []
    with bounded_read():
        async with await database.webhooks.aggregate(pipeline) as cursor:
            async for webhook in cursor:
                if may_see(principal, webhook):
                    found.append(webhook)
                if len(found) == limit:
                    break
    return found
