"""The rule of due times: what a change makes of `due_at`, `eta` and `overdue`. Pure, and without a clock.

An order is overdue once the `order.overdue` of its due time is recorded, and not by a look at a clock: so
what is stored, shown and streamed says the same at every moment. `announced_due_at` is the latest due time
that had its event. Therefore

- an order is overdue while it is active and due at `announced_due_at` or earlier;
- otherwise, while it is active and has a due time, the event is still to come: at once if that has passed;
- a due time never has a second event, also if the order is final and becomes active again, or is given an
  earlier due time and then this one again.
"""

from datetime import datetime
from typing import Any

from tracking_shared.contracts.documents import OrderDocument


def due_fields(
    order: OrderDocument | None,
    *,
    active: bool,
    due_at: datetime | None = None,
    eta: datetime | None = None,
    announced_due_at: datetime | None = None,
) -> dict[str, Any]:
    """The members of an event that say when its order is due and expected, and whether it is overdue.

    `order` is the order before the event (None: there is none yet), and `active` is true if it is active
    after it. The times are new ones; None: as before. A new `due_at` may lie in the past: if it is later than
    those that had their `order.overdue`, the order is not overdue until it has that event, too.
    `announced_due_at` is given by `order.overdue` alone.
    """
    if order is not None:
        due_at = due_at or order.get("due_at")
        eta = eta or order.get("eta")
        announced_due_at = announced_due_at or order.get("announced_due_at")
    overdue = active and due_at is not None and announced_due_at is not None and due_at <= announced_due_at
    fields = {
        "due_at": due_at,
        "eta": eta,
        "announced_due_at": announced_due_at,
        "overdue": overdue,
        "previous_overdue": order is not None and order.get("overdue"),
    }
    return {name: value for name, value in fields.items() if value}
