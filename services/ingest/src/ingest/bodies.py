"""The bodies that callers send: pydantic models with every bound of the contract."""

import math
from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from shared.documents import Metadata
from shared.identifiers import Identifier
from shared.timestamps import MAX_CLOCK_AHEAD, Timestamp, now
from shared.visible_text import CONTROL_FREE_PATTERN, canonical_form, shows_something

MAX_METADATA_BYTES = 4096
MAX_METADATA_KEYS = 32
MAX_METADATA_LEVELS = 4
_MIN_INT, _MAX_INT = -(2**63), 2**63 - 1
"""What the database and most languages hold exactly as an integer."""

MAX_NAME_CHARACTERS = 200
MAX_CONTACT_REF_CHARACTERS = 128


def _visible(text: str) -> str:
    if not shows_something(text):
        raise ValueError("must have a character that can be seen")
    return text


def _short_in_nfc(contact_ref: str) -> str:
    # It is stored in that form, which has a few characters as two.
    if len(canonical_form(contact_ref)) > MAX_CONTACT_REF_CHARACTERS:
        raise ValueError(f"must have at most {MAX_CONTACT_REF_CHARACTERS} characters in NFC")
    return contact_ref


Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_NAME_CHARACTERS, pattern=CONTROL_FREE_PATTERN),
    AfterValidator(_visible),
]
ContactRef = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_CONTACT_REF_CHARACTERS, pattern=CONTROL_FREE_PATTERN),
    AfterValidator(_visible),
    AfterValidator(_short_in_nfc),
]
StatusName = Annotated[str, StringConstraints(min_length=1, max_length=32)]


def _not_ahead(time: datetime) -> datetime:
    if time > now() + MAX_CLOCK_AHEAD:
        raise ValueError("must not be more than 5 minutes in the future")
    return time


def _within_bounds(metadata: Metadata) -> Metadata:
    if _count_keys(metadata, 1) > MAX_METADATA_KEYS:
        raise ValueError(f"must have at most {MAX_METADATA_KEYS} keys")
    if len(orjson.dumps(metadata)) > MAX_METADATA_BYTES:
        raise ValueError(f"must have at most {MAX_METADATA_BYTES} bytes")
    return metadata


def _count_keys(value: Any, level: int) -> int:
    """The keys in `value` and below; raises ValueError for what the database could not hold."""
    if isinstance(value, int | float | str) or value is None:
        _check_scalar(value)
        return 0
    if level > MAX_METADATA_LEVELS:
        raise ValueError(f"must be nested at most {MAX_METADATA_LEVELS} levels deep")
    if isinstance(value, list):
        return sum(_count_keys(item, level + 1) for item in value)
    for key in value:
        if key.startswith("$") or "." in key or "\0" in key:
            raise ValueError("a key must not start with $ nor hold a dot or NUL")
    return len(value) + sum(_count_keys(item, level + 1) for item in value.values())


def _check_scalar(value: object) -> None:
    if isinstance(value, int) and not _MIN_INT <= value <= _MAX_INT:
        raise ValueError("an integer must fit 64 bits")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number must be finite")


def _given(metadata: object) -> object:
    # As with every optional field: null counts as not given.
    return {} if metadata is None else metadata


def _whole(value: object) -> object:
    # JSON has one kind of number: 2.0 is an integer there, and some libraries write it so.
    return int(value) if isinstance(value, float) and value.is_integer() else value


BoundedMetadata = Annotated[dict[str, Any], BeforeValidator(_given), AfterValidator(_within_bounds)]
OccurredAt = Annotated[Timestamp, AfterValidator(_not_ahead)]
Version = Annotated[int, Field(ge=1, le=_MAX_INT), BeforeValidator(_whole)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    metadata: BoundedMetadata = Field(default_factory=dict)
    occurred_at: OccurredAt | None = None


class CustomerBody(BaseModel):
    """Whose order it is."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Name
    contact_ref: ContactRef


class CreateBody(_Body):
    """A new order. Without `order_id` one is derived from the caller and the idempotency key."""

    order_id: Identifier | None = None
    merchant_id: Identifier
    customer: CustomerBody


class UpdateBody(_Body):
    """A change of status. With `expected_version` it happens only at exactly that version."""

    status: StatusName
    expected_version: Version | None = None


class CreateOperation(CreateBody):
    """A create in a batch."""

    op: Literal["create"]
    update_id: Identifier | None = None


class UpdateOperation(UpdateBody):
    """An update in a batch."""

    op: Literal["update"]
    order_id: Identifier
    update_id: Identifier | None = None


Operation = Annotated[CreateOperation | UpdateOperation, Field(discriminator="op")]
