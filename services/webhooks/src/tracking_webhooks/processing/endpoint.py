"""Delivers the events of one webhook, as long as it is this process's."""

import asyncio
import logging
import math
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import random
from time import monotonic, time
from typing import Any

from tracking_shared.auth.revocations import RevocationList
from tracking_shared.contracts.documents import EventDocument
from tracking_shared.contracts.timestamps import now
from tracking_shared.contracts.webhooks import (
    WebhookDocument,
    principal_of,
    selection_of,
)
from tracking_shared.storage.database import DatabaseUnavailable, retrying_database
from tracking_shared.telemetry.logs import PacedLog
from tracking_webhooks.adapters.http_sender import Answer, HttpSender
from tracking_webhooks.adapters.log_reader import LogReader
from tracking_webhooks.adapters.progress_document import fields_of, progress_of
from tracking_webhooks.adapters.webhook_store import Save, WebhookStore
from tracking_webhooks.domain.message import MEDIA_TYPE, Message, sample_message
from tracking_webhooks.domain.outcome import failure_of, is_delivered
from tracking_webhooks.domain.progress import MAX_WINDOW_EVENTS, Entry, Progress, Work
from tracking_webhooks.domain.signature import signed_headers
from tracking_webhooks.errors import LeaseLost
from tracking_webhooks.metrics import LATENCY_SECONDS, MISSED_EVENTS
from tracking_webhooks.processing.attempt_log import AttemptLog
from tracking_webhooks.processing.capacity import Capacity
from tracking_webhooks.processing.message_cache import MessageCache
from tracking_webhooks.processing.progress_writer import Unsaved
from tracking_webhooks.processing.tail import Tail

log = logging.getLogger(__name__)
paced_log = PacedLog(log)

FRESH_SECONDS = 2.0
"""An event that was read longer ago is read again before it is sent, unless the log says that its customer
was not erased meanwhile."""

MIN_REFRESH_EVENTS, MAX_REFRESH_EVENTS = 10, 100
"""Of those that follow in the window, read again in the same request."""

SAVE_SECONDS = 0.5
"""Between two writes of the progress. After a crash, so much is delivered again."""

IDLE_SAVE_SECONDS = 30.0
"""Between two writes where nothing but the positions of others' events has moved."""

MAX_IDLE_SECONDS = 10.0
"""The longest wait for something to do: the revocations are looked at in between."""

AFTER_FAULT_SECONDS = 0.5

STOP_SECONDS = 3.0
"""The time that requests in flight have to end when this process gives a webhook up. Those that are cut off
are made again."""

Clock = Callable[[], float]


def refreshed_events(requests: int, seconds: float) -> int:
    """The number of events to read again, for a webhook that made so many requests in this time: as many as
    will be sent before they are old. More would be read a third time.
    """
    while_fresh = math.ceil(requests * FRESH_SECONDS / max(seconds, FRESH_SECONDS))
    return min(max(while_fresh, MIN_REFRESH_EVENTS), MAX_REFRESH_EVENTS)


@dataclass(frozen=True)
class Parts:
    """The parts that all webhooks of a process share."""

    store: WebhookStore
    reader: LogReader
    tail: Tail
    sender: HttpSender
    capacity: Capacity
    revocations: RevocationList
    messages: MessageCache
    may_send: Callable[[], bool] = lambda: True
    """False: this process may have lost its webhooks to others."""
    clock: Clock = time
    """Seconds since 1970."""
    chance: Callable[[], float] = field(default=random)


