"""The worker of a process: gathers the deliveries of its partitions into batches, one after the other."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic, perf_counter

from tracking_order_state import metrics
from tracking_order_state.errors import Fault, Fenced, PartitionStalled, fault_of
from tracking_order_state.processing.batch_processor import BatchProcessor
from tracking_order_state.processing.stages import (
    CommittedBatch,
    PartitionBatch,
    PartitionResult,
    PartitionState,
    ReceivedBatch,
)
from tracking_shared.contracts.commands import received_at_in
from tracking_shared.contracts.timestamps import now
from tracking_shared.messaging.consumer import Consumer, Delivery, NewerMessage
from tracking_shared.messaging.errors import BrokerUnavailable
from tracking_shared.storage.database import DatabaseUnavailable

log = logging.getLogger(__name__)

BATCH_BYTES = 256 * 1024
"""Commands in one batch, give or take a message: about 900 of the usual size. Larger transactions gain
little (80 µs a command at 400, 110 µs at 100) and delay everyone behind them."""

STALLED_RETRY_SECONDS = 1.0
MAX_STALLED_RETRY_SECONDS = 30.0
"""The pause before a stalled partition is tried again: twice as long each time, up to the maximum. An attempt
may keep the others waiting for as long as a call of the database takes, 8 s. Its deliveries are kept: given
back, they would come closer to the delivery limit each time."""

REST_FACTOR, MAX_REST_SECONDS = 4, 5.0
"""While callers send, the pause after work of the system itself is so many times as long as the work took, up
to the maximum: a backlog of it leaves them four fifths of the worker's time."""

STOP_SECONDS = 5
"""The time that batches in work have to end when the process is told to stop."""


Step = Callable[[], Awaitable[PartitionResult]]
"""A step of the system itself (`SystemSteps`)."""


