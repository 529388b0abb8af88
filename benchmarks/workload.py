"""The operations of the loads: orders that walk through the default workflow."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count, islice
from secrets import token_hex

from tracking_shared.contracts.timestamps import format_time, now

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

    def body(self) -> bytes:
        """The body of a single request."""
        if self.version == 1:
            text = (
                f'{{"order_id":"{self.order_id}","merchant_id":"{self.merchant_id}",'
                '"customer":{"name":"Ada Lovelace","contact_ref":"+44 20 7946 0958"},'
                f'"metadata":{{"channel":"web","parcels":2}},"occurred_at":"{self.occurred_at}"}}'
            )
        else:
            text = (
                f'{{"status":"{STATUSES[self.version - 1]}","occurred_at":"{self.occurred_at}",'
                '"metadata":{"lat":52.5201,"lon":13.4049}}'
            )
        return text.encode()

    def operation(self) -> bytes:
        """The same as one operation of a batch."""
        head = f'{{"op":"create","update_id":"{self.update_id}",'
        if self.version > 1:
            head = f'{{"op":"update","update_id":"{self.update_id}","order_id":"{self.order_id}",'
        return head.encode() + self.body()[1:]


def orders(prefix: str = "") -> Iterator[Step]:
    """The creates of one order after the other, without end; new ones at each call without a `prefix`."""
    prefix, time = prefix or token_hex(6), format_time(now())
    for number in count():
        yield Step(f"{prefix}-{number}", f"merchant-{number % MERCHANTS}", 1, time)


def lifecycles(prefix: str = "") -> Iterator[Step]:
    """The operations of one order, then those of the next, without end."""
    for order in orders(prefix):
        for version in range(1, len(STATUSES) + 1):
            yield replace(order, version=version)


class Conveyor:
    """Batches in which no order comes twice: one in `of` creates, the rest moves open orders one step on.

    An order lives for five batches or more, as the updates of real orders lie hours apart; a batch that
    took orders from create to delivery would spare the database four of five writes of `orders`.
    """

    def __init__(self, of: int = 5) -> None:
        self.orders = orders()
        self.open: deque[Step] = deque()
        self._of = of

    def next_batch(self, size: int) -> list[Step]:
        """The next `size` operations; the first batches are mostly creates."""
        moves = min(len(self.open), size * (self._of - 1) // self._of)
        moved = [self.open.popleft() for _ in range(moves)]
        batch = [replace(step, version=step.version + 1) for step in moved]
        batch += islice(self.orders, size - moves)
        self.open.extend(step for step in batch if step.version < len(STATUSES))
        return batch
