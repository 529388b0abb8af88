"""The messages of the stream: those of clients, checked, and those of the server, encoded."""

from typing import Annotated, Literal

import orjson
import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StringConstraints, TypeAdapter, ValidationError
from websockets.frames import Frame, Opcode

from notifier.filters import Filter
from shared.http import pointer_errors
from shared.identifiers import Identifier
from shared.problems import Problem, validation_problem
from shared.strict_json import refuse_ambiguous, without_byte_order_mark
from shared.tokens import MAX_TOKEN_BYTES

STREAM_PATH = "/v1/stream"
SUBPROTOCOL = "tracking.v1"
BEARER_PREFIX = "bearer."

MAX_CLIENT_MESSAGE_BYTES = 64 * 1024
"""A token, a cursor and a filter of a thousand short names fit."""

MAX_FILTER_VALUES = 500

MAX_MESSAGE_BYTES = 256 * 1024
"""Of a message to a client, give or take one event: below the default bound of every client library."""

BAD_MESSAGE = 4400
NOT_AUTHENTICATED = 4401
FORBIDDEN = 4403
NO_SUBSCRIBE = 4408
TOO_BIG = 4413
TOO_MANY = 4429
RESTARTING = 1012
OVERLOADED = 1013


class Refusal(Exception):
    """Ends the connection with a close code, after a problem document if there is one."""

    def __init__(self, code: int, reason: str, problem: Problem | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.problem = problem


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


Status = Annotated[str, StringConstraints(max_length=32)]
_Names = Annotated[list[Identifier], Field(min_length=1, max_length=MAX_FILTER_VALUES)]


class FilterRequest(_Message):
    """Which orders a client wants; several values of one field mean any of them."""

    merchant_id: _Names | None = None
    order_id: _Names | None = None
    status: Annotated[list[Status], Field(min_length=1, max_length=64)] | None = None
    """Orders while they are in any of these statuses of the workflow."""
    active: StrictBool | None = None
    """Orders to which something may still happen, or the others. `true` by default if neither `status`
    nor `order_id` is there.
    """


class Subscribe(_Message):
    """Asks for the orders of a filter: a snapshot, or what was missed since a cursor; then the tail."""

    type: Literal["subscribe"]
    token: Annotated[str, Field(max_length=MAX_TOKEN_BYTES)] | None = None
    """A JWT with the scope `orders:read`; not needed if the handshake brought one."""
    filter: FilterRequest | None = None
    after: str | None = None
    """A cursor: go on from there."""
    snapshot: StrictBool | None = None
    """Whether to begin with a snapshot; without it: if there is no cursor."""
    heartbeat: StrictBool | None = None
    """Whether an `events` message without events is to come from time to time while nothing happens."""

    @property
    def wants_snapshot(self) -> bool:
        """Whether a snapshot was asked for; by default, if there is no cursor to go on from."""
        return self.after is None if self.snapshot is None else self.snapshot


class Refresh(_Message):
    """Hands over a fresh token before the old one expires."""

    type: Literal["refresh"]
    token: Annotated[str, Field(max_length=MAX_TOKEN_BYTES)]


_CLIENT_MESSAGE: TypeAdapter[Subscribe | Refresh] = TypeAdapter(
    Annotated[Subscribe | Refresh, Field(discriminator="type")]
)


def parse_message(data: bytes) -> Subscribe | Refresh:
    """The message of a client.

    Raises:
        Refusal: it is none.
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
        # The first part of a location names the member of the union, which callers do not know of.
        raise Refusal(BAD_MESSAGE, "not valid", validation_problem(pointer_errors(error, skip=1))) from None


def filter_of(asked: FilterRequest | None, statuses: frozenset[str]) -> Filter:
    """The filter that a client asked for; without status, order or active it means active orders.

    Raises:
        Refusal: it names a status that is none of `statuses`.
    """
    request = asked or FilterRequest()
    unknown = [status for status in request.status or () if status not in statuses]
    if unknown:
        errors = [{"pointer": "/filter/status", "message": f"must be among {', '.join(sorted(statuses))}"}]
        raise Refusal(BAD_MESSAGE, "not valid", validation_problem(errors))
    unspecific = request.active is None and request.status is None and request.order_id is None
    return Filter(
        merchant_ids=_names(request.merchant_id),
        order_ids=_names(request.order_id),
        statuses=_names(request.status),
        active=True if unspecific else request.active,
    )


def _names(values: list[str] | None) -> frozenset[str] | None:
    return None if values is None else frozenset(values)


def text_frame(payload: bytes) -> bytes:
    """A whole WebSocket frame: the same bytes for every connection that gets the message."""
    return Frame(Opcode.TEXT, payload).serialize(mask=False)


def events_message(events: list[bytes], cursor: str) -> bytes:
    """`events`, each encoded already."""
    return b'{"type":"events","events":[%b],"cursor":"%b"}' % (b",".join(events), cursor.encode())


def snapshot_message(orders: list[bytes], *, more: bool) -> bytes:
    """`snapshot`: one page of orders, each encoded already."""
    return b'{"type":"snapshot","orders":[%b],"more":%b}' % (b",".join(orders), b"true" if more else b"false")


def live_message(cursor: str) -> bytes:
    """`live`: the past is through."""
    return orjson.dumps({"type": "live", "cursor": cursor})


def resync_message(reason: str, cursor: str) -> bytes:
    """`resync`: drop local state, a snapshot follows."""
    return orjson.dumps({"type": "resync", "reason": reason, "cursor": cursor})


def problem_message(problem: Problem, trace_id: str) -> bytes:
    """`problem`: why a message was refused, or why the connection is about to be closed."""
    return orjson.dumps({"type": "problem", "problem": problem.document(STREAM_PATH, trace_id)})
