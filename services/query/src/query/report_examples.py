"""Examples of the reports, for the OpenAPI document."""

from typing import Any

Example = dict[str, Any]

_RANGE: Example = {
    "from": "2026-03-01T00:00:00.000Z",
    "to": "2026-03-08T00:00:00.000Z",
    "interval": "day",
    "time_zone": "Europe/Berlin",
}
_BUCKET = {"start": "2026-03-01T23:00:00.000Z", "local_start": "2026-03-02T00:00:00+01:00"}
_LEG = {"leg_from": "in_transit", "leg_to": "delivered"}
_AS_OF = "2026-03-08T09:29:59.021Z"
_PERCENTILES = {"p50": 64800.0, "p90": 172800.5, "p99": 345600.0}
_SENDER = {"source_type": "driver", "source_id": "driver-17"}

DURATIONS: Example = _RANGE | {
    "clock": "recorded",
    "as_of": _AS_OF,
    "rows": [_BUCKET | _LEG | {"count": 412, "negative": 0} | _PERCENTILES],
}

STATUS_COUNTS: Example = _RANGE | {
    "clock": "recorded",
    "as_of": _AS_OF,
    "rows": [
        _BUCKET | {"status": "in_transit", "entered": 431, "left": 412},
        _BUCKET | {"status": "delivered", "entered": 412, "left": 0},
    ],
}

OPEN_ORDERS: Example = {
    "at": "2026-03-08T09:30:00.000Z",
    "since": "created",
    "as_of": _AS_OF,
    "rows": [
        {"status": "created", "age_from": 0, "age_to": 3600, "count": 31},
        {"status": "in_transit", "age_from": 2592000, "age_to": None, "count": 2},
    ],
}

CREATED_AND_CLOSED: Example = {
    "from": _RANGE["from"],
    "to": _RANGE["to"],
    "as_of": _AS_OF,
    "rows": [
        {"status": "created", "entered": 431},
        {"status": "delivered", "entered": 412},
        {"status": "cancelled", "entered": 9},
    ],
}

REFUSALS: Example = _RANGE | {
    "as_of": _AS_OF,
    "rows": [_BUCKET | {"reason": "invalid-transition"} | _SENDER | {"count": 7}],
}
