"""Commands as they travel to order-state, and the outcomes that come back."""

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from tracking_shared.contracts.access import Grant, SourceType
from tracking_shared.contracts.documents import Metadata, ProblemDocument
from tracking_shared.contracts.formats import (
    COMMANDS,
    NO_HEADERS,
    REPLIES,
    InvalidFormat,
    NewerFormat,
    message_version,
    upcast_items,
)
from tracking_shared.contracts.identifiers import Identifier, Subject
from tracking_shared.contracts.messages import DESCRIBED, OrderView, Version
from tracking_shared.contracts.problems import CATALOGUE
from tracking_shared.contracts.references import Reference
from tracking_shared.contracts.timestamps import Timestamp
from tracking_shared.errors import TrackingError

MAX_COMMANDS_PER_MESSAGE = 500
MAX_COMMANDS_MESSAGE_BYTES = 512 * 1024
"""A message is closed at whichever bound it meets first. One command is at most ~12 KiB."""

COMMANDS_MEDIA_TYPE = "application/vnd.tracking.commands+json"


class Source(BaseModel):
    """The reporter: from the token, never from the body."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: SourceType
    id: Subject


class Customer(BaseModel):
    """Whose order it is."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str
    contact_ref: str


class _Command(BaseModel):
    # Members that only a later release knows are kept, also while the command is held or parked. One that
    # may not be overlooked makes a new format (`tracking_shared.contracts.formats`).
    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    update_id: Identifier
    """With the order id, names the command: a repeat gets the first outcome."""
    order_id: Identifier
    """Also says which partition's queue it is for."""
    source: Source
    grant: Grant
    """The orders that the caller reaches: others do not exist for it."""
    fingerprint: str
    """A digest of what is asked: the same id with another fingerprint is refused."""
    occurred_at: Timestamp | None = None
    """When it happened, by the clock of who reported it."""
    received_at: Timestamp
    """When ingest took it."""
    metadata: Metadata = Field(default_factory=dict)
    traceparent: str | None = None
    """W3C trace context of the request."""


def _is_absent(value: object) -> bool:
    """True: an optional member of a command is left out. An order-state from before decision 24 refuses
    members that it does not know, and a later one forgets them.
    """
    return value is None


class CreateOrder(_Command):
    """Asks for a new order."""

    op: Literal["create"] = "create"
    merchant_id: Identifier
    reference: Annotated[Reference | None, Field(exclude_if=_is_absent)] = None
    """The merchant's own number for the order."""
    customer: Customer | None
    """None: erased while the command waited."""
    erased_at: Annotated[Timestamp | None, Field(exclude_if=_is_absent)] = None
    """When the erasure of the customer was accepted."""
    due_at: Annotated[Timestamp | None, Field(exclude_if=_is_absent)] = None
    """When the order is due."""


class UpdateOrder(_Command):
    """Asks for a transition of an order that exists."""

    op: Literal["update"] = "update"
    status: str
    """The one that the order is to go to."""
    expected_version: int | None = None
    """If set, the command is refused unless the order is at exactly this version."""


class AddCheckpoint(_Command):
    """Asks to record something that happened to an order beside its steps. The status stays."""

    op: Literal["checkpoint"] = "checkpoint"
    kind: str
    """One of the workflow's checkpoints."""
    message: str | None = None
    eta: Timestamp | None = None
    """When it is expected to be delivered, by what is known now."""
    due_at: Timestamp | None = None
    """When it is to be delivered at the latest."""
    expected_version: int | None = None
    """If set, the command is refused unless the order is at exactly this version."""


class CorrectOrder(_Command):
    """Asks to put right the status of an order that was reported wrongly: any status, from any."""

    op: Literal["correct"] = "correct"
    status: str
    """The one that the order is to have."""
    reason: str
    expected_version: int | None = None
    """If set, the command is refused unless the order is at exactly this version."""


