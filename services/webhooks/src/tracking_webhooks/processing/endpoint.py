"""Delivers the events of one webhook, as long as it is this process's."""

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import random
from time import monotonic, time

from tracking_shared.auth.revocations import RevocationList
from tracking_shared.contracts.documents import EventDocument
from tracking_shared.contracts.timestamps import now
from tracking_shared.contracts.webhooks import (
    WebhookDocument,
    principal_of,
    selection_of,
)
from tracking_shared.contracts.workflow import Workflow
from tracking_shared.storage.database import DatabaseUnavailable, retrying_database
from tracking_shared.telemetry.logs import PacedLog
from tracking_webhooks.adapters.documents import fields_of, progress_of
from tracking_webhooks.adapters.http_sender import Answer, HttpSender
from tracking_webhooks.adapters.log_reader import LogReader
from tracking_webhooks.adapters.store import WebhookStore
from tracking_webhooks.domain.message import MEDIA_TYPE, Message, event_message, sample_message
from tracking_webhooks.domain.outcome import failure_of, is_delivered
from tracking_webhooks.domain.progress import Entry, Progress, Work
from tracking_webhooks.domain.signature import signed_headers
from tracking_webhooks.metrics import IN_FLIGHT, LATENCY_SECONDS
from tracking_webhooks.processing.attempt_log import AttemptLog
from tracking_webhooks.processing.capacity import Capacity
from tracking_webhooks.processing.tail import Tail

log = logging.getLogger(__name__)
paced_log = PacedLog(log)

FRESH_SECONDS = 2.0
"""An event that was read longer ago is read again before it is sent: its customer may have been erased."""

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


