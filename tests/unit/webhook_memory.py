"""Webhooks and the log in memory, in the place of the database, for tests of how deliveries go."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic, time
from typing import Any, cast

from tracking_shared.auth.revocations import RevocationList, Revocations
from tracking_shared.contracts.cursors import Position
from tracking_shared.contracts.documents import EventDocument, position_key
from tracking_shared.contracts.webhooks import AttemptDocument, GrantDocument, WebhookDocument
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.policy.receivers import parse_networks
from tracking_shared.serving import background
from tracking_shared.storage.database import DatabaseUnavailable
from tracking_webhooks.adapters.http_sender import open_sender
from tracking_webhooks.adapters.log_reader import LogReader
from tracking_webhooks.adapters.webhook_store import Save, WebhookStore, WebhookSummary
from tracking_webhooks.processing.assignment import Assignment
from tracking_webhooks.processing.capacity import Capacity
from tracking_webhooks.processing.endpoint import Parts
from tracking_webhooks.processing.message_cache import MessageCache
from tracking_webhooks.processing.tail import Tail

PARTITIONS = 2
TIME = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = b"k" * 32
EVERYTHING: GrantDocument = {
    "merchants": ["*"],
    "orders": None,
    "sub": "shop",
    "token_id": None,
    "issued_at": None,
}


class MemoryLog:
    """The log, as `LogReader` gives it."""

    def __init__(self) -> None:
        self.events: list[list[EventDocument]] = [[] for _ in range(PARTITIONS)]
        self.archived: set[str] = set()
        """Orders that have left."""
        self.read_again_events = 0

    def add(self, order_id: str, merchant: str = "m-1") -> EventDocument:
        """One more event of an order."""
        partition = sum(order_id.encode()) % PARTITIONS
        version = 1 + sum(event["order_id"] == order_id for event in self.events[partition])
        event: EventDocument = {
            "_id": position_key(partition, len(self.events[partition]) + 1),
            "order_id": order_id,
            "merchant_id": merchant,
            "customer": {"name": "Ada", "contact_ref": "crm-1"},
            "version": version,
            "partition": partition,
            "seq": len(self.events[partition]) + 1,
            "status": "in_transit" if version > 1 else "created",
            "previous_status": "in_transit" if version > 1 else None,
            "active": True,
            "update_id": f"u-{version}",
            "source": {"type": "driver", "id": "dora"},
            "occurred_at": None,
            "received_at": TIME,
            "recorded_at": TIME,
            "created_at": TIME,
            "metadata": {},
            "order_metadata": {},
        }
        self.events[partition].append(event)
        return event

    def erase(self, order_id: str) -> None:
        """Erases the customer of an order, as order-state does."""
        last = self.add(order_id)
        last["type"] = "order.customer_erased"
        for event in self.events[last["partition"]]:
            if event["order_id"] == order_id:
                event["customer"] = None

    async def read_ends(self) -> tuple[Position, Position]:
        starts = (
            max((one["seq"] for one in events if one["order_id"] in self.archived), default=0)
            for events in self.events
        )
        return Position("epoch", tuple(starts)), Position("epoch", tuple(map(len, self.events)))

    async def read_new(self, partition: int, after: int, last: int) -> list[EventDocument]:
        found = self.events[partition][after : min(last, after + 500)]
        if len(self._left(found)) < len(found):
            raise DatabaseUnavailable("they are not all there")
        return deepcopy(found)

    async def read_matching(
        self, partition: int, after: int, last: int, stages: Sequence[dict[str, Any]], limit: int
    ) -> tuple[list[EventDocument], int]:
        assert not stages, "the queries are tested on a database"
        found = self.events[partition][after : min(last, after + limit)]
        return self._left(found), found[-1]["seq"] if found else last

    def _left(self, events: Sequence[EventDocument]) -> list[EventDocument]:
        return deepcopy([event for event in events if event["order_id"] not in self.archived])

    async def count_archived(self, partition: int, after: int, last: int) -> int:
        return last - after - len(self._left(self.events[partition][after:last]))

    async def read_next_of_order(
        self, order_id: str, version: int, last_seq: int, stages: Sequence[dict[str, Any]]
    ) -> EventDocument | None:
        for events in self.events:
            for event in self._left(events):
                fits = event["order_id"] == order_id and event["version"] >= version
                if fits and event["seq"] <= last_seq:
                    return deepcopy(event)
        return None

    async def read_again(self, events: Sequence[EventDocument]) -> list[EventDocument]:
        self.read_again_events += len(events)
        return deepcopy([self.events[event["partition"]][event["seq"] - 1] for event in events])


class MemoryStore:
    """The webhooks, as `WebhookStore` reads and writes them."""

    def __init__(self) -> None:
        self.webhooks: dict[str, WebhookDocument] = {}
        self.beats: dict[str, int] = {}
        self.attempts: dict[str, AttemptDocument] = {}
        self.saves = 0

    async def beat(self, sender: str, beats: int) -> None:
        self.beats[sender] = beats

    async def leave(self, sender: str) -> None:
        self.beats.pop(sender, None)

    async def senders(self) -> dict[str, int]:
        return dict(self.beats)

    async def summaries(self) -> list[WebhookSummary]:
        return [
            WebhookSummary(name, one["fence"], one["sender"], tuple(test["id"] for test in one["tests"]))
            for name, one in self.webhooks.items()
        ]

    async def take(self, webhook_id: str, fence: int, sender: str) -> WebhookDocument | None:
        webhook = self.webhooks.get(webhook_id)
        if webhook is None or webhook["fence"] != fence:
            return None
        webhook["fence"], webhook["sender"] = fence + 1, sender
        return deepcopy(webhook)

    async def save(self, saves: Sequence[Save]) -> set[str]:
        self.saves += 1
        return {one.webhook_id for one in saves if not self._save(one)}

    def _save(self, one: Save) -> bool:
        webhook = self.webhooks.get(one.webhook_id)
        if webhook is None or webhook["fence"] != one.fence:
            return False
        webhook.update(cast(WebhookDocument, deepcopy(dict(one.fields))))
        webhook["tests"] = [test for test in webhook["tests"] if test["id"] not in one.tests_made]
        return True

    async def keys(self, webhook_id: str) -> list[tuple[bytes, datetime | None]]:
        return [(KEY, None)]

    async def add_attempts(self, attempts: Sequence[AttemptDocument]) -> None:
        self.attempts |= {one["_id"]: one for one in attempts}


@dataclass
class MemoryRevocations:
    """The list of revocations, as it is known."""

    known: Revocations = field(default_factory=Revocations)


@dataclass
class MemoryWorld:
    """A log, webhooks and revocations, and the senders that work on them."""

    log: MemoryLog = field(default_factory=MemoryLog)
    store: MemoryStore = field(default_factory=MemoryStore)
    revocations: MemoryRevocations = field(default_factory=MemoryRevocations)
    tails: list[Tail] = field(default_factory=list)

    def add(self, *names: str, merchant: str = "m-1") -> None:
        """One more event of each of these orders."""
        for name in names:
            self.log.add(name, merchant)
        for tail in self.tails:
            tail.wake()

    def register(self, webhook_id: str, url: str, **members: Any) -> WebhookDocument:
        """A webhook from the beginning of the log."""
        webhook: dict[str, Any] = {
            "_id": webhook_id,
            "url": url,
            "filter": {},
            "description": None,
            "grant": EVERYTHING,
            "created_at": TIME,
            "updated_at": TIME,
            "fence": 0,
            "sender": None,
            "state": "active",
            "reason": None,
            "epoch": "epoch",
            "seqs": [0] * PARTITIONS,
            "delayed": [],
            "failures": 0,
            "failing_since": None,
            "resume_at": None,
            "last_attempt": None,
            "attempts": 0,
            "missed": None,
            "tests": [],
        }
        made = cast(WebhookDocument, webhook | members)
        self.store.webhooks[webhook_id] = made
        return made

    @asynccontextmanager
    async def sender(
        self, name: str = "a", clock: Callable[[], float] = time, ages: Callable[[], float] = monotonic
    ) -> AsyncIterator[Assignment]:
        """A replica at work. It ends as one that is stopped."""
        async with open_sender(parse_networks("127.0.0.0/8")) as http:
            tail = Tail(cast(LogReader, self.log), clock=ages)
            parts = Parts(
                store=cast(WebhookStore, self.store),
                reader=cast(LogReader, self.log),
                tail=tail,
                sender=http,
                capacity=Capacity(),
                revocations=cast(RevocationList, self.revocations),
                messages=MessageCache(DEFAULT_WORKFLOW),
                clock=clock,
            )
            assignment = Assignment(cast(WebhookStore, self.store), name, parts)
            tail.on_new = assignment.wake_for
            self.tails.append(tail)

            async def work() -> None:
                async with background(tail.run()):
                    await assignment.run()

            task = asyncio.create_task(work())
            try:
                yield assignment
            finally:
                self.tails.remove(tail)
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
