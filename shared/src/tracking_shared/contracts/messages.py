"""Messages to clients: their shapes, and the views of stored documents that fill them."""

from typing import Annotated, Any, Literal, NotRequired, cast

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from tracking_shared.contracts.access import SourceType
from tracking_shared.contracts.cursors import MAX_CURSOR_CHARACTERS
from tracking_shared.contracts.documents import (
    CustomerDocument,
    EventDocument,
    EventType,
    Metadata,
    OrderDocument,
    SourceDocument,
    event_type,
)
from tracking_shared.contracts.identifiers import Identifier, Subject
from tracking_shared.contracts.problems import CATALOGUE
from tracking_shared.contracts.references import Reference
from tracking_shared.contracts.timestamps import format_optional_time, format_time
from tracking_shared.contracts.workflow import STATUS_PATTERN, Workflow

EVENTS_MEDIA_TYPE = "application/cloudevents-batch+json"

SEQUENCE_DIGITS = 20
"""Zero-padded, so that sequences compare as text too (CloudEvents sequence extension)."""

TimeText = Annotated[
    str,
    Field(
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$",
        examples=["2026-11-22T08:15:00.123Z"],
        json_schema_extra={"format": "date-time"},
    ),
]
"""RFC 3339 in UTC with milliseconds."""

StatusText = Annotated[str, Field(pattern=STATUS_PATTERN, examples=["picked_up"])]
"""Any status of the workflow, which an installation may replace."""

KindText = Annotated[str, Field(pattern=STATUS_PATTERN, examples=["delivery_attempted"])]
"""Any kind of checkpoint of the workflow."""

DETAILS = ("kind", "message", "reason")
"""The members of an event beside the state of its order, where it has them."""

Version = Annotated[int, Field(ge=1)]

CursorText = Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]+$", max_length=MAX_CURSOR_CHARACTERS)]

DESCRIBED = ConfigDict(use_attribute_docstrings=True)


@with_config(DESCRIBED)
class SourceView(TypedDict):
    """The source of a change."""

    type: SourceType
    id: NotRequired[Subject]
    """The `sub` of the token that reported it. Like `customer` for tokens with `merchants` that are not
    narrowed to `orders`.
    """


@with_config(DESCRIBED)
class OrderView(TypedDict):
    """An order as REST and the snapshots show it."""

    order_id: Identifier
    merchant_id: Identifier
    reference: Reference | None
    """The merchant's own number for the order; `null` if it gave none."""
    customer: NotRequired[CustomerDocument | None]
    """For tokens with `merchants` that are not narrowed to `orders`; `null`: erased."""
    erased_at: NotRequired[TimeText]
    """When the customer was erased; not there: was not."""
    status: StatusText
    version: Version
    """Of this order: 1, 2, 3 … without gaps."""
    active: bool
    """True: something may still happen to it."""
    created_at: TimeText
    updated_at: TimeText
    """When its newest change was recorded."""
    due_at: TimeText | None
    """When it is due; `null`: no such time was given."""
    eta: TimeText | None
    """When it is expected, by the newest estimate."""
    overdue: bool
    """True: it is open and its `due_at` has passed."""
    source: SourceView
    metadata: Metadata
    """Of all its updates together, checkpoints aside; the newest value of a key counts."""
    allowed_next: list[StatusText]
    """The statuses that may follow."""


