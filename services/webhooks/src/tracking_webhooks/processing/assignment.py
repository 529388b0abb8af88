"""The webhooks of this process: taken, delivered for, and given up."""

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic

from tracking_shared.contracts.documents import EventDocument
from tracking_shared.serving import background
from tracking_shared.storage.database import DatabaseUnavailable
from tracking_shared.telemetry.logs import PacedLog
from tracking_webhooks.adapters.webhook_store import Save, WebhookStore, WebhookSummary
from tracking_webhooks.domain.rendezvous import HELD_SECONDS, LivingSenders, Seen, Steps, steps
from tracking_webhooks.errors import LeaseLost
from tracking_webhooks.metrics import (
    BEHIND_EVENTS,
    DELAYED_ORDERS,
    LEASE_HELD,
    LEASES_LOST,
    UNASSIGNED,
    WEBHOOKS,
)
from tracking_webhooks.processing.endpoint import SAVE_SECONDS, STOP_SECONDS, Endpoint, Parts
from tracking_webhooks.processing.progress_writer import ProgressWriter, Unsaved

log = logging.getLogger(__name__)
paced_log = PacedLog(log)

BEAT_SECONDS = 1.0

LOOK_SECONDS = 0.5
"""Between two looks at senders and webhooks: so long a new webhook waits for its first event."""

TAKEN_AT_ONCE = 50
"""Webhooks that are taken in one look: the log of each is read on."""

RELEASE_SECONDS = STOP_SECONDS + 3.5
"""For what is in flight, and for saving: the driver looks for a lost database for 3 seconds."""

FAULT_SECONDS = 10.0
"""A webhook on which our own code failed is left alone for so long."""


class NotAlive(DatabaseUnavailable):
    """This process has not been able to say for a while that it lives."""


@dataclass(slots=True)
class _Running:
    endpoint: Endpoint
    fence: int
    task: asyncio.Task[None]


