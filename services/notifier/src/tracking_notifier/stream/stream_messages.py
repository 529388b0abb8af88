"""The messages of the stream: parses those of clients, and encodes those of the server."""

from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import orjson
import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StringConstraints, TypeAdapter, ValidationError
from websockets.frames import Frame, Opcode

from tracking_notifier.errors import Refusal
from tracking_notifier.stream.filters import Filter
from tracking_shared.auth.tokens import MAX_TOKEN_BYTES
from tracking_shared.contracts.identifiers import Identifier
from tracking_shared.contracts.problems import Problem, unknown_name, validation_problem
from tracking_shared.contracts.strict_json import refuse_ambiguous, without_byte_order_mark
from tracking_shared.http.service_app import pointer_errors

STREAM_PATH = "/v1/stream"
SUBPROTOCOL = "tracking.v1"
BEARER_PREFIX = "bearer."

MAX_CLIENT_MESSAGE_BYTES = 64 * 1024
"""Room for a token, a cursor and a filter of a thousand short names."""

MAX_FILTER_VALUES = 500

MAX_STREAM_MESSAGE_BYTES = 256 * 1024
"""Of a message to a client, plus at most one event: below the default limit of every client library."""

BAD_MESSAGE = 4400
NOT_AUTHENTICATED = 4401
FORBIDDEN = 4403
NO_SUBSCRIBE = 4408
TOO_BIG = 4413
TOO_MANY = 4429
RESTARTING = 1012
OVERLOADED = 1013

ResyncReason = Literal[
    "epoch-changed", "position-unknown", "position-expired", "entitlement-changed", "too-slow"
]
"""Why a client must discard its orders. `position-expired`: orders were archived, and the log begins later
now."""


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


Status = Annotated[str, StringConstraints(max_length=32)]
_Names = Annotated[list[Identifier], Field(min_length=1, max_length=MAX_FILTER_VALUES)]


class FilterRequest(_Message):
    """The orders that a client subscribes to. Several values of one field mean any of them."""

    merchant_id: _Names | None = None
    order_id: _Names | None = None
    status: Annotated[list[Status], Field(min_length=1, max_length=64)] | None = None
    """Orders while they are in any of these statuses of the workflow."""
    active: StrictBool | None = None
    """`true` for orders whose status may still change, `false` for the others. `true` by default if neither
    `status` nor `order_id` is given.
    """
    overdue: StrictBool | None = None
    """`true` for open orders whose `due_at` has passed, `false` for the others."""


class Subscribe(_Message):
    """Asks for the orders of a filter: first a snapshot or the events since a cursor, then live events."""

    type: Literal["subscribe"]
    token: Annotated[str, Field(max_length=MAX_TOKEN_BYTES)] | None = None
    """A JWT with the scope `orders:read`; not needed if the handshake had one."""
    filter: FilterRequest | None = None
    after: str | None = None
    """A cursor: continue after it."""
    snapshot: StrictBool | None = None
    """`true` to begin with a snapshot. By default, a subscription without a cursor does."""
    heartbeat: StrictBool | None = None
    """`true` to get `events` messages without events from time to time while nothing happens."""

    @property
    def wants_snapshot(self) -> bool:
        """True if the subscription begins with a snapshot; by default, if it has no cursor."""
        return self.after is None if self.snapshot is None else self.snapshot


class Refresh(_Message):
    """Replaces the token before it expires."""

    type: Literal["refresh"]
    token: Annotated[str, Field(max_length=MAX_TOKEN_BYTES)]


_CLIENT_MESSAGE: TypeAdapter[Subscribe | Refresh] = TypeAdapter(
    Annotated[Subscribe | Refresh, Field(discriminator="type")]
)


def parse_client_message(data: bytes) -> Subscribe | Refresh:
    """Parses a message of a client.

    Raises:
        Refusal: it is not valid.
    """
    text = without_byte_order_mark(data)
    try:
        document = pydantic_core.from_json(text, allow_inf_nan=False)
        refuse_ambiguous(text)
    except ValueError as error:
        problem = Problem("malformed-json", f"The message is not valid JSON: {error}.")
        raise Refusal(BAD_MESSAGE, "not JSON", problem) from None
    try:
        return _CLIENT_MESSAGE.validate_python(document)
    except ValidationError as error:
        # The first part of a location names the member of the union, which is unknown to callers.
        raise Refusal(BAD_MESSAGE, "not valid", validation_problem(pointer_errors(error, skip=1))) from None


def filter_of(request: FilterRequest | None, statuses: frozenset[str]) -> Filter:
    """Converts a requested filter. Without status, order and active it accepts active orders.

    Raises:
        Refusal: it names a status that is not in `statuses`.
    """
    request = request or FilterRequest()
    unknown = [status for status in request.status or () if status not in statuses]
    if unknown:
        problem = validation_problem(unknown_name("/filter/status", statuses))
        raise Refusal(BAD_MESSAGE, "not valid", problem)
    unspecific = request.active is None and request.status is None and request.order_id is None
    return Filter(
        merchant_ids=_names(request.merchant_id),
        order_ids=_names(request.order_id),
        statuses=_names(request.status),
        active=True if unspecific else request.active,
        overdue=request.overdue,
    )


def _names(values: list[str] | None) -> frozenset[str] | None:
    return None if values is None else frozenset(values)


class ServerMessage(NamedTuple):
    """A message of the server, encoded, with the members that a transport repeats outside of the JSON."""

    type: str
    body: bytes
    """JSON, in one line."""
    cursor: str | None = None


Framing = Callable[[ServerMessage], bytes]
"""Encodes a message for one kind of connection. The same bytes are sent to every connection of that kind."""


def text_frame(payload: bytes) -> bytes:
    """Encodes a text frame."""
    return Frame(Opcode.TEXT, payload).serialize(mask=False)


def websocket_frame(message: ServerMessage) -> bytes:
    """Encodes a message for WebSockets."""
    return text_frame(message.body)


def events_message(events: list[bytes], cursor: str) -> ServerMessage:
    """Encodes `events` from encoded events."""
    body = b'{"type":"events","events":[%b],"cursor":"%b"}' % (b",".join(events), cursor.encode())
    return ServerMessage("events", body, cursor)


def snapshot_message(orders: list[bytes], *, more: bool) -> ServerMessage:
    """Encodes `snapshot`, one page of encoded orders."""
    body = b'{"type":"snapshot","orders":[%b],"more":%b}' % (b",".join(orders), b"true" if more else b"false")
    return ServerMessage("snapshot", body)


def live_message(cursor: str) -> ServerMessage:
    """Encodes `live`: the client has caught up."""
    return ServerMessage("live", orjson.dumps({"type": "live", "cursor": cursor}), cursor)


def resync_message(reason: ResyncReason, cursor: str) -> ServerMessage:
    """Encodes `resync`: the client must discard its orders; a snapshot follows."""
    body = orjson.dumps({"type": "resync", "reason": reason, "cursor": cursor})
    return ServerMessage("resync", body, cursor)


def problem_message(problem: Problem, trace_id: str) -> ServerMessage:
    """Encodes `problem`: the reason why a message was refused, or why the connection will be closed."""
    document = problem.document(STREAM_PATH, trace_id)
    return ServerMessage("problem", orjson.dumps({"type": "problem", "problem": document}))
