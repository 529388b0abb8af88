"""The batch processor: takes a batch through its stages, from deliveries to published results.

A transaction costs about the same for one command as for fifty, so a batch holds the commands that wait on
all partitions of the worker, and is written in one transaction with one fence for each partition.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from time import perf_counter

from tracking_order_state import metrics
from tracking_order_state.adapters.result_publisher import ResultPublisher
from tracking_order_state.adapters.store import Store
from tracking_order_state.domain.order_cache import OrderCache
from tracking_order_state.errors import Fault, fault_of
from tracking_order_state.processing.batch_committer import BatchCommitter
from tracking_order_state.processing.batch_spans import BatchSpans, spans_that_sent
from tracking_order_state.processing.parking_steps import ParkingSteps
from tracking_order_state.processing.placement import Forward, Placement, forward_nothing
from tracking_order_state.processing.retries import Retries, stalled
from tracking_order_state.processing.stages import (
    CommittedBatch,
    PartitionBatch,
    PartitionState,
    ReceivedBatch,
)
from tracking_order_state.processing.system_steps import SystemSteps
from tracking_shared.contracts.commands import (
    AnyCommand,
    Outcome,
    ReleaseOrder,
    UndecodableMessage,
    decode_commands,
)
from tracking_shared.contracts.documents import EventDocument
from tracking_shared.contracts.layout import Layout
from tracking_shared.contracts.timestamps import now
from tracking_shared.contracts.workflow import Workflow
from tracking_shared.messaging.consumer import Delivery
from tracking_shared.telemetry.spans import SpanContext, Spans, traces_in

log = logging.getLogger(__name__)


class BatchProcessor:
    """Decides, commits and publishes batches. A command that our own code fails on is parked.

    `max_parked_orders`: of one partition.
    """

    def __init__(  # noqa: PLR0917 - the composition root passes what it has opened
        self,
        store: Store,
        publisher: ResultPublisher,
        workflow: Workflow,
        layout: Layout,
        max_parked_orders: int,
        spans: Spans | None = None,
        clock: Callable[[], datetime] = now,
        cache: OrderCache | None = None,
        forward: Forward = forward_nothing,
    ) -> None:
        self.cache = OrderCache(0) if cache is None else cache
        self._publisher = publisher
        self._layout = layout
        self._spans = spans
        self._committer = BatchCommitter(store, workflow, clock, self.cache, generation=layout.generation)
        self._retries = Retries(store)
        self._placement = Placement(layout, store, self.cache, forward)
        self.steps = SystemSteps(self._committer, workflow)
        self._parking = ParkingSteps(self._committer, self._retries, max_parked_orders)

    async def claim(self, partition: PartitionState) -> None:
        """Claims a partition.

        Raises:
            PartitionStalled: the database has failed `MAX_FAILURES` times at it although it answers.
            BrokerUnavailable: another consumer has the deliveries by now.
        """
        partition.begin_batch()
        await self._retries.retried([partition], self._committer.locate, partition)

    async def receive(self, partition: PartitionState, deliveries: Sequence[Delivery]) -> PartitionBatch:
        """Decodes the deliveries of one partition for its next batch. Dead-letters those that are no
        commands.

        Raises:
            BrokerUnavailable: the connection is gone.
        """
        partition.begin_batch()
        good: list[Delivery] = []
        commands: list[AnyCommand] = []
        releases: list[ReleaseOrder] = []
        sizes: list[int] = []
        traced: dict[tuple[str, str], SpanContext] = {}
        for delivery in deliveries:
            try:
                decoded = self._decode(delivery, partition.number)
            except UndecodableMessage as error:
                traces = ", ".join(traces_in(delivery.body)) or "unknown"
                log.warning("dead-lettered a message with the traces %s: %s", traces, error)
                metrics.DEAD_LETTERED.inc()
                await delivery.dead_letter()
                continue
            updates = [command for command in decoded if not isinstance(command, ReleaseOrder)]
            good.append(delivery)
            if self._spans is not None:
                traced |= spans_that_sent(delivery, decoded)
            commands += updates
            sizes.append(len(updates))
            releases += [command for command in decoded if isinstance(command, ReleaseOrder)]
        return PartitionBatch(partition, good, commands, sizes, releases, traced)

    def _decode(self, delivery: Delivery, partition: int) -> list[AnyCommand | ReleaseOrder]:
        commands = decode_commands(delivery.body, delivery.headers)
        for command in commands:
            homes = self._layout.homes(command.order_id)
            if partition not in homes:
                raise UndecodableMessage(f"a command for partition {homes[-1]} came to {partition}")
        return commands

    async def commit(self, received: ReceivedBatch) -> CommittedBatch:
        """Decides and commits all commands in one transaction. If our own code fails at that, finds the
        commands that fail alone and parks them; the others are committed. A part without commands only moves
        the horizon of its partition on, where that is due.

        Raises:
            Fenced: another worker owns one of the partitions. BrokerUnavailable: another consumer has the
            deliveries by now. TooManyParked: one more order would have to be parked than may be.
            PartitionStalled: our own code fails at parking, too; or the database has failed `MAX_FAILURES`
                times at this although it answers, perhaps for one of the partitions only.
        """
        committed = await fault_of(self._commit_or_park(received))
        if isinstance(committed, Fault):
            raise stalled(received.partitions, committed)
        return committed

    async def publish_events(self, events: Sequence[EventDocument]) -> None:
        """Publishes the events of a step of the system. After a crash before it, nothing is delivered again:
        notifiers find them in the log.

        Raises:
            BrokerUnavailable: the connection is gone.
        """
        if events:
            await self._publisher.publish_events(events)
            metrics.SEQ.labels(events[-1]["partition"]).set(events[-1]["seq"])

    async def publish_results(self, committed: CommittedBatch) -> None:
        """Publishes events, replies outcomes and acknowledges deliveries, in this order.

        Raises:
            BrokerUnavailable: the connection is gone; what was not acknowledged is delivered again.
        """
        parts = [part for part in committed.received.parts if part.deliveries]
        if not parts:
            return
        traced = None if self._spans is None else BatchSpans.of(self._spans, committed)
        if traced is None:
            await self._publisher.publish_events(committed.events())
        else:
            await traced.publish_events(self._publisher)
        for reply_to, replies in committed.replies().items():
            await self._publisher.reply(reply_to, replies)
        # Together: each by itself would be a write to the socket.
        await asyncio.gather(*(part.deliveries[-1].acknowledge_through() for part in parts))
        if traced is not None:
            traced.end()
        _count(committed)

    async def _commit_or_park(self, received: ReceivedBatch) -> CommittedBatch:
        parts = [
            await self._retries.retried([part.partition], self._placement.placed, part)
            for part in received.parts
        ]
        received = replace(received, parts=parts)
        results = await self._retries.tried(received.partitions, self._committer.decide_and_commit, received)
        if isinstance(results, Fault):
            results = [await self._parking.isolate(part) for part in received.parts]
        for index, part in enumerate(received.parts):
            for release in part.releases:
                results[index] = results[index].followed_by(await self._parking.release(part, release))
        return CommittedBatch(received, results, [part.may_be_unpublished for part in received.parts])


def _count(committed: CommittedBatch) -> None:
    outcomes = [outcome for result in committed.results for outcome in result.outcomes]
    metrics.BATCH_SECONDS.observe(perf_counter() - committed.received.started)
    metrics.BATCH_COMMANDS.observe(len(outcomes))
    for kind, number in Counter(map(_kind, outcomes)).items():
        metrics.OUTCOMES.labels(kind).inc(number)
    for part in committed.received.parts:
        if part.deliveries and part.partition.position:
            metrics.SEQ.labels(part.partition.number).set(part.partition.position.seq)
        for command in part.commands:
            age = (committed.committed_at - command.received_at).total_seconds()
            metrics.COMMAND_SECONDS.observe(max(age, 0))  # ingest's clock may be ahead


def _kind(outcome: Outcome | None) -> str:
    if outcome is None:
        return "parked"
    return "replayed" if outcome["replayed"] else outcome["outcome"]
