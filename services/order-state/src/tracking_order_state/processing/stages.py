"""The stages of a batch, each made from the one before: received, decided, committed. All but
`PartitionState` are immutable.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from time import perf_counter

from tracking_order_state.domain.decisions import Decisions
from tracking_order_state.domain.partition import PartitionPosition
from tracking_shared.contracts.commands import AnyCommand, Outcome, ReleaseOrder, Reply
from tracking_shared.contracts.documents import EventDocument
from tracking_shared.contracts.timestamps import now
from tracking_shared.messaging.consumer import Delivery
from tracking_shared.telemetry.spans import SpanContext


@dataclass(slots=True, eq=False)
class PartitionState:
    """The state of a partition in this worker. It outlives batches, and failed attempts at them."""

    number: int
    check: Callable[[], Awaitable[None]]
    """Raises `BrokerUnavailable` if its deliveries belong to another consumer by now."""
    position: PartitionPosition | None = None
    """After the last commit of this worker; None: not claimed yet. The next commit is fenced by it."""
    is_uncertain: bool = False
    """A commit at `position` may have been written although its answer was lost."""
    is_retried: bool = False
    """An attempt at the present batch has failed. It may have committed some updates, which are then known
    and not published."""
    failures: int = 0
    """Attempts at the present batch that failed although the database answered."""

    def begin_batch(self) -> None:
        """Forgets the attempts at the batch before."""
        self.is_retried, self.failures = False, 0


@dataclass(frozen=True, slots=True)
class PartitionBatch:
    """The part of a batch that one partition contributes: its deliveries, decoded."""

    partition: PartitionState
    deliveries: Sequence[Delivery] = ()
    commands: Sequence[AnyCommand] = ()
    """Of all deliveries, in their order."""
    sizes: Sequence[int] = ()
    """The number of commands in each delivery."""
    releases: Sequence[ReleaseOrder] = ()
    """Processed after the commands."""
    traced: Mapping[tuple[str, str], SpanContext] = field(default_factory=dict)
    """The spans that sent the commands that are sampled, by order id and update id."""

    @property
    def may_be_unpublished(self) -> bool:
        """True if updates that are found to be known may have been committed and not published, by an earlier
        attempt of this worker or by the owner before."""
        return self.partition.is_retried or any(delivery.redelivered for delivery in self.deliveries)

    def halves(self) -> tuple["PartitionBatch", "PartitionBatch"]:
        """The first and the second half of the commands."""
        middle = len(self.commands) // 2
        return replace(self, commands=self.commands[:middle]), replace(self, commands=self.commands[middle:])


@dataclass(frozen=True, slots=True)
class ReceivedBatch:
    """The commands that are to share a transaction; partitions without any move their horizon on.

    After a crash here nothing is written, and the broker delivers all of it again.
    """

    parts: Sequence[PartitionBatch]
    started: float = field(default_factory=perf_counter)
    """Seconds of `perf_counter`."""

    @property
    def partitions(self) -> list[PartitionState]:
        """The partitions of the parts, in their order."""
        return [part.partition for part in self.parts]


@dataclass(frozen=True, slots=True)
class DecidedBatch:
    """The decisions on a received batch. They hold only if each partition is still at its position.

    After a crash here nothing is written, as before. After a crash during the commit, either all of it is
    written or nothing: the fence of the next owner ends a transaction that is still open.
    """

    partitions: Sequence[PartitionState]
    positions: Sequence[PartitionPosition]
    decisions: Sequence[Decisions]
    known_events: Mapping[int, EventDocument] = field(default_factory=dict)
    """The events of updates that were known before, by position, of all partitions."""
    assumed: frozenset[str] = frozenset()
    """Keys of applied updates that were assumed to be new. If one is not, `NotNew` ends the commit."""


@dataclass(frozen=True, slots=True)
class PartitionResult:
    """The committed result of one part."""

    outcomes: Sequence[Outcome | None] = ()
    """Of the commands in their order, then of released ones."""
    events: Sequence[EventDocument] = ()
    """New events, in seq order."""
    known_events: Mapping[int, EventDocument] = field(default_factory=dict)
    settled: int = 0
    """Of the orders or held updates that a step of the system names, the number that it dealt with. Of an
    erasure, the number of the first ones that need no more.
    """

    def followed_by(self, later: "PartitionResult") -> "PartitionResult":
        """The result of both, where one part took several transactions."""
        return PartitionResult(
            [*self.outcomes, *later.outcomes],
            [*self.events, *later.events],
            {**self.known_events, **later.known_events},
        )


@dataclass(frozen=True, slots=True)
class CommittedBatch:
    """The results of a batch, one for each part: durable, and to be published.

    After a crash here, or in the middle of publishing, the deliveries come again as redelivered ones. Their
    updates are known then: the stored events are published again and the stored outcomes are replied.
    Subscribers drop events that they have.
    """

    received: ReceivedBatch
    results: Sequence[PartitionResult]
    may_be_unpublished: Sequence[bool]
    """True for each part whose known updates may be unpublished."""
    committed_at: datetime = field(default_factory=now)
    committed: float = field(default_factory=perf_counter)
    """Seconds of `perf_counter`."""

    def events(self) -> list[EventDocument]:
        """The events to publish, those of each partition in seq order. Where known updates may be
        unpublished, their events come before the new ones: the process that decided them may have stopped
        between commit and publication.
        """
        events: list[EventDocument] = []
        for part, result, is_unpublished in zip(
            self.received.parts, self.results, self.may_be_unpublished, strict=True
        ):
            if is_unpublished:
                known = (e for e in result.known_events.values() if e["partition"] == part.partition.number)
                events += sorted(known, key=lambda event: event["seq"])
            events += result.events
        return events

    def replies(self) -> dict[str, list[Reply]]:
        """The outcomes by message, grouped by the reply queue of the ingest that waits for them."""
        replies: dict[str, list[Reply]] = defaultdict(list)
        for part, result in zip(self.received.parts, self.results, strict=True):
            begin = 0
            for delivery, size in zip(part.deliveries, part.sizes, strict=True):
                outcomes = list(result.outcomes[begin : begin + size])
                begin += size
                if delivery.reply_to and delivery.message_id:
                    reply: Reply = {"message_id": delivery.message_id, "outcomes": outcomes}
                    replies[delivery.reply_to].append(reply)
        return replies
