"""One pass over what has arrived: load, decide, commit, announce, reply, acknowledge.

A transaction costs about the same for one command as for fifty, so a pass takes what is waiting on all
the partitions of its worker, and writes it in one transaction with one fence a partition.
"""

import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

from order_state import metrics
from order_state.announcer import Announcer
from order_state.batch import AnyCommand, Decided, Known, decide_batch
from order_state.store import PartitionPosition, Store
from shared.broker import Delivery
from shared.commands import UndecodableMessage, decode_commands
from shared.database import retrying_database
from shared.documents import EventDocument
from shared.outcomes import Reply
from shared.partitioning import partition_of
from shared.timestamps import now
from shared.workflow import Workflow

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Share:
    """What one partition brings to a pass. `position` is where it stood after our last commit, None
    before our first; whatever is decided is written only if it still stands there.
    """

    partition: int
    position: PartitionPosition | None
    deliveries: list[Delivery]
    check: Callable[[], Awaitable[None]]
    """Raises `BrokerUnavailable` if the deliveries are somebody else's by now."""
    commands: list[AnyCommand] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    """How many of the commands came in each delivery."""
    decided: Decided = field(default_factory=Decided)
    uncertain: bool = False
    """Whether a commit on `position` may have happened without an answer."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is committed, and what nobody knows yet."""

    shares: Sequence[Share] = ()
    events: Sequence[EventDocument] = ()
    """To announce, those of each partition in seq order."""
    started: float = field(default_factory=perf_counter)
    """When the pass began, in seconds of `perf_counter`."""


@dataclass(frozen=True, slots=True)
class Passes:
    """Takes shares to their end, in two halves. The steps are the same for one share and for many."""

    partitions: int
    store: Store
    announcer: Announcer
    workflow: Workflow

    async def record(self, shares: Sequence[Share]) -> Recorded:
        """Decides and commits everything in `shares`, and brings their positions up to date.

        Raises:
            Fenced: another worker owns one of the partitions; nothing was written.
            BrokerUnavailable: the connection is gone; what was not acknowledged comes again.
        """
        started = perf_counter()
        for share in shares:
            await self._decode(share)
        shares = [share for share in shares if share.deliveries]
        if not shares:
            return Recorded()
        known, attempts = await self._decide_and_commit(shares)
        events = [event for share in shares for event in events_to_announce(share, known, again=attempts > 1)]
        return Recorded(shares, events, started)

    async def tell(self, recorded: Recorded) -> None:
        """Announces, replies and acknowledges what was recorded, in this order.

        Raises:
            BrokerUnavailable: the connection is gone; what was not acknowledged comes again.
        """
        await self.announcer.announce(recorded.events)
        for reply_to, replies in replies_of(recorded.shares).items():
            await self.announcer.reply(reply_to, replies)
        for share in recorded.shares:
            await share.deliveries[-1].acknowledge_through()
        if recorded.shares:
            _count(recorded)

    async def _decode(self, share: Share) -> None:
        good: list[Delivery] = []
        share.commands, share.sizes = [], []
        for delivery in share.deliveries:
            try:
                commands = self._commands_of(delivery, share.partition)
            except UndecodableMessage as error:
                log.warning("dead-lettered a message: %s", error)
                metrics.DEAD_LETTERED.inc()
                await delivery.dead_letter()
                continue
            good.append(delivery)
            share.commands += commands
            share.sizes.append(len(commands))
        share.deliveries = good

    def _commands_of(self, delivery: Delivery, partition: int) -> list[AnyCommand]:
        commands = decode_commands(delivery.body)
        for command in commands:
            owner = partition_of(command.order_id, self.partitions)
            if owner != partition:
                raise UndecodableMessage(f"a command for partition {owner} came to {partition}")
        return commands

    async def _decide_and_commit(self, shares: Sequence[Share]) -> tuple[Known, int]:
        """What was known, and the attempts it took: after the first, what is known may be our own
        doing, committed though the answer was lost.

        Retried in process while the database is away: a delivery that is given back and taken again
        would count towards the delivery limit, and an hour's outage would dead-letter it.
        """
        async for attempt in retrying_database():
            with attempt:
                known = await self._attempt(shares)
                return known, attempt.retry_state.attempt_number
        raise AssertionError("retried without end")

    async def _attempt(self, shares: Sequence[Share]) -> Known:
        # The positions first: whoever claims a partition after we have makes our commit fail.
        positions = [await self._position(share) for share in shares]
        known = await self.store.load([command for share in shares for command in share.commands])
        for share, position in zip(shares, positions, strict=True):
            share.decided = decide_batch(
                share.commands,
                known,
                partition=share.partition,
                seq=position.seq,
                time=now(),
                workflow=self.workflow,
            )
            share.position, share.uncertain = position, True
        after = await self.store.commit(positions, [share.decided for share in shares])
        for share, position in zip(shares, after, strict=True):
            share.position, share.uncertain = position, False
        return known

    async def _position(self, share: Share) -> PartitionPosition:
        if share.position is None:
            await share.check()
            return await self.store.claim(share.partition)
        return await self.store.recover(share.position) if share.uncertain else share.position


def events_to_announce(share: Share, known: Known, *, again: bool) -> list[EventDocument]:
    """The new events; for redelivered messages, and with `again`, the old ones of known updates before
    them: whoever had the messages before us may have stopped between commit and announcement.
    """
    if not again and not any(delivery.redelivered for delivery in share.deliveries):
        return share.decided.events
    old = [event for event in known.events.values() if event["partition"] == share.partition]
    return sorted(old, key=lambda event: event["seq"]) + share.decided.events


def replies_of(shares: Iterable[Share]) -> dict[str, list[Reply]]:
    """The outcomes, by the queue of the ingest that waits for them."""
    replies: dict[str, list[Reply]] = defaultdict(list)
    for share in shares:
        outcomes = iter(share.decided.outcomes)
        for delivery, size in zip(share.deliveries, share.sizes, strict=True):
            told = [next(outcomes) for _ in range(size)]
            if delivery.reply_to and delivery.message_id:
                replies[delivery.reply_to].append({"message_id": delivery.message_id, "outcomes": told})
    return replies


def _count(recorded: Recorded) -> None:
    outcomes = [outcome for share in recorded.shares for outcome in share.decided.outcomes]
    metrics.PASS_SECONDS.observe(perf_counter() - recorded.started)
    metrics.PASS_COMMANDS.observe(len(outcomes))
    for outcome in outcomes:
        metrics.OUTCOMES.labels("replayed" if outcome["replayed"] else outcome["outcome"]).inc()
    for share in recorded.shares:
        if share.position:
            metrics.SEQ.labels(share.partition).set(share.position.seq)