class Assignment:
    """Runs an `Endpoint` for each webhook that is this process's."""

    def __init__(
        self, store: WebhookStore, me: str, parts: Parts, clock: Callable[[], float] = monotonic
    ) -> None:
        self._store = store
        self._writer = ProgressWriter(store)
        self._parts = replace(parts, may_send=self.is_held)
        self._me = me
        self._clock = clock
        self._senders = LivingSenders(me)
        self._running: dict[str, _Running] = {}
        self._releases: dict[str, asyncio.Task[None]] = {}
        self._failed_at: dict[str, float] = {}
        self._beats = 0
        self._beaten_at = -math.inf

    def is_held(self) -> bool:
        """True while no other process can have taken over what this one has."""
        return self._clock() - self._beaten_at < HELD_SECONDS

    async def check(self) -> None:
        """Raises `NotAlive` where `is_held` is false."""
        if not self.is_held():
            raise NotAlive("this process could not say for a while that it lives")

    def wake_for(self, events: Sequence[EventDocument]) -> None:
        """Wakes the webhooks that may get one of these events; no events stand for many."""
        merchants = {event["merchant_id"] for event in events}
        orders = {event["order_id"] for event in events}
        for one in self._running.values():
            if not events or one.endpoint.may_get(merchants, orders):
                one.endpoint.wake()

    def wake_all(self) -> None:
        """Wakes all of them, because something that concerns all has changed."""
        self.wake_for(())

    async def run(self) -> None:
        """Takes and gives up webhooks until cancelled; then gives up all of them."""
        try:
            async with background(
                _repeated(self._beat, BEAT_SECONDS), _repeated(self._save_due, SAVE_SECONDS)
            ):
                await _repeated(self._look, LOOK_SECONDS)
        finally:
            await self._leave()

    async def _beat(self) -> None:
        began = self._clock()
        self._beats += 1
        await self._store.beat(self._me, self._beats)
        self._beaten_at = began

    async def _save_due(self) -> None:
        due = [one.endpoint for one in self._running.values() if one.endpoint.is_save_due()]
        await self._save({endpoint: endpoint.take_unsaved() for endpoint in due})

    async def _save(self, unsaved: Mapping[Endpoint, Unsaved]) -> None:
        try:
            lost = await self._writer.write(list(unsaved.values()))
        except (DatabaseUnavailable, asyncio.CancelledError):  # at a stop, each release writes it again
            for endpoint, one in unsaved.items():
                endpoint.give_back(one)
            raise
        for endpoint, one in unsaved.items():
            if endpoint.webhook_id in lost:
                endpoint.lose()
            else:
                endpoint.saved(one)

    async def _look(self) -> None:
        LEASE_HELD.set(self.is_held())
        if not self.is_held():
            return  # the others do not know it, or take it for dead
        living = self._senders.look(await self._store.senders(), self._clock())
        summaries = await self._store.summaries()
        self._end_finished()
        running = {webhook_id: one.fence for webhook_id, one in self._running.items()}
        seen = [Seen(one.webhook_id, one.fence, one.sender) for one in summaries if self._may_try(one)]
        await self._apply(steps(seen, living, self._me, running))
        self._request_tests(summaries)
        UNASSIGNED.set(sum(one.sender not in living for one in summaries))
        self._report()

    async def _apply(self, found: Steps) -> None:
        for webhook_id in found.drop:
            LEASES_LOST.inc()
            self._running.pop(webhook_id).task.cancel()
        self._give_up(found.give_up)
        if found.free:
            # Nobody else takes them while this process lives.
            await self._store.save([Save(one.webhook_id, one.fence, {"sender": None}) for one in found.free])
        for webhook in found.take[:TAKEN_AT_ONCE]:
            document = await self._store.take(webhook.webhook_id, webhook.fence, self._me)
            if document is not None:
                endpoint = Endpoint(document, self._parts)
                task = asyncio.create_task(endpoint.run())
                self._running[webhook.webhook_id] = _Running(endpoint, document["fence"], task)

    def _give_up(self, webhook_ids: Sequence[str]) -> None:
        """Begins to release these. It takes as long as what they have in flight, seconds at most."""
        for webhook_id in webhook_ids:
            one = self._running.pop(webhook_id)
            one.endpoint.stop()
            release = self._releases[webhook_id] = asyncio.create_task(self._release(one))
            release.add_done_callback(partial(self._released, webhook_id))

    def _released(self, webhook_id: str, _: asyncio.Task[None]) -> None:
        del self._releases[webhook_id]

    async def _release(self, one: _Running) -> None:
        await asyncio.wait({one.task}, timeout=RELEASE_SECONDS)
        if not one.task.done():
            one.task.cancel()  # the database is away: some is delivered again
            return
        with suppress(LeaseLost, DatabaseUnavailable):
            await one.task
            await self._save({one.endpoint: one.endpoint.take_unsaved(sender=None)})

    def _may_try(self, webhook: WebhookSummary) -> bool:
        if webhook.webhook_id in self._releases:
            return False
        failed_at = self._failed_at.get(webhook.webhook_id)
        return failed_at is None or self._clock() - failed_at >= FAULT_SECONDS

    def _end_finished(self) -> None:
        for webhook_id, one in list(self._running.items()):
            if not one.task.done():
                continue
            del self._running[webhook_id]
            fault = None if one.task.cancelled() else one.task.exception()
            if isinstance(fault, LeaseLost):
                LEASES_LOST.inc()
            elif fault is not None:
                self._failed_at[webhook_id] = self._clock()
                log.error("the delivery for webhook %s failed", webhook_id, exc_info=fault)

    def _request_tests(self, summaries: Sequence[WebhookSummary]) -> None:
        for one in summaries:
            if one.webhook_id in self._running:
                self._running[one.webhook_id].endpoint.request_tests(one.test_ids)

    def _report(self) -> None:
        states = Counter(one.endpoint.progress.state for one in self._running.values())
        for state in ("active", "failing", "disabled"):
            WEBHOOKS.labels(state).set(states[state])
        BEHIND_EVENTS.set(max((one.endpoint.behind_events for one in self._running.values()), default=0))
        DELAYED_ORDERS.set(sum(len(one.endpoint.progress.delayed) for one in self._running.values()))

    async def _leave(self) -> None:
        self._give_up(list(self._running))
        if self._releases:
            await asyncio.wait(self._releases.values())
        with suppress(DatabaseUnavailable):
            await self._store.leave(self._me)


async def _repeated(step: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Repeats a step until cancelled, also while the database is away."""
    while True:
        try:
            await step()
        except DatabaseUnavailable as error:
            paced_log.warning("the webhooks cannot be looked at", error)
        await asyncio.sleep(seconds)
