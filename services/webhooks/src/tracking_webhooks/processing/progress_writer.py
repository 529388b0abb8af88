"""Writes the progress of all webhooks of a process together: two requests to the database, however many."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from tracking_shared.contracts.webhooks import AttemptDocument
from tracking_shared.storage.database import DatabaseUnavailable
from tracking_webhooks.adapters.webhook_store import Save, WebhookStore


@dataclass(frozen=True, slots=True)
class Unsaved:
    """The changes that one webhook has to write."""

    save: Save
    attempts: Sequence[AttemptDocument]


@dataclass(slots=True)
class _Group:
    """The changes that are written together."""

    members: list[Unsaved] = field(default_factory=list)
    lost: set[str] | None = None
    """None: not written yet."""
    error: DatabaseUnavailable | None = None


class ProgressWriter:
    """One write at a time. Those who come meanwhile share the next one."""

    def __init__(self, store: WebhookStore) -> None:
        self._store = store
        self._lock = asyncio.Lock()
        self._group = _Group()

    async def write(self, members: Sequence[Unsaved]) -> set[str]:
        """Writes, and returns the webhooks among them that are not the caller's any more.

        Raises:
            DatabaseUnavailable: some of it may not have been written.
        """
        if not members:
            return set()
        group = self._group
        group.members.extend(members)
        async with self._lock:
            if group.lost is None and group.error is None:
                self._group = _Group()
                await self._write(group)
        if group.error is not None:
            raise group.error
        return group.lost or set()

    async def _write(self, group: _Group) -> None:
        attempts = [attempt for one in group.members for attempt in one.attempts]
        try:
            # First the attempts: what they tell of has happened, whoever's the webhook is now.
            await self._store.add_attempts(attempts)
            # Of two of one webhook, the later one alone: it is the state as a whole.
            saves = {one.save.webhook_id: one.save for one in group.members}
            group.lost = await self._store.save(list(saves.values()))
        except DatabaseUnavailable as error:
            group.error = error
