"""What one partition brings to a pass, and what becomes of it."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from order_state.decided import AnyCommand, Decided
from order_state.store import PartitionPosition
from shared.broker import Delivery
from shared.commands import ReleaseOrder
from shared.documents import EventDocument


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
    releases: list[ReleaseOrder] = field(default_factory=list)
    """Done after the commands."""
    decided: Decided = field(default_factory=Decided)
    """Outcomes of the commands in their order, then those of released ones."""
    known_events: dict[int, EventDocument] = field(default_factory=dict)
    """Those of updates that were known already, by position."""
    uncertain: bool = False
    """Whether a commit on `position` may have happened without an answer."""
    again: bool = False
    """Whether updates that are known may be our own doing, committed and not announced."""
    failures: int = 0
    """Attempts that failed although the database answered."""

    @property
    def is_repeat(self) -> bool:
        """Whether what is known may not have been announced, by us or by whoever had the messages before."""
        return self.again or any(delivery.redelivered for delivery in self.deliveries)

    def forget(self) -> None:
        """As before anything was read of the deliveries; where the partition stands is kept."""
        self.commands, self.sizes, self.releases = [], [], []
        self.decided, self.known_events = Decided(), {}

    @contextmanager
    def part(self, commands: Sequence[AnyCommand]) -> Iterator["Share"]:
        """A share with these commands alone, which goes on where this one stands. What becomes of it is
        added to this one at the end, also if something is raised: some of it may be written.
        """
        part = replace(self, commands=list(commands), decided=Decided(), known_events={})
        try:
            yield part
        finally:
            self.position, self.uncertain = part.position, part.uncertain
            self.again |= part.again
            self.failures = part.failures
            self.decided.outcomes.extend(part.decided.outcomes)
            self.decided.events.extend(part.decided.events)
            self.known_events.update(part.known_events)
