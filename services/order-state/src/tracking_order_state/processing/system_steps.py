"""Work that no caller asked for: overdue orders, held updates whose time is over, erasures, archiving. Each
step is one transaction on one partition, between two batches of callers.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from tracking_order_state import metrics
from tracking_order_state.adapters.store import Store
from tracking_order_state.adapters.system_reads import SystemReads
from tracking_order_state.domain.archiving import ArchiveRequest, archive
from tracking_order_state.domain.decisions import NOTHING_KNOWN
from tracking_order_state.domain.erasure import Erasure, erase, finish, fitting
from tracking_order_state.domain.holding import end_held
from tracking_order_state.domain.overdue import mark_overdue
from tracking_order_state.processing.batch_committer import BatchCommitter
from tracking_order_state.processing.stages import PartitionResult, PartitionState
from tracking_shared.contracts.held import command_of
from tracking_shared.contracts.workflow import Workflow


@dataclass(frozen=True, slots=True)
class SystemSteps:
    """Reads, decides and commits one step of the system itself.

    `Worker.between_batches` runs them and publishes their events. Each raises `Fenced` if another worker owns
    the partition, and `DatabaseUnavailable` without an answer: some of it may be written then.
    """

    committer: BatchCommitter
    workflow: Workflow

    @property
    def _store(self) -> Store:
        return self.committer.store

    @property
    def _reads(self) -> SystemReads:
        return self.committer.store.system

    async def mark_overdue(
        self, partition: PartitionState, order_ids: Collection[str], now: datetime
    ) -> PartitionResult:
        """Records `order.overdue` for those of these orders that await it and were due at `now` or before."""
        with self.committer.dropping_on_error([partition]):
            position = await self.committer.locate(partition)
            orders = await self._reads.orders(order_ids)
            found = [orders[order_id] for order_id in order_ids if order_id in orders]
            time = position.recording_time(self.committer.clock())
            decisions = mark_overdue(found, position, now=now, time=time)
            result = await self.committer.commit_alone(partition, position, decisions)
            metrics.OVERDUE.inc(len(result.events))
            return replace(result, settled=len(result.events))

    async def end_held(
        self, partition: PartitionState, ids: Collection[str], now: datetime
    ) -> PartitionResult:
        """Decides those of these held updates whose time was over at `now` or before."""
        with self.committer.dropping_on_error([partition]):
            position = await self.committer.locate(partition)
            held = await self._reads.held_by_id(ids)
            commands = [command_of(one) for some in held.values() for one in some]
            known = replace(await self._store.load(commands), held=held) if commands else NOTHING_KNOWN
            time = position.recording_time(self.committer.clock())
            decisions = end_held(ids, known, position, now=now, time=time, workflow=self.workflow)
            result = await self.committer.commit_alone(partition, position, decisions)
            return replace(result, settled=len(result.outcomes))

    async def learn_erasure(self, erasure: Erasure) -> PartitionResult:
        """Learns that a person is erased (`BatchCommitter.learn_erasure`). Commits nothing."""
        self.committer.learn_erasure(erasure)
        return PartitionResult()

    async def erase(
        self, partition: PartitionState, erasure: Erasure, order_ids: Sequence[str]
    ) -> PartitionResult:
        """Erases the customer of the first ones of these orders, as many as fit a transaction. Of an order
        with more events than fit, it rewrites some of them.
        """
        with self.committer.dropping_on_error([partition]):
            position = await self.committer.locate(partition)
            found = await self._reads.orders(order_ids)
            number, limit = fitting(order_ids, found)
            named = [found[order_id] for order_id in order_ids[:number] if order_id in found]
            orders = [order for order in named if erasure.concerns(order)]
            if not orders:
                return PartitionResult(settled=number)
            event_ids = await self._reads.unerased([order["_id"] for order in orders], limit)
            if len(event_ids) == limit:
                # Of one order, the oldest first. Its newest event is rewritten with the order, of which it
                # is the state.
                orders, number, event_ids = [], 0, event_ids[:-1]
            time = position.recording_time(self.committer.clock())
            decisions = erase(erasure, orders, event_ids, position, time=time)
            result = await self.committer.commit_alone(partition, position, decisions)
            metrics.ERASED.inc(len(result.events))
            return replace(result, settled=number)

    async def finish_erasure(self, partition: PartitionState, erasure: Erasure) -> PartitionResult:
        """Erases the customer in parked commands, and notes that the partition holds nothing of it, unless an
        order does.
        """
        with self.committer.dropping_on_error([partition]):
            position = await self.committer.locate(partition)
            # Asked again here, where the answer is no older than the newest commit.
            if await self._reads.holds_person(erasure, partition.number):
                return PartitionResult()
            parked = await self._reads.parked(partition.number) if position.parked_orders else []
            decisions = finish(erasure, parked, time=position.recording_time(self.committer.clock()))
            return await self.committer.commit_alone(partition, position, decisions)

    async def archive(self, partition: PartitionState, request: ArchiveRequest) -> PartitionResult:
        """Archives those of the requested orders that stand as the archive has them."""
        with self.committer.dropping_on_error([partition]):
            position = await self.committer.locate(partition)
            if not await self._reads.is_archiving_open(request.id):
                return PartitionResult()
            orders = await self._reads.orders(request.order_ids)
            waiting = set(position.parked_orders)
            if position.held:
                held, _, _ = await self._store.load_held(request.order_ids, ())
                waiting |= held.keys()
            decisions = archive(
                request, orders, waiting, time=position.recording_time(self.committer.clock())
            )
            result = await self.committer.commit_alone(partition, position, decisions)
            metrics.ARCHIVED.inc(len(decisions.archiving.orders) if decisions.archiving else 0)
            return result
