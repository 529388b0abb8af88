"""The values that everything which decides a batch shares. No I/O, no clock."""

from dataclasses import dataclass, field

from tracking_order_state.domain.decisions import Decisions, Known
from tracking_order_state.domain.lifecycle import Slot
from tracking_shared.contracts.documents import EventDocument, OrderDocument, UpdateDocument
from tracking_shared.contracts.workflow import Workflow


@dataclass(slots=True)
class BatchState:
    """The decisions on a batch of one partition so far, and what they rest on."""

    decisions: Decisions
    known: Known
    partition: int
    seq: int
    """Of the newest event before the batch."""
    workflow: Workflow
    events: dict[str, EventDocument] = field(init=False)
    """The events that known updates have made, those of this batch included, by update key."""

    def __post_init__(self) -> None:
        self.events = dict(self.known.events)

    def order(self, order_id: str) -> OrderDocument | None:
        """The order, as the decisions so far leave it."""
        return self.decisions.orders.get(order_id) or self.known.orders.get(order_id)

    def refusal(self, key: str) -> UpdateDocument | None:
        """The refusal of an update, by its key."""
        return self.decisions.refusals.get(key) or self.known.refusals.get(key)

    def slot(self) -> Slot:
        """The position and time of the next event."""
        return Slot(self.partition, self.seq + len(self.decisions.events) + 1, self.decisions.time)
