"""The layout of partitions: each change of their number adds a generation of new partitions. Pure.

An order stays for ever in the partition in which it was created, its home, so its events never change their
place in the log. Only orders that are created later go to the partitions of the newest generation. With 4
partitions, then 16, then 8, these are 0 to 3, 4 to 19 and 20 to 27.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any, Literal

from tracking_shared.contracts.cursors import MAX_PARTITIONS
from tracking_shared.contracts.identifiers import partition_of


@dataclass(frozen=True, slots=True)
class Layout:
    """The partitions of all generations."""

    counts: tuple[int, ...]
    """The number of partitions that each generation has added, the oldest first."""

    @property
    def generation(self) -> int:
        """The newest generation; 0 is the first."""
        return len(self.counts) - 1

    @property
    def partitions(self) -> int:
        """The number of all partitions."""
        return sum(self.counts)

    def homes(self, order_id: str) -> list[int]:
        """The possible homes of an order, one for each generation; the last one is that of a new order."""
        starts = accumulate(self.counts, initial=0)
        return [
            start + partition_of(order_id, count) for start, count in zip(starts, self.counts, strict=False)
        ]

    def new_home(self, order_id: str) -> int:
        """The home of an order that is created now."""
        return self.homes(order_id)[-1]

    def with_generation(self, count: int) -> "Layout":
        """The layout after a change to `count` partitions."""
        return Layout((*self.counts, count))


@dataclass(frozen=True, slots=True)
class Routing:
    """The layout, and the routing keys under which commands reach its queues."""

    layout: Layout
    route: int = 0
    """The number of the routing keys. It goes up with each change, and the keys before are bound no more: who
    does not know of the change cannot publish."""
    is_fenced: bool = False
    """True while ingest takes no updates, because the number of partitions changes: no keys are bound."""

    @property
    def bound_route(self) -> int:
        """The number of the keys that may be bound: while ingest takes no updates, the next ones,
        which nobody uses yet.
        """
        return self.route + self.is_fenced


Phase = Literal["open", "fenced", "decided"]


@dataclass(frozen=True, slots=True)
class Switch:
    """A change of the number of partitions that is under way."""

    count: int
    """The number that is wanted."""
    phase: Phase
    """`open`: updates are taken as before. `fenced`: none is, until all that were taken are decided.
    `decided`: they are, and the change can only go on."""
    attempt: int
    """Goes up with each change of the phase: whoever carries on compares it."""


QUICK_CONFIRM_SECONDS = 0.5
"""A confirm that comes sooner after its publish was begun counts. After a later one, ingest asks whether the
routing is still the same: if not, the message may be behind the requests of a change."""

SETTLE_SECONDS = 2 * QUICK_CONFIRM_SECONDS
"""Between the removal of routing keys and the requests behind everything that was taken. So a message whose
confirm was quick is before them, even if a node of the broker knew the keys for `QUICK_CONFIRM_SECONDS`
longer."""

SEVERAL = 0
"""The `count` in the settings once there are several generations. No service is configured with it, so a
release that knows only `count` refuses to start."""


def layout_of(settings: Mapping[str, Any]) -> Layout:
    """The layout in the settings of an installation: `count`, or `counts` once the number was changed."""
    return Layout(tuple(settings.get("counts", [settings["count"]])))


def layout_in(partitions: Iterable[Mapping[str, Any]]) -> Layout:
    """The layout, by the documents of all partitions."""
    added = Counter(partition.get("added_in", 0) for partition in partitions)
    return Layout(tuple(added[generation] for generation in sorted(added)))


def routing_of(settings: Mapping[str, Any]) -> Routing:
    """The routing in the settings of an installation."""
    switch = switch_of(settings)
    is_fenced = switch is not None and switch.phase != "open"
    return Routing(layout_of(settings), settings.get("route", 0), is_fenced)


def switch_of(settings: Mapping[str, Any]) -> Switch | None:
    """The change that is under way, if there is one."""
    found = settings.get("switch")
    return None if found is None else Switch(found["count"], found["phase"], found["attempt"])


def unchanged(switch: Switch) -> dict[str, Any]:
    """The conditions under which the change that is stored is still this one: whoever writes compares it."""
    return {f"switch.{name}": value for name, value in asdict(switch).items()}


def refusal_of(layout: Layout, count: int) -> str | None:
    """The reason why the number of partitions cannot become `count`; None: it can."""
    if not 1 <= count <= MAX_PARTITIONS:
        return f"the number of partitions is 1 to {MAX_PARTITIONS}"
    if layout.partitions + count > MAX_PARTITIONS:
        return (
            f"{layout.partitions} partitions are in use; {count} more are above the limit of {MAX_PARTITIONS}"
        )
    return None


def padded(seqs: Sequence[int], partitions: int) -> tuple[int, ...]:
    """A position for a log that has got more partitions since: nothing of those was read."""
    return (*seqs, *[0] * (partitions - len(seqs)))


def are_numbered(numbers: Iterable[int], least: int) -> bool:
    """True if these are the partitions 0 to n, at least so many."""
    found = sorted(numbers)
    return len(found) >= least and found == list(range(len(found)))
