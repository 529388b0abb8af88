"""What the loads send: orders that walk through the default workflow. Pure."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count, islice

STATUSES = ("created", "picked_up", "in_transit", "in_transit", "delivered")
"""The statuses of an order by version; every one of them is legal, so every answer must be `applied`."""

EVERY_STATUS = sorted(set(STATUSES) | {"cancelled"})
"""As a filter it asks for all orders; without a status only the active ones are meant."""

MERCHANTS = 20


@dataclass(frozen=True, slots=True)
class Step:
    """One operation: it brings the order to this version."""

    order_id: str
    merchant_id: str
    version: int
    occurred_at: str

    @property
    def update_id(self) -> str:
        """Unique per operation, so that nothing is taken for a repeat."""
        return f"{self.order_id}-{self.version}"

    @property
    def is_create(self) -> bool:
        """Whether it makes the order."""
        return self.version == 1

    @property
    def is_last(self) -> bool:
        """Whether the order is final after it."""
        return self.version == len(STATUSES)

    def next(self) -> "Step":
        """The operation after this one, which must not be the last."""
        return replace(self, version=self.version + 1)


def orders(prefix: str, occurred_at: str) -> Iterator[Step]:
    """The creates of one order after the other, without end. `prefix` makes their ids unique."""
    for number in count():
        yield Step(f"{prefix}-{number}", f"merchant-{number % MERCHANTS}", 1, occurred_at)


def lifecycles(prefix: str, occurred_at: str) -> Iterator[Step]:
    """The operations of one order, then those of the next, without end."""
    for step in orders(prefix, occurred_at):
        yield step
        while not step.is_last:
            step = step.next()  # noqa: PLW2901 - the walk along one order
            yield step


class Conveyor:
    """Batches in which no order comes twice: one fifth creates, the rest moves open orders one step on.

    An order lives for five batches or more, as the updates of real orders lie hours apart; a batch that
    took orders from create to delivery would spare the database four of five writes of `orders`.
    """

    def __init__(self, prefix: str, occurred_at: str) -> None:
        self._orders = orders(prefix, occurred_at)
        self._open: deque[Step] = deque()

    def next_batch(self, size: int) -> list[Step]:
        """The next `size` operations; the first batches are mostly creates."""
        moves = min(len(self._open), size * 4 // 5)
        batch = [self._open.popleft().next() for _ in range(moves)]
        batch += islice(self._orders, size - moves)
        self._open.extend(step for step in batch if not step.is_last)
        return batch


def body_of(step: Step) -> bytes:
    """The body of a single request."""
    if step.is_create:
        text = (
            f'{{"order_id":"{step.order_id}","merchant_id":"{step.merchant_id}",'
            '"customer":{"name":"Ada Lovelace","contact_ref":"+44 20 7946 0958"},'
            f'"metadata":{{"channel":"web","parcels":2}},"occurred_at":"{step.occurred_at}"}}'
        )
    else:
        text = (
            f'{{"status":"{STATUSES[step.version - 1]}","occurred_at":"{step.occurred_at}",'
            '"metadata":{"lat":52.5201,"lon":13.4049}}'
        )
    return text.encode()


def operation_of(step: Step) -> bytes:
    """The same as one operation of a batch."""
    if step.is_create:
        head = f'{{"op":"create","update_id":"{step.update_id}",'
    else:
        head = f'{{"op":"update","update_id":"{step.update_id}","order_id":"{step.order_id}",'
    return head.encode() + body_of(step)[1:]
