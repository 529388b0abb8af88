"""Recording: the first half of a pass. What arrived is decided and committed; what our own code fails on is
parked, and released when an operator says so.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TypeVar

from order_state.batch import decide_batch
from order_state.decided import NOTHING_KNOWN, AnyCommand, Decided, Known
from order_state.faults import CannotGoOn, TooManyParked, fault_of
from order_state.horizon import recording_time
from order_state.lifecycle import Slot
from order_state.lines import NO_LINES, Lines
from order_state.parking import MAX_WAITING, fail_again, give_up, leave_line, park
from order_state.share import Share
from order_state.store import PartitionPosition, Store
from shared.commands import ReleaseOrder, decode_command
from shared.database import DatabaseUnavailable, retrying_database
from shared.documents import ParkedDocument
from shared.timestamps import now
from shared.tracing import traces_in
from shared.workflow import Workflow

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_FAILURES = 3
"""Attempts that may fail although the database answers, before each partition is tried alone. An election or
a write conflict passes within one or two."""


@dataclass(frozen=True, slots=True)
class Recorder:
    """Brings every command to its outcome, or to a place where it waits."""

    store: Store
    workflow: Workflow
    max_parked_orders: int
    """Of one partition."""
    clock: Callable[[], datetime] = now

    async def record(self, shares: Sequence[Share]) -> None:
        """Decides and commits all commands in one transaction, and brings positions up to date. If our own
        code fails at that, finds the commands that fail alone and parks them; the others are committed.
        A share without commands only moves the horizon of its partition on, where that is due.

        Raises:
            Fenced: another worker owns one of the partitions.
            BrokerUnavailable: the deliveries are somebody else's by now.
            TooManyParked: one more order would have to be parked than may be.
            CannotGoOn: our own code fails at parking, too; or the database has failed `MAX_FAILURES` times at
                this although it answers, perhaps for one of the partitions only.
        """
        fault = await fault_of(self._record(shares))
        if fault is not None:
            for share in shares:
                share.again = True  # some of it may be written
            raise CannotGoOn(f"partitions {[share.partition for share in shares]}: {fault}")

    async def _record(self, shares: Sequence[Share]) -> None:
        if await fault_of(self._retried(shares, partial(self._decide_and_commit, shares))):
            for share in shares:
                await self._isolate(share)
        for share in shares:
            for release in share.releases:
                await self._release(share, release)

    async def _decide_and_commit(self, shares: Sequence[Share]) -> None:
        # The positions first: whoever claims a partition after we have makes our commit fail.
        positions = [await self._locate(share) for share in shares]
        parked_orders = {order_id for position in positions for order_id in position.lines}
        commands = [command for share in shares for command in share.commands]
        known = await self.store.load(commands, parked_orders) if commands else NOTHING_KNOWN
        decided = [
            self._decide(share.commands, known, position, position.lines)
            for share, position in zip(shares, positions, strict=True)
        ]
        await self._commit(shares, positions, decided)
        for share in shares:
            share.known_events.update(known.events)

    async def locate(self, share: Share) -> PartitionPosition:
        """Where the partition of the share stands; it is claimed if it was not yet.

        Raises:
            Fenced: another worker owns the partition.
            BrokerUnavailable: the deliveries are somebody else's by now.
            CannotGoOn: the database has failed `MAX_FAILURES` times at this although it answers.
        """
        return await self._retried([share], partial(self._locate, share))

    async def _locate(self, share: Share) -> PartitionPosition:
        if share.position is None:
            await share.check()
            share.position = await self.store.claim(share.partition)
        elif share.uncertain:
            share.position = await self.store.recover(share.position)
        share.uncertain = False
        return share.position

    def _decide(
        self, commands: Sequence[AnyCommand], known: Known, position: PartitionPosition, lines: Lines
    ) -> Decided:
        return decide_batch(
            commands,
            known,
            partition=position.partition,
            seq=position.seq,
            time=self._time(position),
            workflow=self.workflow,
            lines=lines,
        )

    def _time(self, position: PartitionPosition) -> datetime:
        return recording_time(position.horizon, self.clock())

    async def _commit(
        self, shares: Sequence[Share], positions: Sequence[PartitionPosition], decided: Sequence[Decided]
    ) -> None:
        for share in shares:
            share.uncertain = True
        after = await self.store.commit(positions, decided)
        for share, position, result in zip(shares, after, decided, strict=True):
            share.position, share.decided, share.uncertain = position, result, False
            for parked in result.parked.values():
                _tell_parked(parked)

    async def _isolate(self, share: Share) -> None:
        """Commits all of it, else its halves, down to the commands that fail alone. Of 900 with a bad one
        among them that takes 20 transactions.
        """
        share.again = True
        fault = await fault_of(self._retried([share], partial(self._decide_and_commit, [share])))
        if fault is None or not share.commands:
            return
        if len(share.commands) == 1:
            await self._retried([share], partial(self._park, share, share.commands[0], fault))
            return
        middle = len(share.commands) // 2
        for half in (share.commands[:middle], share.commands[middle:]):
            with share.part(half) as part:
                await self._isolate(part)

    async def _park(self, share: Share, command: AnyCommand, fault: str) -> None:
        position = await self._locate(share)
        parked = None
        if command.order_id in position.lines:
            parked = await self.store.parked_command(command)
        elif len(position.lines) >= self.max_parked_orders:
            raise TooManyParked(f"{len(position.lines)} orders of partition {share.partition} are parked")
        slot = Slot(position.partition, position.seq, self._time(position))
        await self._commit([share], [position], [park(command, parked, position.lines, slot, fault)])

    async def _release(self, share: Share, release: ReleaseOrder) -> None:
        """Decides what is parked of an order, one after the other, until one fails again. Each is a
        transaction of its own, since the first one is likely to fail.
        """
        fault = None
        while fault is None and await self._is_parked(share, release.order_id):
            with share.part([]) as part:
                fault = await fault_of(self._retried([part], partial(self._decide_first, part, release)))
                if fault is not None:
                    await fault_of(self._retried([part], partial(self._keep_first, part, release, fault)))
        if share.is_repeat:  # a release does not name the updates whose events may not be announced yet
            newest = partial(self.store.newest_events, release.order_id, MAX_WAITING)
            share.known_events.update({event["_id"]: event for event in await self._retried([share], newest)})

    async def _is_parked(self, share: Share, order_id: str) -> bool:
        return order_id in (await self.locate(share)).lines

    async def _decide_first(self, share: Share, release: ReleaseOrder) -> None:
        position = await self._locate(share)
        line = position.lines.get(release.order_id)
        if line is None:  # a commit whose answer was lost was the last one
            return
        parked = await self.store.parked_at(release.order_id, line.first)
        command = decode_command(parked["command"])
        if release.skip == parked["update_id"]:
            decided = give_up(command, self._time(position))
        else:
            decided = self._decide([command], await self.store.load([command]), position, NO_LINES)
        leave_line(decided, parked, line)
        await self._commit([share], [position], [decided])

    async def _keep_first(self, share: Share, release: ReleaseOrder, fault: str) -> None:
        position = await self._locate(share)
        parked = await self.store.parked_at(release.order_id, position.lines[release.order_id].first)
        await self._commit([share], [position], [fail_again(parked, fault)])

    async def _retried(self, shares: Sequence[Share], step: Callable[[], Awaitable[T]]) -> T:
        """What `step` returns once the database answers. From the second attempt on, what is known may be our
        own doing, committed though the answer was lost.

        Retried in process: a delivery that is given back and taken again would count towards the delivery
        limit, and an hour's outage would dead-letter it.

        Raises:
            CannotGoOn: `MAX_FAILURES` attempts have failed although the database answers.
        """
        async for attempt in retrying_database():
            with attempt:
                for share in shares:
                    share.again |= attempt.retry_state.attempt_number > 1
                try:
                    return await step()
                except DatabaseUnavailable as error:
                    await self._count_failure(shares, error)
                    raise
        raise AssertionError("retried without end")

    async def _count_failure(self, shares: Sequence[Share], error: DatabaseUnavailable) -> None:
        if not await self.store.answers():
            return
        for share in shares:
            share.failures += 1
        if any(share.failures >= MAX_FAILURES for share in shares):
            raise CannotGoOn(f"partitions {[share.partition for share in shares]}: {error}") from error


def _tell_parked(parked: ParkedDocument) -> None:
    log.error(
        "parked update %s of order %s: %s",
        parked["update_id"],
        parked["order_id"],
        parked["error"] or "it waits for an earlier one",
        extra={"trace_id": next(iter(traces_in(parked["command"].encode())), None)},
    )