AnyCommand = CreateOrder | UpdateOrder | AddCheckpoint | CorrectOrder
"""The commands of callers."""


def requested_status(command: AnyCommand) -> str:
    """The status that a command asks for; empty for a new order, and for a checkpoint."""
    return command.status if isinstance(command, UpdateOrder | CorrectOrder) else ""


class ReleaseOrder(BaseModel):
    """Asks that the parked commands of an order be decided, in their order, until one fails again.

    An operator sends it (`tracking parked`); ingest makes none. order-state sends one for an order of which
    nothing is parked, to have a partition claimed by its active worker.
    """

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    op: Literal["release"] = "release"
    order_id: Identifier
    skip: Identifier | None = None
    """The update id of the first one, to give it up. Of no effect if another one is the first."""


Command = Annotated[AnyCommand | ReleaseOrder, Field(discriminator="op")]

_BATCH: TypeAdapter[list[AnyCommand | ReleaseOrder]] = TypeAdapter(
    Annotated[list[Command], Field(min_length=1, max_length=MAX_COMMANDS_PER_MESSAGE)]
)
_COMMAND: TypeAdapter[AnyCommand] = TypeAdapter(Annotated[AnyCommand, Field(discriminator="op")])


M = TypeVar("M", bound=BaseModel)


def unchecked(kind: type[M], /, **fields: Any) -> M:
    """A model of values that are known to be valid: as `kind.model_construct`, at half of its cost (16 µs for
    an update). A field without a default must be given.
    """
    made = kind.__new__(kind)
    for name, value in (
        ("__dict__", {**_defaults_of(kind), **fields}),
        ("__pydantic_fields_set__", set(fields)),
        ("__pydantic_extra__", {} if kind.model_config.get("extra") == "allow" else None),
        ("__pydantic_private__", None),
    ):
        object.__setattr__(made, name, value)  # it is frozen
    return made


@cache
def _defaults_of(kind: type[BaseModel]) -> dict[str, Any]:
    fields = kind.model_fields.items()
    return {
        name: field.default
        for name, field in fields
        if not field.is_required() and field.default_factory is None
    }


_RECEIVED_AT = re.compile(rb'"received_at":"([0-9T:.\-]{19,32}(?:Z|\+00:00))"')


class UndecodableMessage(TrackingError):
    """The body of a message is not a batch of commands."""


def encode_command(command: AnyCommand | ReleaseOrder) -> bytes:
    """One command as JSON."""
    return command.__pydantic_serializer__.to_json(command)


def decode_command(encoded: str | bytes) -> AnyCommand:
    """One command from its JSON.

    Raises:
        UndecodableMessage: not a valid one.
    """
    try:
        return _COMMAND.validate_json(encoded)
    except ValidationError as error:
        raise UndecodableMessage(_faults(error)) from None


def join_commands(encoded: list[bytes]) -> bytes:
    """The body of one message: a JSON array of commands that are encoded already."""
    return b"[" + b",".join(encoded) + b"]"


def decode_commands(body: bytes, headers: Mapping[str, Any] = NO_HEADERS) -> list[AnyCommand | ReleaseOrder]:
    """The commands of one message.

    Raises:
        UndecodableMessage: not a JSON array of 1 to 500 valid commands, or longer than the bound.
        NewerFormat: a later release has written it.
    """
    if len(body) > MAX_COMMANDS_MESSAGE_BYTES + 64 * 1024:
        raise UndecodableMessage(f"{len(body)} bytes")
    try:
        version = message_version(COMMANDS, headers)
        return _BATCH.validate_json(body if version == COMMANDS.newest else _upcast(body, version))
    except ValidationError as error:
        raise UndecodableMessage(_faults(error)) from None
    except InvalidFormat as error:
        raise UndecodableMessage(str(error)) from None


def _upcast(body: bytes, version: int) -> bytes:
    try:
        return orjson.dumps(upcast_items(COMMANDS, orjson.loads(body), version))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UndecodableMessage(f"{len(body)} bytes: {type(error).__name__}") from None


