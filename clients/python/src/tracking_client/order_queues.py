"""Operations that wait to be sent, in the order of their orders. No I/O, no clock."""

from collections import deque
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """Something that can wait: it belongs to an order, and has a size."""

    @property
    def order_key(self) -> str: ...

    @property
    def size(self) -> int: ...


E = TypeVar("E", bound=Sized)


class OrderQueues(Generic[E]):
    """A queue for each order. At most one entry of each order is taken and not done.

    A repeat can therefore never overtake an earlier entry of its order. Orders are served in turn.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[E]] = {}  # by order key; empty while its last entry is taken
        self._ready: deque[str] = deque()  # orders with an entry that may be taken

    @property
    def has_ready(self) -> bool:
        """True if `take` returns something."""
        return bool(self._ready)

    def add(self, entry: E) -> None:
        """Adds an entry after those of its order."""
        queue = self._waiting.get(entry.order_key)
        if queue is None:
            self._waiting[entry.order_key] = deque([entry])
            self._ready.append(entry.order_key)
        else:
            queue.append(entry)

    def take(self, max_entries: int, max_size: int) -> list[E]:
        """The next entry of each order that is ready, within the bounds; at least one if there is one."""
        taken: list[E] = []
        while self._ready and len(taken) < max_entries:
            queue = self._waiting[self._ready[0]]
            max_size -= queue[0].size
            if taken and max_size < 0:
                break
            self._ready.popleft()
            taken.append(queue.popleft())
        return taken

    def done(self, order_key: str) -> None:
        """The taken entry of this order is decided: its next one may be taken."""
        if self._waiting[order_key]:
            self._ready.append(order_key)
        else:
            del self._waiting[order_key]

    def clear(self) -> list[E]:
        """Removes all entries that are not taken, and returns them."""
        left = [entry for queue in self._waiting.values() for entry in queue]
        for queue in self._waiting.values():
            queue.clear()
        for order_key in self._ready:
            del self._waiting[order_key]
        self._ready.clear()
        return left
