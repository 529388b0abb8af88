"""Parks the commands that our own code fails on, and decides them when an operator releases their orders."""

from dataclasses import dataclass

from tracking_order_state.domain.parking import (
    MAX_PARKED_PER_ORDER,
    fail_again,
    give_up,
    park,
    release_first,
)
from tracking_order_state.domain.partition import NOTHING_PARKED, Slot
from tracking_order_state.errors import Fault, TooManyParked
from tracking_order_state.processing.batch_committer import BatchCommitter
from tracking_order_state.processing.retries import Retries
from tracking_order_state.processing.stages import (
    PartitionBatch,
    PartitionResult,
    PartitionState,
    ReceivedBatch,
)
from tracking_shared.contracts.commands import AnyCommand, ReleaseOrder, decode_command


@dataclass(frozen=True, slots=True)
class ParkingSteps:
    """Parks commands and releases parked orders, each in a transaction of its own."""

    committer: BatchCommitter
    retries: Retries
    max_parked_orders: int
    """Of one partition."""

    async def isolate(self, part: PartitionBatch) -> PartitionResult:
        """Commits all commands, or else each half, down to the commands that fail alone. Of 900 with a bad
        one among them that takes 20 transactions.
        """
        part.partition.is_retried = True
        results = await self.retries.tried(
            [part.partition], self.committer.decide_and_commit, ReceivedBatch([part])
        )
        if not isinstance(results, Fault):
            return results[0]
        if not part.commands:
            return PartitionResult()
        if len(part.commands) == 1:
            partition, [command] = part.partition, part.commands
            return await self.retries.retried([partition], self._park, partition, command, results)
        first, second = part.halves()
        result = await self.isolate(first)
        return result.followed_by(await self.isolate(second))

    async def _park(self, partition: PartitionState, command: AnyCommand, fault: Fault) -> PartitionResult:
        position = await self.committer.locate(partition)
        parked = None
        if command.order_id in position.parked_orders:
            parked = await self.committer.store.parked_command(command)
        elif len(position.parked_orders) >= self.max_parked_orders:
            count = len(position.parked_orders)
            raise TooManyParked(f"{count} orders of partition {partition.number} are parked")
        slot = Slot(position.partition, position.seq, position.recording_time(self.committer.clock()))
        command = self.committer.without_erased(command)
        return await self.committer.commit_alone(
            partition, position, park(command, parked, position.parked_orders, slot, fault)
        )

    async def release(self, part: PartitionBatch, release: ReleaseOrder) -> PartitionResult:
        """Decides the parked commands of an order, one after the other, until one fails again. Each is a
        transaction of its own, since the first one is likely to fail.
        """
        partition, result, fault = part.partition, PartitionResult(), None
        while fault is None and await self._is_parked(partition, release.order_id):
            decided = await self.retries.tried([partition], self._decide_first_parked, partition, release)
            if isinstance(decided, Fault):
                fault = decided
                decided = await self.retries.tried(
                    [partition], self._keep_first_parked, partition, release, fault
                )
            if not isinstance(decided, Fault):
                result = result.followed_by(decided)
        if part.may_be_unpublished:
            # A release does not name the updates whose events may be unpublished.
            newest = await self.retries.retried(
                [partition], self.committer.store.newest_events, release.order_id, MAX_PARKED_PER_ORDER
            )
            result = result.followed_by(
                PartitionResult(known_events={event["_id"]: event for event in newest})
            )
        return result

    async def _is_parked(self, partition: PartitionState, order_id: str) -> bool:
        position = await self.retries.retried([partition], self.committer.locate, partition)
        return order_id in position.parked_orders

    async def _decide_first_parked(self, partition: PartitionState, release: ReleaseOrder) -> PartitionResult:
        position = await self.committer.locate(partition)
        parked_range = position.parked_orders.get(release.order_id)
        if parked_range is None:  # a commit whose answer was lost was the last one
            return PartitionResult()
        parked = await self.committer.store.parked_at(release.order_id, parked_range.first)
        command = decode_command(parked["command"])
        if release.skip == parked["update_id"]:
            decisions = give_up(command, position.recording_time(self.committer.clock()))
        else:
            known = await self.committer.store.load([command])
            known = await self.committer.with_held(known, command, position)
            decisions = self.committer.decide_part([command], known, position, NOTHING_PARKED)
        release_first(decisions, parked, parked_range)
        return await self.committer.commit_alone(partition, position, decisions)

    async def _keep_first_parked(
        self, partition: PartitionState, release: ReleaseOrder, fault: Fault
    ) -> PartitionResult:
        position = await self.committer.locate(partition)
        first = position.parked_orders[release.order_id].first
        parked = await self.committer.store.parked_at(release.order_id, first)
        return await self.committer.commit_alone(partition, position, fail_again(parked, fault))