@dataclass(frozen=True)
class Parts:
    """What all webhooks of a process share."""

    store: WebhookStore
    reader: LogReader
    tail: Tail
    sender: HttpSender
    capacity: Capacity
    revocations: RevocationList
    workflow: Workflow
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
        self._holder = principal_of(webhook["grant"])
        self._progress: Progress = progress_of(webhook, parts.chance)
        self._keys: list[tuple[bytes, datetime | None]] = []
        self._woken = asyncio.Event()
        self._stopping = False
        self._deliveries: set[asyncio.Task[None]] = set()
        self._fault: BaseException | None = None
        self._attempts = AttemptLog(webhook)
        self._test: str | None = None
        """The test delivery that was asked for and is not saved as made."""
        self._test_made = False
        self._saved = dict(fields_of(self._progress))
        self._saved_at = -IDLE_SAVE_SECONDS

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._progress

    def wake(self) -> None:
        """Says that there may be something to do."""
        self._woken.set()

    def may_get(self, merchants: Collection[str]) -> bool:
        """True if events of one of these merchants may be for it."""
        wanted = self._selection.readable.merchants
        return wanted is None or not wanted.isdisjoint(merchants)

    def request_test(self, test_id: str) -> None:
        """Asks for a test delivery, once for each id."""
        if self._test != test_id:
            self._test, self._test_made = test_id, False
            self._start(self._deliver_test(test_id))

    def stop(self) -> None:
        """Begins nothing any more; `run` returns when what is in flight has ended, within seconds."""
        self._stopping = True
        self._woken.set()

    async def run(self) -> None:
        """Delivers until `stop`, then saves.

        Raises:
            LeaseLost: the webhook was changed or taken over.
            DatabaseUnavailable: the progress was not saved at the end: some is delivered again.
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
        await self._save()

    async def _work(self) -> None:
        self._woken.clear()
        try:
            await self._step()
            seconds = self._idle_seconds()
        except DatabaseUnavailable as error:
            paced_log.warning("webhooks wait for the database", error)
            seconds = AFTER_FAULT_SECONDS
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        if self._fault is not None:
            raise self._fault

    async def _step(self) -> None:
        self._check_rights()
        await self._fill()
        while self._parts.may_send() and (work := self._progress.next_work(self._parts.clock())):
            self._start(self._deliver(work))
        if self._is_save_due():
            await self._save()

    def _start(self, delivery: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(delivery)
        self._deliveries.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._deliveries.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._fault = task.exception()
        self._woken.set()

    def _check_rights(self) -> None:
        if self._progress.disabled is None and self._parts.revocations.known.include(self._holder):
            self._progress.disabled = "revoked"

    async def _fill(self) -> None:
        """Reads what follows in the log, as much as there is room for."""
        end = self._parts.tail.end
        if end is None or self._progress.disabled is not None:
            return
        if end.epoch != self._webhook["epoch"] or len(end.seqs) != len(self._progress.seqs):
            self._progress.disabled = "log-replaced"
            return
        for partition, last in enumerate(end.seqs):
            await self._fill_from(partition, last)

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
            read_at = self._parts.clock()
            events, through = await self._parts.reader.read_matching(
                partition, after, last, self._stages, limit
            )
        else:
            events = [one.event for one in found if self._selection.matches(one.event)]
            read_at, through = found[0].read_at, found[-1].event["seq"]
        progress.add(partition, events, through, read_at)
        if through < last and progress.room:
            self._woken.set()

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
            self._progress.found_nothing(work)
            return
        if self._stopping or self._progress.disabled is not None or not self._parts.may_send():
            self._progress.given_back(work)
            return
        message = event_message(event, self._parts.workflow, with_customer=self._selection.with_customer)
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
        if self._parts.clock() - entry.read_at > FRESH_SECONDS:
            entry.event = await self._parts.reader.read_again(entry.event) or entry.event
        return entry.event

    async def _send(self, message: Message) -> Answer:
        seconds = self._parts.clock()
        moment = datetime.fromtimestamp(seconds, UTC)
        keys = [key for key, until in self._keys if until is None or until > moment]
        headers = signed_headers(keys, message.message_id, int(seconds), message.body)
        with IN_FLIGHT.track_inprogress():
            answer = await self._parts.sender.post(
                self._webhook["url"], {**headers, "Content-Type": MEDIA_TYPE}, message.body
            )
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
        self._test_made = True

    def _is_save_due(self) -> bool:
        waited = monotonic() - self._saved_at
        if waited >= IDLE_SAVE_SECONDS:
            return self._has_changed()
        return waited >= SAVE_SECONDS and (bool(self._attempts.unsaved) or self._state_has_changed())

    def _state_has_changed(self) -> bool:
        return (self._progress.state, self._progress.disabled) != (
            self._saved["state"],
            self._saved["reason"],
        )

    def _has_changed(self) -> bool:
        return bool(self._attempts.unsaved) or fields_of(self._progress) != self._saved

    async def _save(self) -> None:
        """Writes what has changed. The attempts first: what they tell of has happened, whoever's it is."""
        if not self._has_changed():
            return
        unsaved = self._attempts.take_unsaved()
        fields = dict(fields_of(self._progress))
        written = dict(fields)
        if unsaved:
            written |= {"last_attempt": self._attempts.last, "attempts": self._attempts.made}
        if self._test_made:
            written["test"] = None
        try:
            await self._parts.store.add_attempts(unsaved)
            await self._parts.store.save(self.webhook_id, self._fence, written)
        except DatabaseUnavailable:
            self._attempts.give_back(unsaved)
            raise
        self._saved, self._saved_at = fields, monotonic()

    def _idle_seconds(self) -> float:
        seconds = MAX_IDLE_SECONDS
        if not self._parts.may_send():
            seconds = AFTER_FAULT_SECONDS
        else:
            seconds = min(seconds, self._progress.next_at() - self._parts.clock())
        if self._attempts.unsaved or self._state_has_changed():
            seconds = min(seconds, SAVE_SECONDS - (monotonic() - self._saved_at))
        return max(seconds, 0.0)

    async def _read_keys(self) -> None:
        async for attempt in retrying_database():
            with attempt:
                self._keys = await self._parts.store.keys(self.webhook_id)
