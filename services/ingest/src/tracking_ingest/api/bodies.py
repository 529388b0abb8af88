"""The bodies of requests: models with every bound of the contract, and their strict parsing. In a batch, a
bad operation is refused alone.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, Self

import orjson
import pydantic_core
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from tracking_shared.contracts.documents import (
    MAX_METADATA_BYTES,
    MAX_METADATA_KEYS,
    MAX_METADATA_LEVELS,
    Metadata,
)
from tracking_shared.contracts.identifiers import Identifier, is_identifier
from tracking_shared.contracts.problems import Problem, ProblemError
from tracking_shared.contracts.references import Reference, order_id_at, referenced_order_id
from tracking_shared.contracts.strict_json import (
    NotStrict,
    refuse_ambiguous,
    split_array,
    without_byte_order_mark,
)
from tracking_shared.contracts.texts import (
    CONTROL_FREE_PATTERN,
    NOTE_PATTERN,
    canonical_form,
    shows_something,
)
from tracking_shared.contracts.timestamps import MAX_CLOCK_AHEAD, Timestamp, now
from tracking_shared.http.json_bodies import parse_json

MAX_BATCH_BYTES = 1024 * 1024
MAX_OPERATIONS = 1000

_MIN_INT, _MAX_INT = -(2**63), 2**63 - 1
"""The integers that the database and most languages hold exactly."""

MAX_NAME_CHARACTERS = 200
MAX_CONTACT_REF_CHARACTERS = 128
MAX_NOTE_CHARACTERS = 500


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
KindName = Annotated[str, StringConstraints(min_length=1, max_length=32)]
Note = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_NOTE_CHARACTERS, pattern=NOTE_PATTERN),
    AfterValidator(_visible),
]


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
    """The number of keys in `value` and below; raises ValueError for values that the database cannot hold."""
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
    """The customer of the order."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Name
    contact_ref: ContactRef


class CreateBody(_Body):
    """A new order. Without `order_id` one is derived: from the merchant and its `reference`, so that these
    two always are the same order; without `reference`, from the caller and the idempotency key.
    """

    order_id: Identifier | None = None
    merchant_id: Identifier
    reference: Reference | None = None
    customer: CustomerBody
    due_at: Timestamp | None = None
    """When it is due: at any time, also in the past."""


class UpdateBody(_Body):
    """A change of status. With `expected_version` it happens only at exactly that version."""

    status: StatusName
    expected_version: Version | None = None


class CheckpointBody(_Body):
    """Something that happened to an order beside its steps. The status stays. `metadata` belongs to the
    checkpoint alone. With `expected_version` it is recorded only at exactly that version.
    """

    kind: KindName
    message: Note | None = None
    eta: Timestamp | None = None
    due_at: Timestamp | None = None
    expected_version: Version | None = None


class CorrectionBody(_Body):
    """Puts the status of an order right. With `expected_version` it happens only at exactly that version."""

    status: StatusName
    reason: Note
    expected_version: Version | None = None


class CreateOperation(CreateBody):
    """A create in a batch."""

    op: Literal["create"]
    update_id: Identifier | None = None


def _given_as(*given: str) -> dict[str, Any]:
    """The JSON Schema of a `NamedOrder` that has these of its fields."""
    names = ("order_id", "merchant_id", "reference")
    types = {name: {"type": "string" if name in given else "null"} for name in names}
    return {"required": list(given), "properties": types}