class Endpoint:
    """One webhook at work."""

    def __init__(self, webhook: WebhookDocument, parts: Parts) -> None:
        self.webhook_id = webhook["_id"]
        self._fence = webhook["fence"]
        self._webhook = webhook
        self._parts = parts
        self._selection = selection_of(webhook)
        self._stages = self._selection.stages()
        self._with_customer = self._selection.with_customer
        self._holder = principal_of(webhook["grant"])
        self._progress: Progress = progress_of(webhook, parts.chance)
        self._keys: list[tuple[bytes, datetime | None]] = []
        self._woken = asyncio.Event()
        self._stopping = False
        self._is_behind = False
        """True: the log has more than was read."""
        self._deliveries: set[asyncio.Task[None]] = set()
        self._fault: BaseException | None = None
        self._attempts = AttemptLog(webhook)
        self._tests: dict[str, bool] = {}
        """Test deliveries that were asked for; true: made, and not saved as such."""
        self._refreshing = asyncio.Lock()
        self._refreshed = (parts.tail.clock(), self._attempts.made)
        """When events were read again, and how many requests had been made by then."""
        readable = self._selection.readable
        self._merchants, self._orders = readable.merchants, readable.orders
        self._saved = dict(fields_of(self._progress))
        self._saved_at = -IDLE_SAVE_SECONDS

    @property
    def progress(self) -> Progress:
        """The progress of the webhook."""
        return self._progress

    @property
    def behind_events(self) -> int:
        """Positions of the log behind which it is, of which not all are of events for it; disabled: 0."""
        end = self._parts.tail.end
        if end is None or self._progress.disabled is not None:
            return 0
        return max(sum(end.seqs) - sum(self._progress.seqs), 0)

    def wake(self) -> None:
        """Says that there may be something to do."""
        self._woken.set()

    def may_get(self, merchants: Collection[str], orders: Collection[str]) -> bool:
        """True if events of these merchants and orders may be for it."""
        if self._merchants is not None and self._merchants.isdisjoint(merchants):
            return False
        return self._orders is None or not self._orders.isdisjoint(orders)

    def request_tests(self, test_ids: Collection[str]) -> None:
        """Asks for test deliveries, once for each id."""
        # Those that are not asked for any more have been saved as made.
        self._tests = {name: made for name, made in self._tests.items() if name in test_ids}
        for test_id in test_ids:
            if test_id not in self._tests:
                self._tests[test_id] = False
                self._start(self._deliver_test(test_id))

    def stop(self) -> None:
        """Begins nothing any more; `run` returns when what is in flight has ended, within seconds."""
        self._stopping = True
        self._woken.set()

    async def run(self) -> None:
        """Delivers until `stop`. What is not saved then is for the caller to save.

        Raises:
            LeaseLost: the webhook was changed or taken over.
        """
        try:
            await self._read_keys()
            while not self._stopping:
                await self._work()
            if self._deliveries:
                await asyncio.wait(self._deliveries, timeout=STOP_SECONDS)
        finally:
            for task in self._deliveries:
                task.cancel()

    async def _work(self) -> None:
        self._woken.clear()
        try:
            self._check_rights()
            await self._fill()
            self._start_deliveries()
            seconds = self._idle_seconds()
        except DatabaseUnavailable as error:
            paced_log.warning("webhooks wait for the database", error)
            seconds = AFTER_FAULT_SECONDS
        timer = asyncio.get_running_loop().call_later(seconds, self._woken.set)
        try:
            await self._woken.wait()
        finally:
            timer.cancel()
        if self._fault is not None:
            raise self._fault

    def _is_allowed(self) -> bool:
        """True if a delivery may begin now. Asked before each one and again after a wait for a place or for
        the database: `_work` may wait, too.
        """
        if self._stopping or self._fault is not None or not self._parts.may_send():
            return False
        self._check_rights()
        return self._progress.disabled is None

    def _next_work(self) -> Work | None:
        return self._progress.next_work(self._parts.clock()) if self._is_allowed() else None

    def _start_deliveries(self) -> None:
        while work := self._next_work():
            self._start(self._deliver_on(work))

    async def _deliver_on(self, work: Work | None) -> None:
        """Delivers this and what follows, one after the other, until nothing follows."""
        while work is not None:
            await self._deliver(work)
            if self._is_behind and self._progress.room >= MAX_WINDOW_EVENTS // 2:
                self._woken.set()
            work = self._next_work()
            if work is not None and self._progress.has_room_in_flight:
                self._start_deliveries()  # after a success, more at a time are allowed

    def _start(self, delivery: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(delivery)
        self._deliveries.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._deliveries.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._fault = task.exception()
        if self._stopping or self._fault or self._is_behind or self._progress.next_at() < math.inf:
            self._woken.set()

    def _check_rights(self) -> None:
        if self._progress.disabled is None and self._parts.revocations.known.include(self._holder):
            self._progress.disabled = "revoked"

    async def _fill(self) -> None:
        """Reads what follows in the log, as much as there is room for."""
        end = self._parts.tail.end
        if end is None or self._progress.disabled is not None:
            return
        if end.epoch != self._webhook["epoch"] or len(end.seqs) < len(self._progress.seqs):
            self._progress.disabled = "log-replaced"
            return
        self._progress.add_partitions(len(end.seqs))
        for partition, last in enumerate(end.seqs):
            await self._fill_from(partition, last)
        self._is_behind = any(read < last for read, last in zip(self._progress.read, end.seqs, strict=True))

    async def _fill_from(self, partition: int, last: int) -> None:
        """Makes one read, so that deliveries go on between one and the next."""
        progress = self._progress
        after, room = progress.read[partition], progress.room
        if after >= last or not room:
            return
        # Of what is left in the window, a partition takes half: the others need some, too.
        limit = (room + 1) // 2
        found = self._parts.tail.recent(partition, after, limit)
        if found is None:
            read_at = self._parts.tail.clock()
            events, through = await self._parts.reader.read_matching(
                partition, after, last, self._stages, limit
            )
            await self._count_archived(partition, after, through)
        else:
            events = [one.event for one in found if self._selection.matches(one.event)]
            read_at, through = found[0].read_at, found[-1].event["seq"]
        progress.add(partition, events, through, read_at)
        if through < last and progress.room:
            self._woken.set()

    async def _count_archived(self, partition: int, after: int, through: int) -> None:
        """Counts what is no longer in a part of the log that was read."""
        start = self._parts.tail.start
        first = self._progress.uncounted(partition, after)
        last = min(through, start.seqs[partition]) if start is not None else 0
        if first < last:
            events = await self._parts.reader.count_archived(partition, first, last)
            self._note_missed(partition, last, events)

    async def _look_for_order(self, order_id: str) -> None:
        """Notes it if a delayed order that has no event left was archived meanwhile."""
        delayed = self._progress.delayed[order_id]
        through = self._progress.read[delayed.partition]
        if await self._parts.reader.read_next_of_order(order_id, 1, through, []) is None:
            self._note_missed(delayed.partition, 0, 1)  # at least the one that failed

    def _note_missed(self, partition: int, through: int, events: int) -> None:
        if events:
            self._progress.missed_events(partition, through, events, self._parts.clock())
            MISSED_EVENTS.inc(events)
            paced_log.warning("events were archived before a webhook came to them", self.webhook_id)

    async def _deliver(self, work: Work) -> None:
        try:
            async with self._parts.capacity.place(suspect=self._progress.is_suspect):
                await self._attempt(work)
        except DatabaseUnavailable as error:
            paced_log.warning("events of webhooks cannot be read", error)
            self._progress.given_back(work)
            await asyncio.sleep(AFTER_FAULT_SECONDS)

    async def _attempt(self, work: Work) -> None:
        event = await self._event_of(work)
        if event is None:
            await self._look_for_order(work.order_id)
            self._progress.found_nothing(work)
            return
        if not self._is_allowed():
            self._progress.given_back(work)
            return
        message = self._parts.messages.of(
            event, with_customer=self._with_customer, is_shared=self._parts.tail.is_recent(event)
        )
        answer = await self._send(message)
        self._settle(work, event, answer)

    async def _event_of(self, work: Work) -> EventDocument | None:
        if work.entry is not None:
            return await self._fresh(work.entry)
        delayed = self._progress.delayed[work.order_id]
        through = self._progress.read[delayed.partition]
        return await self._parts.reader.read_next_of_order(
            delayed.order_id, delayed.version, through, self._stages
        )

    async def _fresh(self, entry: Entry) -> EventDocument:
        if self._is_old(entry):
            async with self._refreshing:
                if self._is_old(entry):
                    await self._refresh(entry)
        return entry.event

    def _is_old(self, entry: Entry) -> bool:
        oldest = self._parts.tail.clock() - FRESH_SECONDS
        if entry.read_at >= oldest:
            return False
        return not self._parts.tail.is_unchanged(entry.event, entry.read_at, oldest)

    async def _refresh(self, entry: Entry) -> None:
        """Reads it again, and in the same request those that will be old when their turn comes."""
        read_at = self._parts.tail.clock()
        (since, before), made = self._refreshed, self._attempts.made
        self._refreshed = read_at, made
        count = refreshed_events(made - before, read_at - since)
        upcoming = self._progress.upcoming(entry.event["partition"], count)
        entries = {one.event["_id"]: one for one in (*upcoming, entry)}
        found = await self._parts.reader.read_again([one.event for one in entries.values()])
        stored = {event["_id"]: event for event in found}
        for key, one in entries.items():
            # One that was archived meanwhile is sent, but its customer may have been erased there.
            one.event, one.read_at = stored.get(key) or {**one.event, "customer": None}, read_at

    async def _send(self, message: Message) -> Answer:
        seconds = self._parts.clock()
        moment = datetime.fromtimestamp(seconds, UTC)
        keys = [key for key, until in self._keys if until is None or until > moment]
        headers = signed_headers(keys, message.message_id, int(seconds), message.body)
        headers["Content-Type"] = MEDIA_TYPE
        answer = await self._parts.sender.post(self._webhook["url"], headers, message.body)
        self._attempts.record(message.message_id, moment, answer)
        return answer

    def _settle(self, work: Work, event: EventDocument, answer: Answer) -> None:
        at = self._parts.clock()
        if is_delivered(answer.status):
            LATENCY_SECONDS.observe(max(at - event["recorded_at"].timestamp(), 0))
            self._progress.succeeded(work, event["version"], at)
            return
        failure = failure_of(answer.status, answer.error, asked_to_wait=answer.retry_after is not None)
        self._progress.failed(work, event["version"], failure, at, answer.retry_after)

    async def _deliver_test(self, test_id: str) -> None:
        async with self._parts.capacity.place(suspect=True):
            await self._send(sample_message(self.webhook_id, test_id, now()))
        self._tests[test_id] = True

    def is_save_due(self) -> bool:
        """True if something happened, or others' events have moved the position for long enough."""
        if self._attempts.has_unsaved or self._state_has_changed():
            return True
        if monotonic() - self._saved_at < IDLE_SAVE_SECONDS:
            return False
        self._saved_at = monotonic()
        return fields_of(self._progress) != self._saved

    def _state_has_changed(self) -> bool:
        saved = self._saved
        return (self._progress.state, self._progress.disabled) != (saved["state"], saved["reason"])

    def take_unsaved(self, **fields: Any) -> Unsaved:
        """The changes to write now, and these fields with them."""
        written = {**fields_of(self._progress), **fields}
        attempts = self._attempts.take_unsaved()
        if attempts:
            written |= {"last_attempt": self._attempts.last, "attempts": self._attempts.made}
        made = tuple(test_id for test_id, is_made in self._tests.items() if is_made)
        return Unsaved(Save(self.webhook_id, self._fence, written, made), attempts)

    def saved(self, unsaved: Unsaved) -> None:
        """It was written."""
        self._saved = {name: unsaved.save.fields[name] for name in self._saved}
        self._saved_at = monotonic()

    def give_back(self, unsaved: Unsaved) -> None:
        """It may not have been written."""
        self._attempts.give_back(unsaved.attempts)

    def lose(self) -> None:
        """Ends it: the webhook is not this process's any more."""
        self._fault = LeaseLost(self.webhook_id)
        self._woken.set()

    def _idle_seconds(self) -> float:
        seconds = MAX_IDLE_SECONDS
        if not self._parts.may_send():
            seconds = AFTER_FAULT_SECONDS
        else:
            seconds = min(seconds, self._progress.next_at() - self._parts.clock())
        return max(seconds, 0.0)

    async def _read_keys(self) -> None:
        async for attempt in retrying_database():
            with attempt:
                self._keys = await self._parts.store.keys(self.webhook_id)
