"""Webhooks in the database as their senders use them: leases, progress, secrets, attempts."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from pymongo import ReplaceOne, UpdateOne

from tracking_shared.contracts.timestamps import now
from tracking_shared.contracts.webhooks import (
    AttemptDocument,
    WebhookDocument,
    WebhookSecretDocument,
)
from tracking_shared.storage.database import Database
from tracking_shared.storage.reads import CausalReads, bounded_read

SENDER_LIFE = timedelta(minutes=5)
"""When the document of a sender that has ended is removed. Others consider it dead long before."""

MAX_SECRETS = 8
"""Of one webhook that sign at a time: those that were rotated out within a day, and the newest one."""


WRITTEN_AT_ONCE = 500
"""Documents in one request, which is bounded in time: after an outage there may be tens of thousands."""


class WebhookSummary(NamedTuple):
    """The members of each webhook that all replicas look at."""

    webhook_id: str
    fence: int
    sender: str | None
    test_ids: tuple[str, ...]
    """Of test deliveries that were asked for."""


class Save(NamedTuple):
    """The changes of one webhook to write, while it has this fence."""

    webhook_id: str
    fence: int
    fields: Mapping[str, Any]
    tests_made: tuple[str, ...] = ()
    """Test deliveries that nobody needs to make any more."""

    def change(self) -> dict[str, Any]:
        """As the database takes it."""
        change: dict[str, Any] = {"$set": dict(self.fields)}
        if self.tests_made:
            change["$pull"] = {"tests": {"id": {"$in": list(self.tests_made)}}}
        return change


class WebhookStore:
    """Reads and writes of one sender. Its driver's errors are `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # What was seen to be taken over is not unseen after an election.
        self._causal = CausalReads(database)

    async def beat(self, sender: str, beats: int) -> None:
        """Says that the sender lives."""
        with bounded_read():
            await self._database.webhook_senders.replace_one(
                {"_id": sender},
                {"beats": beats, "expires_at": now() + SENDER_LIFE},
                upsert=True,
            )

    async def leave(self, sender: str) -> None:
        """Says that the sender ends."""
        with bounded_read():
            await self._database.webhook_senders.delete_one({"_id": sender})

    async def senders(self) -> dict[str, int]:
        """The beats of all senders that have not been removed."""
        with bounded_read():
            found = await self._database.webhook_senders.find({}).to_list()
        return {one["_id"]: one["beats"] for one in found}

    async def summaries(self) -> list[WebhookSummary]:
        """All webhooks."""
        shown = {"fence": 1, "sender": 1, "tests": 1}
        with bounded_read():
            async with self._causal.session() as session:
                found = await self._database.webhooks.find({}, shown, session=session).to_list()
        return [
            WebhookSummary(
                one["_id"], one["fence"], one["sender"], tuple(test["id"] for test in one["tests"])
            )
            for one in found
        ]

    async def take(self, webhook_id: str, fence: int, sender: str) -> WebhookDocument | None:
        """Takes a webhook over. None: it was changed since it was looked at, or somebody was faster."""
        with bounded_read():
            taken = await self._database.webhooks.update_one(
                {"_id": webhook_id, "fence": fence}, {"$set": {"sender": sender}, "$inc": {"fence": 1}}
            )
            if not taken.matched_count:
                return None
            document = await self._database.webhooks.find_one({"_id": webhook_id})
        mine = document is not None and (document["fence"], document["sender"]) == (fence + 1, sender)
        return document if mine else None

    async def save(self, saves: Sequence[Save]) -> set[str]:
        """Writes what has changed of the webhooks that are still the caller's, each once. Returns the others,
        of which nothing was written.
        """
        lost: set[str] = set()
        for first in range(0, len(saves), WRITTEN_AT_ONCE):
            lost |= await self._save(saves[first : first + WRITTEN_AT_ONCE])
        return lost

    async def _save(self, saves: Sequence[Save]) -> set[str]:
        updates = [UpdateOne({"_id": one.webhook_id, "fence": one.fence}, one.change()) for one in saves]
        with bounded_read():
            async with self._causal.session() as session:
                webhooks = self._database.webhooks
                saved = await webhooks.bulk_write(updates, ordered=False, session=session)
                if saved.matched_count == len(saves):
                    return set()
                ids = sorted({one.webhook_id for one in saves})
                found = await webhooks.find({"_id": {"$in": ids}}, {"fence": 1}, session=session).to_list()
        # A fence never goes back: whose is the same now was the same when it was written.
        fences = {one["_id"]: one["fence"] for one in found}
        return {one.webhook_id for one in saves if fences.get(one.webhook_id) != one.fence}

    async def keys(self, webhook_id: str) -> list[tuple[bytes, datetime | None]]:
        """The keys that sign, the newest one first, each with its end."""
        with bounded_read():
            found: list[WebhookSecretDocument] = await self._database.webhook_secrets.find(
                {"webhook_id": webhook_id}
            ).to_list()
        found.sort(key=lambda secret: secret["created_at"], reverse=True)
        return [(bytes(secret["key"]), secret["until"]) for secret in found[:MAX_SECRETS]]

    async def add_attempts(self, attempts: Sequence[AttemptDocument]) -> None:
        """Stores attempts, each in the place of one from long before."""
        for first in range(0, len(attempts), WRITTEN_AT_ONCE):
            some = attempts[first : first + WRITTEN_AT_ONCE]
            with bounded_read():
                await self._database.webhook_attempts.bulk_write(
                    [ReplaceOne({"_id": one["_id"]}, one, upsert=True) for one in some], ordered=False
                )
