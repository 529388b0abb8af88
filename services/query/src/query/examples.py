"""Examples of what query answers, for its OpenAPI document: the same order in all of them."""

from typing import Any

import orjson

from query.csv_text import csv_lines
from query.order_table import column_names
from shared.openapi_headers import TRACE_ID

Example = dict[str, Any]

_TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
_CUSTOMER = {"name": "Ada Example", "contact_ref": "crm:17"}
_DRIVER = {"type": "driver", "id": "driver-17"}

ORDER: Example = {
    "order_id": "acme-1001",
    "merchant_id": "acme",
    "customer": _CUSTOMER,
    "status": "picked_up",
    "version": 2,
    "active": True,
    "created_at": "2026-03-02T08:15:00.123Z",
    "updated_at": "2026-03-02T09:40:12.456Z",
    "source": _DRIVER,
    "metadata": {"van": "B-17"},
    "allowed_next": ["in_transit", "cancelled"],
}

LIST_CURSOR = "3q2-7wAAAAAAAAAAMTc3MjQ0MDUwMDEyMy9hY21lLTEwMDE"
LOG_CURSOR = "eyJlIjoiMDE5ZiIsInMiOlsxNywyMSwxOSwyNF19"

PAGE: Example = {"items": [ORDER], "next_cursor": LIST_CURSOR}

NDJSON = orjson.dumps(ORDER, option=orjson.OPT_APPEND_NEWLINE).decode()

CSV = csv_lines(
    [
        column_names(with_customer=True),
        [
            ORDER["order_id"],
            ORDER["merchant_id"],
            *_CUSTOMER.values(),
            ORDER["status"],
            ORDER["version"],
            ORDER["active"],
            ORDER["created_at"],
            ORDER["updated_at"],
            *_DRIVER.values(),
            orjson.dumps(ORDER["metadata"]).decode(),
        ],
    ]
).decode()

HISTORY: Example = {
    "order_id": "acme-1001",
    "items": [
        {
            "version": 1,
            "status": "created",
            "previous_status": None,
            "update_id": "order-1001",
            "source": {"type": "system", "id": "acme-shop"},
            "occurred_at": None,
            "received_at": "2026-03-02T08:15:00.119Z",
            "recorded_at": "2026-03-02T08:15:00.123Z",
            "metadata": {},
        },
        {
            "version": 2,
            "status": "picked_up",
            "previous_status": "created",
            "update_id": "pickup-1",
            "source": _DRIVER,
            "occurred_at": "2026-03-02T09:39:58.000Z",
            "received_at": "2026-03-02T09:40:12.451Z",
            "recorded_at": "2026-03-02T09:40:12.456Z",
            "metadata": {"van": "B-17"},
        },
    ],
}

_REFUSAL: Example = {
    "type": "/problems/invalid-transition",
    "title": "The order cannot go to this status from where it stands",
    "status": 409,
    "detail": "The order is picked_up; it cannot become delivered.",
    "instance": "/v1/updates/acme-1001/drop-1",
    "trace_id": TRACE_ID,
    "current_status": "picked_up",
    "requested_status": "delivered",
    "allowed_next": ["in_transit", "cancelled"],
    "version": 2,
    "update_id": "drop-1",
}

OUTCOME: Example = {
    "update_id": "drop-1",
    "order_id": "acme-1001",
    "outcome": "rejected",
    "version": 2,
    "problem": _REFUSAL,
    "recorded_at": "2026-03-02T09:41:03.008Z",
}

ORDER_UPDATES: Example = {
    "order_id": "acme-1001",
    "items": [OUTCOME | {"requested_status": "delivered", "source": _DRIVER}],
    "more": False,
}

EVENTS: Example = {
    "events": [
        {
            "specversion": "1.0",
            "id": "acme-1001:2",
            "source": "/orders",
            "type": "order.status_changed",
            "subject": "acme-1001",
            "time": "2026-03-02T09:40:12.456Z",
            "datacontenttype": "application/json",
            "sequence": "00000000000000000017",
            "partition": 0,
            "traceparent": _TRACEPARENT,
            "data": {
                "order_id": "acme-1001",
                "merchant_id": "acme",
                "version": 2,
                "status": "picked_up",
                "previous_status": "created",
                "active": True,
                "allowed_next": ["in_transit", "cancelled"],
                "update_id": "pickup-1",
                "occurred_at": "2026-03-02T09:39:58.000Z",
                "received_at": "2026-03-02T09:40:12.451Z",
                "recorded_at": "2026-03-02T09:40:12.456Z",
                "created_at": "2026-03-02T08:15:00.123Z",
                "source": _DRIVER,
                "metadata": {"van": "B-17"},
                "order_metadata": {"van": "B-17"},
                "customer": _CUSTOMER,
            },
        }
    ],
    "cursor": LOG_CURSOR,
    "has_more": False,
}
