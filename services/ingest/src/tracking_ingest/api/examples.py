"""Examples of requests and answers for the OpenAPI document, with the same order in all of them."""

import orjson

from tracking_shared.api_docs.example_order import (
    CREATED_ORDER,
    CUSTOMER,
    OPERATOR,
    PICKED_UP_ORDER,
    Example,
)
from tracking_shared.contracts.problems import EXAMPLE_TRACE_ID

CREATE: Example = {
    **{name: CREATED_ORDER[name] for name in ("order_id", "merchant_id", "reference", "customer")},
    "metadata": {"channel": "web"},
}

UPDATE: Example = {
    "status": "picked_up",
    "occurred_at": "2026-03-02T10:39:58+01:00",
    "metadata": {"van": "B-17"},
    "expected_version": 1,
}

CHECKPOINT: Example = {
    "kind": "delivery_attempted",
    "message": "Nobody at home; the parcel is with us again",
    "eta": "2026-03-03T09:00:00+01:00",
    "occurred_at": "2026-03-02T15:20:00+01:00",
}

CORRECTION: Example = {
    "status": "created",
    "reason": "The label of another parcel was scanned",
}

ORDER: Example = CREATED_ORDER | {"metadata": {"channel": "web"}}

CREATED: Example = {
    "update_id": "order-1001",
    "order_id": "acme-1001",
    "outcome": "applied",
    "version": 1,
    "order": ORDER,
}

UPDATED: Example = {
    "update_id": "pickup-1",
    "order_id": "acme-1001",
    "outcome": "applied",
    "version": 2,
    "order": PICKED_UP_ORDER | {"metadata": {"channel": "web", "van": "B-17"}},
}

_LATER: Example = {"updated_at": "2026-03-02T14:20:02.118Z", "version": 3}

CHECKPOINT_ADDED: Example = UPDATED | {
    "update_id": "attempt-1",
    "version": 3,
    "order": UPDATED["order"] | _LATER | {"eta": "2026-03-03T08:00:00.000Z"},
}

CORRECTED: Example = UPDATED | {
    "update_id": "correction-1",
    "version": 3,
    "order": UPDATED["order"]
    | _LATER
    | {"status": "created", "source": OPERATOR, "allowed_next": CREATED_ORDER["allowed_next"]},
}

ACCEPTED: Example = {"update_id": "pickup-1", "order_id": "acme-1001", "outcome": "accepted"}

OPERATIONS: list[Example] = [
    {"op": "create", "update_id": "order-1002", "order_id": "acme-1002"}
    | {"merchant_id": "acme", "customer": CUSTOMER},
    {"op": "update", "update_id": "pickup-2", "order_id": "acme-1002", "status": "picked_up"},
    {"op": "update", "update_id": "drop-2", "order_id": "acme-1002", "status": "delivered"},
    {
        "op": "update",
        "update_id": "pickup-3",
        "merchant_id": "acme",
        "reference": "#1003",
        "status": "picked_up",
    },
    {"op": "checkpoint", "update_id": "note-2", "order_id": "acme-1002", "kind": "note"}
    | {"message": "The lift is out of order"},
]

LINES = b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in OPERATIONS).decode()

_REFUSED: Example = {
    "type": "/problems/invalid-transition",
    "title": "The order cannot go to this status from where it stands",
    "status": 409,
    "detail": "The order is picked_up; it cannot become delivered.",
    "instance": "/v1/batch",
    "trace_id": EXAMPLE_TRACE_ID,
    "current_status": "picked_up",
    "requested_status": "delivered",
    "allowed_next": ["in_transit", "cancelled"],
    "version": 2,
    "update_id": "drop-2",
}

OUTCOME: Example = {
    "update_id": "drop-2",
    "order_id": "acme-1002",
    "outcome": "rejected",
    "version": 2,
    "problem": _REFUSED | {"instance": "/v1/updates/acme-1002/drop-2"},
    "recorded_at": "2026-03-02T09:41:03.008Z",
}

RESULTS: Example = {
    "results": [
        {"index": 0, "update_id": "order-1002", "order_id": "acme-1002", "outcome": "applied", "version": 1},
        {"index": 1, "update_id": "pickup-2", "order_id": "acme-1002", "outcome": "applied", "version": 2},
        {"index": 2, "update_id": "drop-2", "order_id": "acme-1002", "outcome": "rejected"}
        | {"problem": _REFUSED},
        {"index": 3, "update_id": "pickup-3", "order_id": "r-7tlsdnalfmlzjhtp3d7fskas3q"}
        | {"outcome": "applied", "version": 2},
        {"index": 4, "update_id": "note-2", "order_id": "acme-1002", "outcome": "applied", "version": 3},
    ]
}
