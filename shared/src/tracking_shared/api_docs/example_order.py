"""The order of the examples in all OpenAPI documents: it is created, and then picked up by a driver."""

from typing import Any

Example = dict[str, Any]

CUSTOMER: Example = {"name": "Ada Example", "contact_ref": "crm:17"}
SHOP: Example = {"type": "system", "id": "acme-shop"}
DRIVER: Example = {"type": "driver", "id": "driver-17"}
OPERATOR: Example = {"type": "operator", "id": "ann"}

CREATED_ORDER: Example = {
    "order_id": "acme-1001",
    "merchant_id": "acme",
    "reference": "WH/OUT/00012",
    "customer": CUSTOMER,
    "status": "created",
    "version": 1,
    "active": True,
    "created_at": "2026-03-02T08:15:00.123Z",
    "updated_at": "2026-03-02T08:15:00.123Z",
    "due_at": "2026-03-04T17:00:00.000Z",
    "eta": None,
    "overdue": False,
    "source": SHOP,
    "metadata": {},
    "allowed_next": ["picked_up", "cancelled"],
}

PICKED_UP_ORDER: Example = CREATED_ORDER | {
    "status": "picked_up",
    "version": 2,
    "updated_at": "2026-03-02T09:40:12.456Z",
    "source": DRIVER,
    "metadata": {"van": "B-17"},
    "allowed_next": ["in_transit", "cancelled"],
}

CREATED_CHANGE: Example = {
    "version": 1,
    "type": "order.created",
    "status": "created",
    "previous_status": None,
    "update_id": "order-1001",
    "source": SHOP,
    "occurred_at": None,
    "received_at": "2026-03-02T08:15:00.119Z",
    "recorded_at": CREATED_ORDER["updated_at"],
    **{name: CREATED_ORDER[name] for name in ("due_at", "eta", "overdue")},
    "metadata": {},
}
"""An item of the history."""

PICKED_UP_CHANGE: Example = {
    "version": 2,
    "type": "order.status_changed",
    "status": "picked_up",
    "previous_status": "created",
    "update_id": "pickup-1",
    "source": DRIVER,
    "occurred_at": "2026-03-02T09:39:58.000Z",
    "received_at": "2026-03-02T09:40:12.451Z",
    "recorded_at": PICKED_UP_ORDER["updated_at"],
    **{name: PICKED_UP_ORDER[name] for name in ("due_at", "eta", "overdue")},
    "metadata": {"van": "B-17"},
}

ATTEMPTED_CHANGE: Example = {
    "version": 3,
    "type": "order.checkpoint_added",
    "status": "picked_up",
    "previous_status": "picked_up",
    "update_id": "attempt-1",
    "source": DRIVER,
    "occurred_at": "2026-03-02T14:20:00.000Z",
    "received_at": "2026-03-02T14:20:02.113Z",
    "recorded_at": "2026-03-02T14:20:02.118Z",
    "due_at": PICKED_UP_ORDER["due_at"],
    "eta": "2026-03-03T08:00:00.000Z",
    "overdue": False,
    "metadata": {},
    "kind": "delivery_attempted",
    "message": "Nobody at home; the parcel is with us again",
}

_OF_ORDER = ("order_id", "merchant_id", "reference", "version", "status")
_OF_CHANGE = ("update_id", "occurred_at", "received_at", "recorded_at")

PICKED_UP_EVENT_DATA: Example = {
    **{name: PICKED_UP_ORDER[name] for name in _OF_ORDER},
    "previous_status": "created",
    **{name: PICKED_UP_ORDER[name] for name in ("active", "allowed_next")},
    **{name: PICKED_UP_CHANGE[name] for name in _OF_CHANGE},
    **{name: PICKED_UP_ORDER[name] for name in ("created_at", "due_at", "eta", "overdue")},
    "previous_overdue": False,
    "source": DRIVER,
    "metadata": PICKED_UP_CHANGE["metadata"],
    "order_metadata": PICKED_UP_ORDER["metadata"],
    "customer": CUSTOMER,
}
