"""Commands: what ingest and operators ask of order-state, and how a batch of them travels in one message."""

import hashlib
from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from shared.access import Grant, SourceType
from shared.documents import Metadata
from shared.identifiers import Identifier, Subject
from shared.timestamps import Timestamp

MAX_COMMANDS_PER_MESSAGE = 500
MAX_MESSAGE_BYTES = 512 * 1024
"""A message is closed at whichever bound it meets first. One command is at most ~12 KiB."""

COMMANDS_MEDIA_TYPE = "application/vnd.tracking.commands+json"


class Source(BaseModel):
    """Who reports: from the token, never from the body."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: SourceType
    id: Subject


class Customer(BaseModel):
    """Whose order it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    contact_ref: str


class _Command(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    update_id: Identifier
    """With the order id, names the command: a repeat gets the first outcome."""
    order_id: Identifier
    """Also says which partition's queue it is for."""
    source: Source
    grant: Grant
    """Which orders the caller reaches: what is outside does not exist for it."""
    fingerprint: str
    """A digest of what is asked: the same id with another fingerprint is refused."""
    occurred_at: Timestamp | None = None
    """When it happened, by the clock of who reported it."""
    received_at: Timestamp
    """When ingest took it."""
    metadata: Metadata = Field(default_factory=dict)
    traceparent: str | None = None
    """W3C trace context of the request."""


class CreateOrder(_Command):
    """Asks for a new order."""

    op: Literal["create"] = "create"
    merchant_id: Identifier
    customer: Customer


class UpdateOrder(_Command):
    """Asks for a transition of an order that exists."""

    op: Literal["update"] = "update"
    status: str
    """The one that the order is to go to."""
    expected_version: int | None = None
    """If set, the command is refused unless the order is at exactly this version."""


class ReleaseOrder(BaseModel):
    """Asks that the parked commands of an order be decided, in their order, until one fails again.

    An operator sends it (`tracking parked`); ingest makes none. order-state sends one for an order of which
    nothing is parked, to have a partition claimed by its active worker.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    op: Literal["release"] = "release"
    order_id: Identifier
    skip: Identifier | None = None
    """The update id of the first one, to give it up. Of no effect if another one is the first."""


Command = Annotated[CreateOrder | UpdateOrder | ReleaseOrder, Field(discriminator="op")]

_BATCH: TypeAdapter[list[CreateOrder | UpdateOrder | ReleaseOrder]] = TypeAdapter(
    Annotated[list[Command], Field(min_length=1, max_length=MAX_COMMANDS_PER_MESSAGE)]
)
_COMMAND: TypeAdapter[CreateOrder | UpdateOrder] = TypeAdapter(
    Annotated[CreateOrder | UpdateOrder, Field(discriminator="op")]
)


class UndecodableMessage(Exception):
    """The body of a message is not a batch of commands."""


def encode_command(command: CreateOrder | UpdateOrder | ReleaseOrder) -> bytes:
    """One command as JSON."""
    return command.__pydantic_serializer__.to_json(command)


def decode_command(encoded: str | bytes) -> CreateOrder | UpdateOrder:
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


def decode_commands(body: bytes) -> list[CreateOrder | UpdateOrder | ReleaseOrder]:
    """The commands of one message.

    Raises:
        UndecodableMessage: not a JSON array of 1 to 500 valid commands, or longer than the bound.
    """
    if len(body) > MAX_MESSAGE_BYTES + 64 * 1024:
        raise UndecodableMessage(f"{len(body)} bytes")
    try:
        return _BATCH.validate_json(body)
    except ValidationError as error:
        raise UndecodableMessage(_faults(error)) from None


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