@with_config(DESCRIBED)
class EventData(TypedDict):
    """One change, and everything that the order has after it."""

    order_id: Identifier
    merchant_id: Identifier
    reference: Reference | None
    """The merchant's own number for the order; `null` if it gave none."""
    version: Version
    """Of the order after this change: 1, 2, 3 … without gaps."""
    status: StatusText
    previous_status: StatusText | None
    """`null` where the order was created. That of a checkpoint is its `status`."""
    active: bool
    """True: something may still happen to the order."""
    allowed_next: list[StatusText]
    """The statuses that may follow."""
    update_id: Identifier
    """The idempotency key of the update that made it."""
    occurred_at: TimeText | None
    """When it happened, by the clock of who reported it."""
    received_at: TimeText
    """When ingest took the update."""
    recorded_at: TimeText
    """When it was decided; within one order this never runs backwards."""
    created_at: TimeText
    """When the order was created."""
    due_at: TimeText | None
    """When the order is due; `null`: no such time was given."""
    eta: TimeText | None
    """When the order is expected, by the newest estimate."""
    overdue: bool
    """True: the order is open and its `due_at` has passed."""
    previous_overdue: bool
    """`overdue` before this change."""
    source: SourceView
    metadata: Metadata
    """Of this update alone."""
    order_metadata: Metadata
    """Of all updates of the order together, checkpoints aside; the newest value of a key counts."""
    kind: NotRequired[KindText]
    """Of a checkpoint."""
    message: NotRequired[str]
    """Of a checkpoint that has one."""
    reason: NotRequired[str]
    """Of a correction."""
    customer: NotRequired[CustomerDocument | None]
    """On the broker always; in the stream for tokens with `merchants` that are not narrowed to `orders`.
    `null`: erased."""
    erased_at: NotRequired[TimeText]
    """When the customer was erased; not there: was not. Events from before the erasure have it, too."""


@with_config(DESCRIBED)
class CloudEvent(TypedDict):
    """A change of an order as a CloudEvent 1.0: the same on the broker, in the stream and in the log."""

    specversion: Literal["1.0"]
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:\-]{0,63}:[1-9]\d*$", examples=["o-1:2"])]
    """Order id and version."""
    source: Literal["/orders"]
    type: EventType
    """`order.overdue`: the `due_at` of an open order has passed; there is one for each `due_at`.
    `order.customer_erased`: a person was erased, and `customer` is `null` from now on; a reader removes what
    it has kept of the customer. More types may follow: a reader that does not know one takes the order from
    it all the same.
    """
    subject: Identifier
    """The order id."""
    time: TimeText
    """`recorded_at` of the data."""
    datacontenttype: Literal["application/json"]
    sequence: Annotated[str, Field(pattern=rf"^\d{{{SEQUENCE_DIGITS}}}$")]
    """The place in its partition of the log: dense, so a hole is a missed event."""
    partition: Annotated[int, Field(ge=0)]
    traceparent: NotRequired[str]
    """W3C trace context of the update, if it had one."""
    data: EventData


@with_config(DESCRIBED)
class FieldError(TypedDict):
    """A fault in one place of a request."""

    pointer: str
    """JSON pointer (RFC 6901)."""
    message: str


@with_config(ConfigDict(use_attribute_docstrings=True, extra="allow"))
class ProblemDetails(TypedDict):
    """A problem document (RFC 9457). Some types have members of their own."""

    type: Annotated[str, Field(json_schema_extra={"enum": [f"/problems/{slug}" for slug in CATALOGUE]})]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    """The HTTP status that goes with the type."""
    detail: str
    instance: str
    """The path of the request, or of the outcome."""
    trace_id: str
    """The trace of the request, as it is in the logs."""
    errors: NotRequired[list[FieldError]]
    """With `validation-failed`."""


@with_config(DESCRIBED)
class UpdateOutcome(TypedDict):
    """The outcome of an update."""

    update_id: Identifier
    order_id: Identifier
    outcome: Literal["applied", "rejected", "held"]
    """`held`: it came too early, and waits for what comes before it. It is decided later."""
    version: Version | None
    """Of the order after it; of a rejected one, that at which it was refused, if there was an order. `null`
    while it is held.
    """
    problem: NotRequired[ProblemDetails]
    """Why it was rejected."""
    recorded_at: TimeText
    """When it was decided, or held."""


