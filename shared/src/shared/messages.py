"""The public shapes: what an event, an order and a problem look like to everybody outside.

`views` builds them, and the AsyncAPI document is made of them. They describe and are not run on the
way of a message; the integration tests check what is really sent against them.
"""

from typing import Annotated, Literal, NotRequired

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from shared.access import SourceType
from shared.cursors import MAX_CURSOR_CHARACTERS
from shared.documents import CustomerDocument, Metadata
from shared.identifiers import Identifier, Subject
from shared.problems import CATALOGUE
from shared.workflow import STATUS_PATTERN

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

Version = Annotated[int, Field(ge=1)]

CursorText = Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]+$", max_length=MAX_CURSOR_CHARACTERS)]

DESCRIBED = ConfigDict(use_attribute_docstrings=True)


@with_config(DESCRIBED)
class SourceView(TypedDict):
    """Who reported a change."""

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
    customer: NotRequired[CustomerDocument]
    """For tokens with `merchants` that are not narrowed to `orders`."""
    status: StatusText
    version: Version
    """Of this order: 1, 2, 3 … without gaps."""
    active: bool
    """Whether anything may still happen to it."""
    created_at: TimeText
    updated_at: TimeText
    """When its newest change was recorded."""
    source: SourceView
    metadata: Metadata
    """Of all its updates together; the newest value of a key counts."""
    allowed_next: list[StatusText]
    """The statuses that may follow."""


@with_config(DESCRIBED)
class EventData(TypedDict):
    """One change, and everything that the order has after it."""

    order_id: Identifier
    merchant_id: Identifier
    version: Version
    """Of the order after this change: 1, 2, 3 … without gaps."""
    status: StatusText
    previous_status: StatusText | None
    """`null` where the order was created."""
    active: bool
    """Whether anything may still happen to the order."""
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
    source: SourceView
    metadata: Metadata
    """Of this update alone."""
    order_metadata: Metadata
    """Of all updates of the order together; the newest value of a key counts."""
    customer: NotRequired[CustomerDocument]
    """On the broker always; in the stream for tokens with `merchants` that are not narrowed to `orders`."""


@with_config(DESCRIBED)
class CloudEvent(TypedDict):
    """A change of an order as a CloudEvent 1.0: the same on the broker, in the stream and in the log."""

    specversion: Literal["1.0"]
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:\-]{0,63}:[1-9]\d*$", examples=["o-1:2"])]
    """Order id and version."""
    source: Literal["/orders"]
    type: Literal["order.created", "order.status_changed"]
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
    """What is wrong in one place of a request."""

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
    """What the log has the request under that is answered."""
    errors: NotRequired[list[FieldError]]
    """With `validation-failed`."""


@with_config(DESCRIBED)
class UpdateOutcome(TypedDict):
    """What became of an update."""

    update_id: Identifier
    order_id: Identifier
    outcome: Literal["applied", "rejected"]
    version: Version | None
    """Of the order after it; of a rejected one, that at which it was refused, if there was an order."""
    problem: NotRequired[ProblemDetails]
    """Why it was rejected."""
    recorded_at: TimeText
