"""The list of revocations in the database: how it is written, and how services keep up with it."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pymongo
from uuid_utils import uuid4

from tracking_shared.contracts.access import Principal
from tracking_shared.contracts.documents import RevocationDocument
from tracking_shared.contracts.timestamps import to_milliseconds
from tracking_shared.errors import TrackingError
from tracking_shared.storage.database import Database, DatabaseUnavailable, driver_errors
from tracking_shared.storage.reads import CausalReads

# Revocations: tokens that end before their `exp`. Pure; `tracking_shared.auth.revocations` keeps them
# current.


@dataclass(frozen=True, slots=True)
class Revocations:
    """The revoked tokens: single ones by `jti`, and all of a subject that were issued before a time."""

    token_ids: frozenset[str] = frozenset()
    issued_before: Mapping[str, float] = field(default_factory=dict)
    """By subject, seconds since the epoch."""

    def include(self, principal: Principal) -> bool:
        """True if the token that proved this caller is revoked. One that does not say when it was issued
        counts as issued before any time.
        """
        if principal.token_id is not None and principal.token_id in self.token_ids:
            return True
        before = self.issued_before.get(principal.subject)
        return before is not None and (principal.issued_at is None or principal.issued_at < before)


def revocations_of(documents: Iterable[RevocationDocument]) -> Revocations:
    """The revocations that the documents hold."""
    token_ids: set[str] = set()
    issued_before: dict[str, float] = {}
    for document in documents:
        if document["token_id"] is not None:
            token_ids.add(document["token_id"])
        if document["subject"] is not None and document["issued_before"] is not None:
            issued_before[document["subject"]] = document["issued_before"].timestamp()
    return Revocations(frozenset(token_ids), issued_before)


log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""The age of the known list while the database answers: so long a revoked token may still serve."""

FRESH_SECONDS = 3.0
"""The time that callers wait for it. The driver looks for a lost database all that time."""

MAX_REVOCATIONS = 20_000
"""Every service holds them all; reading that many takes it a fifth of a second."""

_STATE = "revocations"


class TooManyRevocations(TrackingError):
    """The list is full. Changing the secret ends all tokens at once."""


class RevocationList:
    """The revocations as one service knows them. Nothing is known before the first look."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._causal = CausalReads(database)
        self._state: str | None = None
        self._looked_at = -LOOK_SECONDS
        self._looking: asyncio.Task[bool] | None = None
        self.known = Revocations()
        """At the newest look that the database answered."""

    async def look(self) -> bool:
        """Brings `known` up to date; whether it changed. Costs one small read while nothing is revoked.

        Raises:
            DatabaseUnavailable: what was known before still holds.
        """
        started = time.monotonic()
        # Causally after every look before: what was seen to be revoked is not unseen after an election.
        with driver_errors():
            async with self._causal.session() as session:
                # The state first, then the list, which is so not older: a revocation in between is read now
                # and noticed again later.
                document = await self._database.raw["settings"].find_one({"_id": _STATE}, session=session)
                state = None if document is None else str(document["state"])
                changed = state != self._state
                if changed:
                    found = self._database.revocations.find({}, session=session)
                    self.known = revocations_of(await found.to_list(None))
        self._state = state
        self._looked_at = started
        return changed

    async def fresh(self) -> Revocations:
        """The revocations, at most `LOOK_SECONDS` old.

        Raises:
            DatabaseUnavailable: they are not known that freshly.
        """
        if self._is_old:
            # One look for all who wait, also where it fails: in a queue, each would wait for the failures
            # before it. Not ended with one of them: the driver's calls must not be cancelled.
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look_in_time())
            await asyncio.shield(self._looking)
        return self.known

    async def _look_in_time(self) -> bool:
        with driver_errors(), pymongo.timeout(FRESH_SECONDS):
            return await self.look()

    @property
    def _is_old(self) -> bool:
        return time.monotonic() - self._looked_at > LOOK_SECONDS

    async def follow(self, on_change: Callable[[], None] = lambda: None) -> None:
        """Looks every `LOOK_SECONDS` until cancelled; what is known holds while the database is away."""
        while True:
            try:
                if await self.look():
                    on_change()
            except DatabaseUnavailable as error:
                log.warning("revocations as they were known before: %s", error)
            await asyncio.sleep(LOOK_SECONDS)


async def revoke_token(database: Database, token_id: str, *, until: datetime | None = None) -> None:
    """Revokes the token with this `jti`. Repeating it is harmless. Services act within seconds.

    `until`: when the token expires anyway; the entry is removed then. None = it is kept for ever.

    Raises:
        TooManyRevocations, DatabaseUnavailable: perhaps not revoked; repeat it.
    """
    entry = {"token_id": token_id, "subject": None, "issued_before": None, "expires_at": until}
    await _write(database, f"jti/{token_id}", {"$set": entry})


async def revoke_subject(
    database: Database, subject: str, *, issued_before: datetime, until: datetime | None = None
) -> None:
    """Revokes all tokens of a subject that were issued before a time (`iat`), and those that do not say when.

    A later call can only move that time on: what was revoked stays so. `until`: when the last of the
    tokens expires anyway; the entry is removed then. None = it is kept for ever.

    Raises:
        TooManyRevocations, DatabaseUnavailable: perhaps not revoked; repeat it.
    """
    entry = {"token_id": None, "subject": subject, "expires_at": until}
    latest = {"issued_before": to_milliseconds(issued_before)}
    await _write(database, f"sub/{subject}", {"$set": entry, "$max": latest})


async def _write(database: Database, key: str, change: dict[str, Any]) -> None:
    with driver_errors():
        if await database.revocations.estimated_document_count() >= MAX_REVOCATIONS:
            raise TooManyRevocations(f"there are {MAX_REVOCATIONS} revocations already")
        await database.revocations.update_one({"_id": key}, change, upsert=True)
        # By chance, not by counting: the state of a restored database must differ from all that were seen.
        await database.raw["settings"].update_one(
            {"_id": _STATE}, {"$set": {"state": uuid4().hex}}, upsert=True
        )