class NamedOrder(BaseModel):
    """Names an order in a batch: by its id, or by the merchant and reference that its id is derived from."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [_given_as("order_id"), _given_as("merchant_id", "reference")]}
    )

    order_id: Identifier | None = None
    merchant_id: Identifier | None = None
    reference: Reference | None = None

    @model_validator(mode="after")
    def _names_one_order(self) -> Self:
        by_reference = (self.merchant_id is not None, self.reference is not None)
        if by_reference != ((self.order_id is None),) * 2:
            raise ValueError("must have an order_id, or else a merchant_id and a reference")
        return self

    @property
    def named_order_id(self) -> str:
        """The id of the order."""
        if self.merchant_id is None or self.reference is None:
            return self.order_id or ""
        return referenced_order_id(self.merchant_id, self.reference)


class UpdateOperation(NamedOrder, UpdateBody):
    """An update in a batch."""

    op: Literal["update"]
    update_id: Identifier | None = None


class CheckpointOperation(NamedOrder, CheckpointBody):
    """A checkpoint in a batch."""

    op: Literal["checkpoint"]
    update_id: Identifier | None = None


class CorrectOperation(NamedOrder, CorrectionBody):
    """A correction in a batch."""

    op: Literal["correct"]
    update_id: Identifier | None = None


AnyOperation = CreateOperation | UpdateOperation | CheckpointOperation | CorrectOperation

Operation = Annotated[AnyOperation, Field(discriminator="op")]


_OPERATION: TypeAdapter[AnyOperation] = TypeAdapter(Operation)
# All errors of a batch could be a megabyte: the first one is enough here.
_OPERATIONS: TypeAdapter[list[AnyOperation]] = TypeAdapter(
    Annotated[list[Operation], FailFast(), Field(max_length=MAX_OPERATIONS)]
)


@dataclass(frozen=True, slots=True)
class BadOperation:
    """An operation that cannot be parsed, with the ids that could be read."""

    update_id: str | None
    order_id: str | None
    problem: Problem


def parse_batch(body: bytes, *, lines: bool) -> list[AnyOperation | BadOperation]:
    """Parses the operations of a batch: a JSON array, or one JSON object a line.

    Raises:
        ProblemError: `malformed-json` (the array cannot be read), `validation-failed` (no array, or
            none or more than 1,000 operations).
    """
    return _parse_lines(body) if lines else _parse_array(without_byte_order_mark(body))


def _parse_lines(body: bytes) -> list[AnyOperation | BadOperation]:
    # Files that were joined have byte order marks in the middle.
    lines = [line for line in map(without_byte_order_mark, body.split(b"\n")) if line.strip()]
    _check_number(len(lines))
    return [_parse_operation(line) for line in lines]


def _parse_array(body: bytes) -> list[AnyOperation | BadOperation]:
    if operations := _good_operations(body):
        return operations
    _check_array(body)
    return [_parse_operation(item) for item in split_array(body)]


def _good_operations(body: bytes) -> list[AnyOperation | BadOperation]:
    """Parses a batch in which every operation is good, the usual case; returns [] for any other."""
    try:
        operations = _OPERATIONS.validate_json(body)
        refuse_ambiguous(body)
    except (ValidationError, NotStrict):
        return []
    return list(operations)


def _check_number(operations: int) -> None:
    if not 1 <= operations <= MAX_OPERATIONS:
        message = f"must hold 1 to {MAX_OPERATIONS} operations, not {operations}"
        raise ProblemError(
            "validation-failed", f"The batch {message}.", errors=[{"pointer": "", "message": message}]
        )


def _check_array(body: bytes) -> None:
    try:
        items = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ProblemError("malformed-json", f"The body is not valid JSON: {error}.") from None
    if not isinstance(items, list):
        message = "must be an array of operations"
        raise ProblemError(
            "validation-failed", f"The body {message}.", errors=[{"pointer": "", "message": message}]
        )
    _check_number(len(items))


def _parse_operation(raw: bytes) -> AnyOperation | BadOperation:
    parsed = parse_json(_OPERATION.validate_json, raw, skip_tag=True)
    return BadOperation(*_ids_in(raw), parsed) if isinstance(parsed, Problem) else parsed


def _ids_in(raw: bytes) -> tuple[str | None, str | None]:
    try:
        value = pydantic_core.from_json(raw)
    except ValueError:
        return None, None
    if not isinstance(value, dict):
        return None, None
    texts = {name: text for name, text in value.items() if isinstance(text, str)}
    update_id, order_id = (text if is_identifier(text := texts.get(name, "")) else None for name in _IDS)
    if value.get("order_id") is None:
        order_id = order_id_at(texts.get("merchant_id", ""), texts.get("reference", ""))
    return update_id, order_id


_IDS = ("update_id", "order_id")
