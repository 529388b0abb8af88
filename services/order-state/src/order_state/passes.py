"""One pass over what has arrived: record it (load, decide, commit), then announce, reply, acknowledge.

A transaction costs about the same for one command as for fifty, so a pass takes what is waiting on all
the partitions of its worker, and writes it in one transaction with one fence a partition.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from time import perf_counter

from order_state import metrics
from order_state.announcer import Announcer
from order_state.decided import AnyCommand
from order_state.recording import Recorder
from order_state.share import Share
from shared.broker import Delivery
from shared.commands import ReleaseOrder, UndecodableMessage, decode_commands
from shared.documents import EventDocument
from shared.outcomes import Outcome, Reply
from shared.partitioning import partition_of
from shared.timestamps import now
from shared.tracing import traces_in

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is committed, and what nobody knows yet."""

    shares: Sequence[Share] = ()
    events: Sequence[EventDocument] = ()
    """To announce, those of each partition in seq order."""
    started: float = field(default_factory=perf_counter)
    """When the pass began, in seconds of `perf_counter`."""
    committed_at: datetime = field(default_factory=now)


@dataclass(frozen=True, slots=True)
class Passes:
    """Takes shares to their end, in two halves. The steps are the same for one share and for many."""

    partitions: int
    recorder: Recorder
    announcer: Announcer

    async def claim(self, share: Share) -> None:
        """Claims the partition of a share, whatever becomes of the others.

        Raises:
            CannotGoOn: the database fails at it although it answers.
            BrokerUnavailable: the deliveries are somebody else's by now.
        """
        await self.recorder.locate(share)

    async def record(self, shares: Sequence[Share]) -> Recorded:
        """Decides and commits everything in `shares`, and brings their positions up to date. A share on
        which nothing has arrived is there for its horizon.

        Raises:
            Fenced: another worker owns one of the partitions.
            CannotGoOn: one of the partitions has to wait.
            BrokerUnavailable: the connection is gone; what was not acknowledged comes again.
        """
        started = perf_counter()
        for share in shares:
            await self._decode(share)
        shares = [share for share in shares if share.deliveries or share.position]
        if not shares:
            return Recorded()
        await self.recorder.record(shares)
        shares = [share for share in shares if share.deliveries]
        events = [event for share in shares for event in events_to_announce(share)]
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
        share.forget()
        for delivery in share.deliveries:
            try:
                commands = self._commands_of(delivery, share.partition)
            except UndecodableMessage as error:
                traces = ", ".join(traces_in(delivery.body)) or "unknown"
                log.warning("dead-lettered a message with the traces %s: %s", traces, error)
                metrics.DEAD_LETTERED.inc()
                await delivery.dead_letter()
                continue
            good.append(delivery)
            releases = [command for command in commands if isinstance(command, ReleaseOrder)]
            share.releases += releases
            share.commands += [c for c in commands if not isinstance(c, ReleaseOrder)]
            share.sizes.append(len(commands) - len(releases))
        share.deliveries = good

    def _commands_of(self, delivery: Delivery, partition: int) -> list[AnyCommand | ReleaseOrder]:
        commands = decode_commands(delivery.body)
        for command in commands:
            owner = partition_of(command.order_id, self.partitions)
            if owner != partition:
                raise UndecodableMessage(f"a command for partition {owner} came to {partition}")
        return commands


def events_to_announce(share: Share) -> list[EventDocument]:
    """The new events; in a repeat, the old ones of known updates before them: whoever had the messages
    before may have stopped between commit and announcement.
    """
    if not share.is_repeat:
        return share.decided.events
    old = [event for event in share.known_events.values() if event["partition"] == share.partition]
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
        metrics.OUTCOMES.labels(_kind(outcome)).inc()
    for share in recorded.shares:
        if share.position:
            metrics.SEQ.labels(share.partition).set(share.position.seq)
        for command in share.commands:
            age = (recorded.committed_at - command.received_at).total_seconds()
            metrics.COMMAND_SECONDS.observe(max(age, 0))  # ingest's clock may be ahead


def _kind(outcome: Outcome | None) -> str:
    if outcome is None:
        return "parked"
    return "replayed" if outcome["replayed"] else outcome["outcome"]
