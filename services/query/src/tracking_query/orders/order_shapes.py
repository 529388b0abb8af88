"""Shapes of the answers about orders, beside those of `tracking_shared.contracts.messages`, and an example of
each: the same order in all of them. They describe, and are not run on the way of an answer; the integration
tests check the real answers against them.
"""

from typing import Annotated, NotRequired

import orjson
from pydantic import Field, with_config
from typing_extensions import TypedDict

from tracking_query.api.query_openapi import LIST_CURSOR
from tracking_query.orders.tables import column_names, csv_lines
from tracking_shared.api_docs.example_order import (
    ATTEMPTED_CHANGE,
    CREATED_CHANGE,
    DRIVER,
    PICKED_UP_CHANGE,
    PICKED_UP_ORDER,
    Example,
)
from tracking_shared.contracts.documents import EventType, Metadata
from tracking_shared.contracts.identifiers import Identifier
from tracking_shared.contracts.messages import (
    DESCRIBED,
    KindText,
    OrderView,
    SourceView,
    StatusText,
    TimeText,
    UpdateOutcome,
    Version,
)
from tracking_shared.contracts.problems import EXAMPLE_TRACE_ID


@with_config(DESCRIBED)
class ReadOrder(OrderView):
    """An order by its id."""

    archived: NotRequired[bool]
    """True: it is archived, and takes no updates. Not there: it is not."""


@with_config(DESCRIBED)
class SearchNote(TypedDict):
    """The extent of a search."""

    complete: bool
    """True: no more orders match than those that were looked at, the newest 2,000."""
    behind: Annotated[int, Field(ge=0)]
    """Newest changes that the search does not know yet."""


@with_config(DESCRIBED)
class OrderPage(TypedDict):
    """A page of the list of orders."""

    items: list[OrderView]
    next_cursor: str | None
    """The `cursor` of the next page; `null` on the last one."""
    as_of: NotRequired[TimeText]
    """With `created_*` or `updated_*`: nothing recorded before can still appear. The same on all pages."""
    search: NotRequired[SearchNote]
    """With `q`."""


@with_config(DESCRIBED)
class HistoryItem(TypedDict):
    """One change of an order."""

    version: Version
    type: EventType
    """That of its event."""
    status: StatusText
    previous_status: StatusText | None
    """`null` where the order was created. That of a checkpoint is its `status`."""
    update_id: Identifier
    """The idempotency key of the update that made it."""
    source: SourceView
    occurred_at: TimeText | None
    """When it happened, by the clock of who reported it."""
    received_at: TimeText
    """When ingest took the update."""
    recorded_at: TimeText
    """When it was decided."""
    due_at: TimeText | None
    """When the order was due after it; `null`: no such time was given."""
    eta: TimeText | None
    """When the order was expected after it."""
    overdue: bool
    """True: the order was open after it, and its `due_at` had passed."""
    metadata: Metadata
    """Of this update alone."""
    kind: NotRequired[KindText]
    """Of a checkpoint."""
    message: NotRequired[str]
    """Of a checkpoint that has one."""
    reason: NotRequired[str]
    """Of a correction."""


@with_config(DESCRIBED)
class History(TypedDict):
    """The changes of an order, oldest first."""

    order_id: Identifier
    items: list[HistoryItem]
    archived: NotRequired[bool]
    """True: the order is archived. Not there: it is not."""
    next_cursor: NotRequired[str]
    """The `cursor` of the next page; not there on the last one."""


@with_config(DESCRIBED)
class OrderUpdate(UpdateOutcome):
    """The outcome of one of the updates of an order."""

    requested_status: str
    """The status that was asked for; empty: to create the order, or to add a checkpoint."""
    kind: NotRequired[KindText]
    """Of the checkpoint that was asked for."""
    source: SourceView
    """The sender of the update."""


@with_config(DESCRIBED)
class OrderUpdates(TypedDict):
    """The outcomes of an order's updates, newest first."""

    order_id: Identifier
    items: list[OrderUpdate]
    more: bool
    """True: there are older ones."""


ORDER = PICKED_UP_ORDER

PAGE: Example = {"items": [ORDER], "next_cursor": LIST_CURSOR}

NDJSON = orjson.dumps(ORDER, option=orjson.OPT_APPEND_NEWLINE).decode()

CSV = csv_lines(
    [
        column_names(with_customer=True),
        [
            ORDER["order_id"],
            ORDER["merchant_id"],
            ORDER["reference"],
            *ORDER["customer"].values(),
            ORDER["status"],
            ORDER["version"],
            ORDER["active"],
            ORDER["created_at"],
            ORDER["updated_at"],
            ORDER["due_at"],
            ORDER["eta"],
            ORDER["overdue"],
            *ORDER["source"].values(),
            orjson.dumps(ORDER["metadata"]).decode(),
        ],
    ]
).decode()

HISTORY: Example = {"order_id": "acme-1001", "items": [CREATED_CHANGE, PICKED_UP_CHANGE, ATTEMPTED_CHANGE]}

_REFUSAL: Example = {
    "type": "/problems/invalid-transition",
    "title": "The order cannot go to this status from where it stands",
    "status": 409,
    "detail": "The order is picked_up; it cannot become delivered.",
    "instance": "/v1/updates/acme-1001/drop-1",
    "trace_id": EXAMPLE_TRACE_ID,
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
    "items": [OUTCOME | {"requested_status": "delivered", "source": DRIVER}],
    "more": False,
}