def received_at_in(body: bytes) -> datetime | None:
    """When ingest took the first command of a message, without decoding it; None where it does not say."""
    match = _RECEIVED_AT.search(body)
    try:
        return datetime.fromisoformat(match[1].decode()) if match else None
    except ValueError:
        return None


def _faults(error: ValidationError) -> str:
    return str(error.errors(include_input=False, include_url=False)[:3])


def fingerprint_of(
    op: str,
    *,
    occurred_at: datetime | None,
    metadata: Metadata,
    body: dict[str, Any],
) -> str:
    """A digest of what a command asks for: the same id with another fingerprint is another request.

    Who asks and when it was received are not part of it, so that a retry through another replica
    or with a renewed token is the same request.
    """
    canonical = orjson.dumps([op, occurred_at, metadata, body], option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(canonical, digest_size=16).hexdigest()


REPLIES_MEDIA_TYPE = "application/vnd.tracking.replies+json"


@with_config(DESCRIBED)
class Outcome(TypedDict):
    """The outcome of one command."""

    update_id: Identifier
    order_id: Identifier
    outcome: Literal["applied", "rejected", "held"]
    """`held`: it came too early, and is decided later."""
    replayed: bool
    """True if it was decided before, and this is the stored outcome."""
    version: Version | None
    """Of the order after an applied command."""
    order: OrderView | None
    """The order after an applied command, as the caller may see it."""
    problem: ProblemDocument | None
    """Why a rejected command was refused."""


_OUTCOME_PARTS = Outcome.__annotations__.keys()


@with_config(DESCRIBED)
class Reply(TypedDict):
    """The outcomes of the commands of one message."""

    message_id: str
    """That of the message with the commands."""
    outcomes: list[Outcome | None]
    """In the order of the commands, releases aside. `null`: not decided, its order waits for an operator."""


class UndecodableReplies(TrackingError):
    """The body of a message is not a batch of replies."""


def decode_replies(body: bytes, headers: Mapping[str, Any] = NO_HEADERS) -> list[Reply]:
    """The replies in one message: a JSON array.

    Raises:
        UndecodableReplies: not an array of replies, or in a newer format. Of an outcome only that it has all
            its parts is looked at: what is in them, order-state has made. One with a problem of a later
            release is None, as if it were not decided yet.
    """
    try:
        version = message_version(REPLIES, headers)
        replies: list[Reply] = upcast_items(REPLIES, orjson.loads(body), version)
    except (ValueError, TypeError, KeyError, AttributeError, InvalidFormat, NewerFormat) as error:
        raise UndecodableReplies(f"{len(body)} bytes: {error}") from None
    if not (isinstance(replies, list) and all(map(_is_reply, replies))):
        raise UndecodableReplies(f"{len(body)} bytes: not a list of replies")
    for reply in replies:
        reply["outcomes"] = [None if _is_of_later_release(one) else one for one in reply["outcomes"]]
    return replies


def _is_reply(reply: object) -> bool:
    if not (isinstance(reply, dict) and isinstance(reply.get("message_id"), str)):
        return False
    outcomes = reply.get("outcomes")
    return isinstance(outcomes, list) and all(map(_is_outcome, outcomes))


def _is_outcome(outcome: object) -> bool:
    if outcome is None:
        return True
    if not (isinstance(outcome, dict) and outcome.keys() >= _OUTCOME_PARTS):
        return False
    problem = outcome["problem"]
    if problem is None:
        return True
    return isinstance(problem, dict) and isinstance(problem.get("slug"), str)


def _is_of_later_release(outcome: Outcome | None) -> bool:
    """True if it was refused for a reason that this release does not know: its caller reads it later."""
    return (
        outcome is not None and outcome["problem"] is not None and outcome["problem"]["slug"] not in CATALOGUE
    )