def order_view(order: OrderDocument, workflow: Workflow, *, with_customer: bool) -> OrderView:
    """An order as REST and the snapshots show it. `with_customer`: with personal data, for those entitled to
    it (`tracking_shared.contracts.access.sees_customer`).
    """
    view: dict[str, Any] = {
        "order_id": order["_id"],
        "merchant_id": order["merchant_id"],
        "reference": order.get("reference"),
    }
    if with_customer:
        view["customer"] = order["customer"]
    view |= _erased(order)
    view |= {
        "status": order["status"],
        "version": order["version"],
        "active": order["active"],
        "created_at": format_time(order["created_at"]),
        "updated_at": format_time(order["updated_at"]),
        "due_at": format_optional_time(order.get("due_at")),
        "eta": format_optional_time(order.get("eta")),
        "overdue": order.get("overdue", False),
        "source": source_view(order["source"], with_customer=with_customer),
        "metadata": order["metadata"],
        "allowed_next": list(workflow.allowed_next(order["status"])),
    }
    return cast(OrderView, view)  # built in two steps, for the order in which its members are shown


def _erased(document: OrderDocument | EventDocument) -> dict[str, str]:
    return {"erased_at": format_time(document["erased_at"])} if "erased_at" in document else {}


def source_view(source: SourceDocument, *, with_customer: bool) -> SourceView:
    """The source of a change; without personal data only its type."""
    return {"type": source["type"], "id": source["id"]} if with_customer else {"type": source["type"]}


def history_item(event: EventDocument, *, with_customer: bool) -> dict[str, Any]:
    """One line of an order's history, with or without personal data."""
    return {
        "version": event["version"],
        "type": event_type(event),
        "status": event["status"],
        "previous_status": event["previous_status"],
        "update_id": event["update_id"],
        "source": source_view(event["source"], with_customer=with_customer),
        "occurred_at": format_optional_time(event["occurred_at"]),
        "received_at": format_time(event["received_at"]),
        "recorded_at": format_time(event["recorded_at"]),
        "due_at": format_optional_time(event.get("due_at")),
        "eta": format_optional_time(event.get("eta")),
        "overdue": event.get("overdue", False),
        "metadata": event["metadata"],
        **_details(event),
    }


def _details(event: EventDocument) -> dict[str, Any]:
    members: dict[str, Any] = cast(dict[str, Any], event)
    return {name: members[name] for name in DETAILS if name in members}


def cloud_event(event: EventDocument, workflow: Workflow) -> CloudEvent:
    """The event as a CloudEvent 1.0 in JSON: the same document on AMQP, WebSocket and in the log.

    It holds personal data; `without_customer` gives the variant for those not entitled to that.
    """
    document: CloudEvent = {
        "specversion": "1.0",
        "id": f"{event['order_id']}:{event['version']}",
        "source": "/orders",
        "type": event_type(event),
        "subject": event["order_id"],
        "time": format_time(event["recorded_at"]),
        "datacontenttype": "application/json",
        "sequence": str(event["seq"]).zfill(SEQUENCE_DIGITS),
        "partition": event["partition"],
        "data": _event_data(event, workflow),
    }
    if "traceparent" in event:
        document["traceparent"] = event["traceparent"]
    return document


def _event_data(event: EventDocument, workflow: Workflow) -> EventData:
    data: dict[str, Any] = {
        "order_id": event["order_id"],
        "merchant_id": event["merchant_id"],
        "reference": event.get("reference"),
        "version": event["version"],
        "status": event["status"],
        "previous_status": event["previous_status"],
        "active": event["active"],
        "allowed_next": list(workflow.allowed_next(event["status"])),
        "update_id": event["update_id"],
        "occurred_at": format_optional_time(event["occurred_at"]),
        "received_at": format_time(event["received_at"]),
        "recorded_at": format_time(event["recorded_at"]),
        "created_at": format_time(event["created_at"]),
        "due_at": format_optional_time(event.get("due_at")),
        "eta": format_optional_time(event.get("eta")),
        "overdue": event.get("overdue", False),
        "previous_overdue": event.get("previous_overdue", False),
        "source": source_view(event["source"], with_customer=True),
        "metadata": event["metadata"],
        "order_metadata": event["order_metadata"],
        **_details(event),
        "customer": event["customer"],
        **_erased(event),
    }
    return cast(EventData, data)


def without_customer(event: CloudEvent) -> CloudEvent:
    """The CloudEvent without personal data."""
    data = event["data"].copy()
    data.pop("customer", None)
    data["source"] = {"type": data["source"]["type"]}
    return event | {"data": data}
