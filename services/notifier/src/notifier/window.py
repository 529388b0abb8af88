"""Recent events in memory, so that the common reconnect does not touch the database."""

from collections import deque

from notifier.events import Event

EVENT_OVERHEAD_BYTES = 500
"""Measured: what an event takes in memory beside its encoded forms."""


class Window:
    """The newest events of each partition without holes, bounded in bytes."""

    def __init__(self, partitions: int, limit_bytes: int) -> None:
        self._events: list[deque[Event]] = [deque() for _ in range(partitions)]
        self._sizes = [0] * partitions
        self._limit = limit_bytes // partitions

    def add(self, event: Event) -> None:
        """Appends the next event of its partition, and lets the oldest ones go."""
        partition = event.partition
        events = self._events[partition]
        events.append(event)
        size = self._sizes[partition] + memory_of(event)
        while size > self._limit:
            size -= memory_of(events.popleft())
        self._sizes[partition] = size

    def after(self, partition: int, seq: int, limit: int) -> list[Event] | None:
        """Up to `limit` events that follow `seq`; None if the window does not reach back that far."""
        events = self._events[partition]
        if not events or events[0].seq > seq + 1:
            return None
        skipped = seq + 1 - events[0].seq
        # By index: that is quick near both ends, and most readers have missed little.
        return [events[index] for index in range(skipped, min(skipped + limit, len(events)))]

    def clear(self) -> None:
        """Forgets everything."""
        for events in self._events:
            events.clear()
        self._sizes = [0] * len(self._sizes)


def memory_of(event: Event) -> int:
    """What an event takes in memory, in bytes."""
    # The variant without personal data is encoded when it is first asked for, and counted from the start.
    return 2 * len(event.full) + EVENT_OVERHEAD_BYTES
