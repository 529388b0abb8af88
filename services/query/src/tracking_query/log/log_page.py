"""One page of the event log: the positions to look at next, and a page made of what was found.
No I/O, no clock.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import merge
from itertools import groupby

from tracking_shared.contracts.cursors import Position
from tracking_shared.contracts.documents import EventDocument, position_key


def share(available: Sequence[int], wanted: int, first: int) -> list[int]:
    """Divides `wanted` positions among the partitions, evenly; each gets at most what it has `available`.

    `first` says which partition is served first where it does not come out even. By even shares and
    not by size, so that a busy partition cannot keep a quiet one waiting.
    """
    shares = [0] * len(available)
    order = [(first + offset) % len(available) for offset in range(len(available))]
    while waiting := [partition for partition in order if shares[partition] < available[partition]]:
        each = max(wanted // len(waiting), 1)
        for partition in waiting:
            part = min(each, available[partition] - shares[partition], wanted)
            shares[partition] += part
            wanted -= part
        if wanted == 0:
            break
    return shares


def in_time_order(events: Iterable[EventDocument]) -> list[EventDocument]:
    """The events by time, as far as that keeps the order of each partition."""
    by_position = sorted(events, key=lambda event: event["_id"])
    runs = [list(run) for _, run in groupby(by_position, key=lambda event: event["partition"])]
    return list(merge(*runs, key=lambda event: event["recorded_at"]))


@dataclass(slots=True)
class LogPage:
    """A page while it is being filled, window by window.

    A window is a run of positions in each partition, from where the page stands (`seqs`).
    """

    limit: int
    head: Position
    """The end of the log when the page was begun: nothing beyond is looked at."""

    seqs: list[int]
    """By partition: up to here everything that matches is in the page, or was passed on before."""

    events: list[EventDocument] = field(default_factory=list)
    has_surplus: bool = False
    """True if a matching event after the page is known."""

    @property
    def position(self) -> Position:
        """The start of the next page."""
        return Position(self.head.epoch, tuple(self.seqs))

    @property
    def room(self) -> int:
        """Events that the page can still take."""
        return self.limit - len(self.events)

    @property
    def at_head(self) -> bool:
        """True if everything was looked at."""
        return self.position == self.head

    @property
    def is_empty_at_head(self) -> bool:
        """True if nothing that matches follows the position that the page was begun at."""
        return self.at_head and not self.events

    def next_window(self, width: int) -> list[range]:
        """The next `width` positions (fewer at the end of the log), as a range of seqs per partition."""
        available = [end - seq for end, seq in zip(self.head.seqs, self.seqs, strict=True)]
        shares = share(available, width, first=sum(self.seqs) % len(self.seqs))
        return [range(seq + 1, seq + 1 + part) for seq, part in zip(self.seqs, shares, strict=True)]

    def add(self, window: Sequence[range], matching: Iterable[EventDocument]) -> None:
        """Takes what matches in `window`, as far as there is room, and advances up to what has none."""
        ordered = in_time_order(matching)
        ends = [seqs.stop - 1 for seqs in window]
        for event in ordered[self.room :]:
            ends[event["partition"]] = min(ends[event["partition"]], event["seq"] - 1)
            self.has_surplus = True
        self.events += ordered[: self.room]
        self.seqs = ends

    def add_sorted(self, matching: Sequence[EventDocument]) -> None:
        """Takes the first of all matching events up to the head, given by seq and then partition.

        There must be more than the page takes, or all of them.
        """
        taken, surplus = matching[: self.limit], matching[self.limit :]
        self.events = in_time_order(taken)
        if not surplus:
            self.seqs = list(self.head.seqs)
            return
        self.has_surplus = True
        next_seq, next_partition = surplus[0]["seq"], surplus[0]["partition"]
        for partition, end in enumerate(self.head.seqs):
            passed = next_seq if partition < next_partition else next_seq - 1
            self.seqs[partition] = max(self.seqs[partition], min(end, passed))


def keys_of(window: Sequence[range]) -> list[int]:
    """The database keys of a window's positions."""
    return [position_key(partition, seq) for partition, seqs in enumerate(window) for seq in seqs]
