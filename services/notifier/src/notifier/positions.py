"""What to deliver, to drop and to fetch, by arithmetic on dense sequence numbers. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.cursors import Position


@dataclass(frozen=True, slots=True)
class Take:
    """Deliver the events `start` to `stop` - 1 of the batch (indices)."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Fetch:
    """Deliver the events `first` to `through` (sequence numbers) from the log: they were missed."""

    first: int
    through: int


def plan(last: int, seqs: Sequence[int]) -> list[Take | Fetch]:
    """How to go on from `last` with a batch of these sequence numbers, so that each is delivered
    once and none is left out. What was delivered before is dropped.
    """
    steps: list[Take | Fetch] = []
    for index, seq in enumerate(seqs):
        if seq <= last:
            continue
        if seq > last + 1:
            steps.append(Fetch(last + 1, seq - 1))
        previous = steps[-1] if steps else None
        if isinstance(previous, Take) and previous.stop == index:
            steps[-1] = Take(previous.start, index + 1)
        else:
            steps.append(Take(index, index + 1))
        last = seq
    return steps


def behind(position: Sequence[int], heads: Sequence[int]) -> list[int]:
    """The partitions whose log goes on beyond `position`."""
    return [p for p, (seq, head) in enumerate(zip(position, heads, strict=True)) if seq < head]


def reached(position: Sequence[int], target: Sequence[int]) -> bool:
    """Whether `position` is at or beyond `target` in every partition."""
    return not behind(position, target)


def unjoinable_because(position: Position, heads: Position) -> str | None:
    """Why the log that ends at `heads` cannot be read on from `position`; None if it can.

    A position beyond the end is one of a log that was set back, or was never given out by us.
    """
    if position.epoch != heads.epoch or len(position.seqs) != len(heads.seqs):
        return "epoch-changed"
    if not reached(heads.seqs, position.seqs):
        return "position-unknown"
    return None
