"""The batch committer: decides batches and commits each in one transaction."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from tracking_order_state import metrics
from tracking_order_state.adapters.store import Store
from tracking_order_state.domain.batch import decide_batch
from tracking_order_state.domain.decisions import Decisions, Known
from tracking_order_state.domain.erasure import ErasedContacts, Erasure
from tracking_order_state.domain.holding import hold_from
from tracking_order_state.domain.order_cache import OrderCache
from tracking_order_state.domain.partition import ParkedOrders, PartitionPosition
from tracking_order_state.errors import LayoutChanged, NotNew
from tracking_order_state.processing.batch_reader import BatchReader
from tracking_order_state.processing.stages import (
    DecidedBatch,
    PartitionResult,
    PartitionState,
    ReceivedBatch,
)
from tracking_shared.contracts.commands import AnyCommand
from tracking_shared.contracts.documents import ParkedDocument
from tracking_shared.contracts.workflow import Workflow
from tracking_shared.telemetry.spans import traces_in

log = logging.getLogger(__name__)


class BatchCommitter:
    """Decides and commits the batches of one worker. The state is that of the partitions, the store and
    the cache.
    """

    def __init__(
        self,
        store: Store,
        workflow: Workflow,
        clock: Callable[[], datetime],
        cache: OrderCache,
        *,
        generation: int,
    ) -> None:
        """`generation`: of the layout of the partitions that this worker knows."""
        self.store = store
        self._generation = generation
        self.clock = clock
        self._workflow = workflow
        self._cache = cache
        self._erased = ErasedContacts()
        self._reader = BatchReader(store, cache)

    async def decide_and_commit(self, received: ReceivedBatch) -> list[PartitionResult]:
        """Decides and commits all commands of a batch in one transaction."""
        with self.dropping_on_error(received.partitions):
            decided = await self._decide(received)
            try:
                return await self._commit(decided)
            except NotNew:
                if not decided.assumed:
                    raise
                self._refute(decided)
            return await self._commit(await self._decide(received))

    async def _decide(self, received: ReceivedBatch) -> DecidedBatch:
        # The positions first: whoever claims a partition after we have makes our commit fail.
        positions = [await self.locate(partition) for partition in received.partitions]
        knowledge = await self._reader.read(received.parts, positions)
        commands = [command for part in received.parts for command in part.commands]
        while True:
            decisions = [
                self.decide_part(part.commands, knowledge.known, position, position.parked_orders)
                for part, position in zip(received.parts, positions, strict=True)
            ]
            doubtful = knowledge.doubtful(commands, decisions)
            if not doubtful:
                break
            knowledge = await self._reader.read_doubtful(knowledge, doubtful)
        known_events = {event["_id"]: event for event in knowledge.known.events.values()}
        return DecidedBatch(received.partitions, positions, decisions, known_events, knowledge.assumed)

    def _refute(self, decided: DecidedBatch) -> None:
        """Notes that something was not new that was assumed to be. The database has refused the transaction,
        so certainly nothing of it is written.
        """
        metrics.ORDER_CACHE_REFUTED.inc()
        for partition, position in zip(decided.partitions, decided.positions, strict=True):
            partition.is_uncertain = False
            self._cache.refute(position, decided.assumed)

    @contextmanager
    def dropping_on_error(self, partitions: Sequence[PartitionState]) -> Iterator[None]:
        """Drops what is known of the orders of `partitions` when anything fails, whatever it is."""
        try:
            yield
        except BaseException:
            for partition in partitions:
                self._cache.drop(partition.number)
            raise

    def decide_part(
        self,
        commands: Sequence[AnyCommand],
        known: Known,
        position: PartitionPosition,
        parked_orders: ParkedOrders,
    ) -> Decisions:
        """Decides the commands of one partition at its position."""
        return decide_batch(
            self._erased.apply(commands),
            known,
            partition=position.partition,
            seq=position.seq,
            time=position.recording_time(self.clock()),
            workflow=self._workflow,
            parked_orders=parked_orders,
        )

    async def with_held(self, known: Known, command: AnyCommand, position: PartitionPosition) -> Known:
        """Adds the held updates of the order of one command."""
        return await self._reader.with_held(known, [([command], position)])

    async def _commit(self, decided: DecidedBatch) -> list[PartitionResult]:
        if any(one.held for one in decided.decisions):
            # Their time is judged by the clock of the database, so it begins by it, too.
            now = await self.store.time()
            for one in decided.decisions:
                hold_from(one, now, self._workflow)
        for partition, position in zip(decided.partitions, decided.positions, strict=True):
            partition.is_uncertain = True
            self._cache.suspend(position)
        positions = await self.store.commit(decided.positions, decided.decisions)
        for partition, position in zip(decided.partitions, positions, strict=True):
            partition.position, partition.is_uncertain = position, False
        self._cache.commit(positions, decided.decisions)
        for decisions in decided.decisions:
            for parked in decisions.parked.values():
                _log_parked(parked)
            for became, number in Counter(decisions.unheld.values()).items():
                metrics.HELD_DECIDED.labels(became).inc(number)
        return [PartitionResult(one.outcomes, one.events, decided.known_events) for one in decided.decisions]

    def learn_erasure(self, erasure: Erasure) -> None:
        """Learns that a person is erased. Whatever is decided from now on holds nothing of them. To be called
        between two batches: then what an earlier one has recorded of them is found by a search after it.
        """
        self._erased = self._erased.with_erasure(erasure)

    def without_erased(self, command: AnyCommand) -> AnyCommand:
        """The command, without its customer if that one is erased."""
        return self._erased.apply_to(command)

    async def locate(self, partition: PartitionState) -> PartitionPosition:
        """The position of a partition; claims it, or finds out whether an uncertain commit was written.

        Raises:
            LayoutChanged: the number of partitions was changed, or is about to be.
        """
        if partition.position is None:
            self._cache.drop(partition.number)
            await partition.check()
            claimed = await self.store.claim(partition.number)
            # Before anything is decided: the owner before may have carried out an erasure.
            self._erased = self._erased.with_more(await self.store.load_erased())
            partition.position = claimed
        elif partition.is_uncertain:
            self._cache.drop(partition.number)
            partition.position = await self.store.recover(partition.position)
        partition.is_uncertain = False
        if partition.position.generation > self._generation:
            raise LayoutChanged("the number of partitions is changed")
        return partition.position

    async def commit_alone(
        self, partition: PartitionState, position: PartitionPosition, decisions: Decisions
    ) -> PartitionResult:
        """Commits the decisions on one partition in a transaction of their own."""
        [result] = await self._commit(DecidedBatch([partition], [position], [decisions]))
        return result


def _log_parked(parked: ParkedDocument) -> None:
    log.error(
        "parked update %s of order %s: %s",
        parked["update_id"],
        parked["order_id"],
        parked["error"] or "it waits for an earlier one",
        extra={"trace_id": next(iter(traces_in(parked["command"].encode())), None)},
    )