@dataclass(slots=True, eq=False)
class PartitionConsumer:
    """A partition that this process has subscribed to, and may be the active consumer of."""

    partition: PartitionState
    consumer: Consumer
    stalled: PartitionBatch | None = None
    """To be tried again before anything else."""
    awaits_upgrade: NewerMessage | None = None
    """The next message, if this release does not read it."""
    _batches: int = 0
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, limit: int) -> PartitionBatch | list[Delivery]:
        """The stalled batch, or else the deliveries that have arrived, about `limit` bytes of them."""
        self._batches += 1
        stalled, self.stalled = self.stalled, None
        return self.consumer.take_bytes(limit) if stalled is None else stalled

    async def wait_until_idle(self) -> None:
        """Returns when no batch holds deliveries of this consumer: only then may the channel close, or
        committed deliveries could not be acknowledged. Waits `STOP_SECONDS` at most.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                while self._batches:
                    self._idle.clear()
                    await self._idle.wait()

    def enter_batch(self) -> None:
        """Notes that a batch begins that holds nothing of its deliveries."""
        self._batches += 1

    def leave_batch(self) -> None:
        """Notes that a batch has ended, in whichever way."""
        self._batches -= 1
        self._idle.set()


@dataclass(slots=True, eq=False)
class _Request:
    """A consumer that asks for a batch, from the arrival of a delivery until it is acknowledged."""

    partition_consumer: PartitionConsumer
    begun: float = field(default_factory=monotonic)
    first: bytes | None = None
    """The body of its first message, once that is taken for a batch."""
    committed: asyncio.Future[None] = field(init=False)
    """Of its newest batch."""


@dataclass(slots=True, eq=False)
class _OwnRequest:
    """Work of the system itself on a partition, between two batches of callers: orders to be marked as
    overdue, or a customer to be erased.
    """

    partition_consumer: PartitionConsumer
    step: Step
    known: Fault | None
    done: asyncio.Future[PartitionResult | Fault | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    """None: this worker does not own the partition."""


@dataclass(slots=True, eq=False)
class Worker:
    """Processes batches while consumers ask for them. First come, first served.

    While a batch is published (events, replies, acknowledgements) and waits for the broker, the next one is
    decided and committed, and waits for the database. Batches are published one after the other, so that
    events are published in the order of their commits.
    """

    processor: BatchProcessor
    _queue: deque[_Request] = field(default_factory=deque)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _publishing: asyncio.Task[None] | None = None
    _in_work: set[_Request] = field(default_factory=set)
    _stalled: set[PartitionConsumer] = field(default_factory=set)
    _consumers: dict[int, PartitionConsumer] = field(default_factory=dict)
    _own: deque[_OwnRequest] = field(default_factory=deque)
    batches: int = 0
    """The batches of callers so far."""

    def subscribed(self, partition_consumer: PartitionConsumer) -> None:
        """Notes the newest consumer of a partition."""
        self._consumers[partition_consumer.partition.number] = partition_consumer

    def owned(self) -> list[PartitionConsumer]:
        """The consumers of the partitions that this worker has claimed and that go on."""
        return [
            one
            for one in self._consumers.values()
            if one.partition.position is not None and one not in self._stalled and not one.consumer.is_closed
        ]

    @asynccontextmanager
    async def paced(self) -> AsyncIterator[None]:
        """For work between batches: after it, pauses if callers have sent something meanwhile."""
        started, batches = monotonic(), self.batches
        yield
        if self.batches != batches:
            await asyncio.sleep(min(REST_FACTOR * (monotonic() - started), MAX_REST_SECONDS))

    async def between_batches(
        self, partition_consumer: PartitionConsumer, step: Step, known: Fault | None = None
    ) -> PartitionResult | Fault | None:
        """Has `step` run between two batches of callers, and its events published. Returns its result, the
        fault if our own code failed at it (the `known` one is not logged again), or None if this worker does
        not own the partition.

        Raises:
            Fenced: another worker owns the partition.
            DatabaseUnavailable: no answer; some of it may be written.
        """
        request = _OwnRequest(partition_consumer, step, known)
        self._own.append(request)
        self._wake.set()
        return await request.done

    async def handle(self, partition_consumer: PartitionConsumer) -> None:
        """Returns when the deliveries of the consumer (or as many as fit a batch) are committed.

        Raises:
            Fenced: another worker owns the partition; give the consumer up.
            BrokerUnavailable: the connection is gone.
        """
        request = _Request(partition_consumer)
        self._in_work.add(request)
        is_committed = False
        try:
            is_committed = await self._handle(request)
        finally:
            self._stalled.discard(partition_consumer)
            if not is_committed:
                self._in_work.discard(request)

    async def _handle(self, request: _Request) -> bool:
        """Returns True once it is committed, False if the consumer has ended while it was stalled."""
        partition_consumer = request.partition_consumer
        pause_seconds = STALLED_RETRY_SECONDS
        while True:
            try:
                if partition_consumer.partition.position is None:
                    # Not within a batch: a claim may be held up, and would hold up the other partitions.
                    await self.processor.claim(partition_consumer.partition)
                await self._join_batch(request)
            except PartitionStalled as error:
                self._stalled.add(partition_consumer)
                log.error(  # noqa: TRY400 - no bug
                    "partition %d is stalled, next attempt in %.0f s: %s",
                    partition_consumer.partition.number,
                    pause_seconds,
                    error,
                )
                await asyncio.sleep(pause_seconds)
                pause_seconds = min(2 * pause_seconds, MAX_STALLED_RETRY_SECONDS)
            else:
                return True
            if partition_consumer.consumer.is_closed:
                return False

    async def _join_batch(self, request: _Request) -> None:
        request.committed = asyncio.get_running_loop().create_future()
        self._queue.append(request)
        self._wake.set()
        await request.committed

    def oldest_batch_seconds(self) -> float:
        """The age of the oldest batch in work; 0: there is none."""
        return max((monotonic() - request.begun for request in self._in_work), default=0.0)

    def oldest_command_seconds(self, partition: int) -> float:
        """The age of the oldest command in work of a partition, by the clocks of ingest and here; 0: none."""
        ages = [_age_seconds(r) for r in self._in_work if r.partition_consumer.partition.number == partition]
        newest = self._consumers.get(partition)
        if newest is not None and newest.awaits_upgrade is not None:
            ages.append(_age_seconds(_Request(newest)))
        return max(ages, default=0.0)

    async def run(self) -> None:
        """Processes batches until cancelled; those in work then are brought to their end.

        Raises:
            BrokerUnavailable: the connection is gone.
        """
        metrics.STALLED_PARTITIONS.set_function(lambda: len(self._stalled))
        metrics.OLDEST_BATCH_SECONDS.set_function(self.oldest_batch_seconds)
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                if self._publishing is not None and self._publishing.done():
                    self._publishing.result()  # raises the error that it ended with
                while self._queue or self._own:
                    if self._queue:
                        await _finish(self._process_next())
                    if self._own:
                        await _finish(self._do_next())
        finally:
            if self._publishing is not None:
                await asyncio.wait({self._publishing}, timeout=STOP_SECONDS)
                _report_failure(self._publishing)
            self._in_work.clear()  # the broker delivers what is left again, to whoever is active then

    async def _do_next(self) -> None:
        request = self._own.popleft()
        partition_consumer = request.partition_consumer
        if partition_consumer not in self.owned():
            _complete(request.done, None)
            return
        partition_consumer.enter_batch()
        try:
            result = await fault_of(request.step(), request.known)
            if self._publishing is not None:
                await self._publishing
        except (Fenced, DatabaseUnavailable, BrokerUnavailable) as error:
            _complete(request.done, error)
            if isinstance(error, BrokerUnavailable):
                raise
        else:
            if not isinstance(result, Fault):
                self._publish_next(self.processor.publish_events(result.events))
            _complete(request.done, result)
        finally:
            partition_consumer.leave_batch()

    async def _process_next(self) -> None:
        started = perf_counter()
        taken = self._take()
        self.batches += any(delivered for _, delivered in taken)
        requests = [request for request, _ in taken]
        try:
            parts = [
                one
                if isinstance(one, PartitionBatch)
                else await self.processor.receive(request.partition_consumer.partition, one)
                for request, one in taken
            ]
        except BrokerUnavailable as error:
            _fail(requests, error)
            raise
        await self._process(requests, ReceivedBatch(parts, started))

    def _take(self) -> list[tuple[_Request, PartitionBatch | list[Delivery]]]:
        taken: list[tuple[_Request, PartitionBatch | list[Delivery]]] = []
        room = BATCH_BYTES
        while self._queue and room > 0:
            is_stalled = self._queue[0].partition_consumer.stalled is not None
            if is_stalled and taken:
                break
            request = self._queue.popleft()
            one = request.partition_consumer.take(room)
            taken.append((request, one))
            deliveries = one.deliveries if isinstance(one, PartitionBatch) else one
            if deliveries:
                request.first = deliveries[0].body
            if isinstance(one, PartitionBatch):  # alone: it has failed before, and would make the others fail
                break
            room -= sum(len(delivery.body) for delivery in one)
        return taken

    async def _process(self, requests: Sequence[_Request], received: ReceivedBatch) -> None:
        try:
            committed = await self.processor.commit(received)
            if self._publishing is not None:
                await self._publishing
        except (Fenced, PartitionStalled) as error:
            for partition in received.partitions:
                partition.is_retried = True  # some of it may be written
            if len(requests) == 1:
                _give_up(requests[0], received.parts[0], error)
                return
            for request, part in zip(requests, received.parts, strict=True):
                # Alone, each partition shows whether it is the cause.
                await self._process([request], ReceivedBatch([part], received.started))
        except BrokerUnavailable as error:
            _fail(requests, error)
            raise
        else:
            self._start_publishing(requests, committed)

    def _start_publishing(self, requests: Sequence[_Request], committed: CommittedBatch) -> None:
        self._publish_next(self._publish(requests, committed))
        for request in requests:
            if not request.committed.done():
                request.committed.set_result(None)

    def _publish_next(self, work: Coroutine[None, None, None]) -> None:
        self._publishing = asyncio.create_task(work)
        self._publishing.add_done_callback(lambda _: self._wake.set())

    async def _publish(self, requests: Sequence[_Request], committed: CommittedBatch) -> None:
        try:
            await self.processor.publish_results(committed)
        finally:
            for request in requests:
                request.partition_consumer.leave_batch()
                self._in_work.discard(request)


def _complete(
    done: asyncio.Future[PartitionResult | Fault | None], outcome: PartitionResult | Fault | Exception | None
) -> None:
    if done.done():  # the sweep was cancelled
        return
    if isinstance(outcome, Exception):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)


def _report_failure(publishing: asyncio.Task[None]) -> None:
    """Logs an error that nobody waits for any more. The reconnection reports a lost connection."""
    if publishing.done() and not publishing.cancelled():
        error = publishing.exception()
        if error is not None and not isinstance(error, BrokerUnavailable):
            log.error("a batch could not be published", exc_info=error)


def _age_seconds(request: _Request) -> float:
    """The age of the first command, from its receipt by ingest; without that time, from its arrival here."""
    body = request.first or request.partition_consumer.consumer.peek()
    if body is None:
        return 0.0  # the request only moves the horizon on
    received_at = received_at_in(body)
    if received_at is None:
        return monotonic() - request.begun
    return max((now() - received_at).total_seconds(), 0.0)


def _give_up(request: _Request, part: PartitionBatch, error: Fenced | PartitionStalled) -> None:
    if isinstance(error, PartitionStalled):
        request.partition_consumer.stalled = part
    else:
        metrics.FENCED.inc()
        log.warning("gave up partition %d: %s", part.partition.number, error)
    _fail([request], error)


def _fail(requests: Sequence[_Request], error: Exception) -> None:
    for request in requests:
        request.partition_consumer.leave_batch()
        if not request.committed.done():
            request.committed.set_exception(error)


async def _finish(work: Coroutine[None, None, None]) -> None:
    """Runs `work` to its end even when the process is told to stop meanwhile: to cut a batch off would be
    safe, but the next owner would have to find out how far it came.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=STOP_SECONDS)
        raise
