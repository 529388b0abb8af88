"""From bytes to bodies: one body, or a batch in which a bad operation is refused alone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

import pydantic_core
from pydantic import BaseModel, FailFast, Field, TypeAdapter, ValidationError

from ingest.bodies import CreateOperation, Operation, UpdateOperation
from shared.http import pointer_errors
from shared.identifiers import is_identifier
from shared.problems import Problem, ProblemError, validation_problem
from shared.strict_json import (
    InexactNumber,
    NotStrict,
    refuse_ambiguous,
    split_array,
    without_byte_order_mark,
)

MAX_BODY_BYTES = 64 * 1024
MAX_BATCH_BYTES = 1024 * 1024
MAX_OPERATIONS = 1000

AnyOperation = CreateOperation | UpdateOperation
B = TypeVar("B", bound=BaseModel)
R = TypeVar("R")

_OPERATION: TypeAdapter[AnyOperation] = TypeAdapter(Operation)
# All that is wrong with a batch would be a megabyte of findings: the first one is enough here.
_OPERATIONS: TypeAdapter[list[AnyOperation]] = TypeAdapter(
    Annotated[list[Operation], FailFast(), Field(max_length=MAX_OPERATIONS)]
)


@dataclass(frozen=True, slots=True)
class BadOperation:
    """An operation that cannot be read, with what could be made out of its ids."""

    update_id: str | None
    order_id: str | None
    problem: Problem


def parse_body(kind: type[B], body: bytes) -> B:
    """The body as a `kind`.

    Raises:
        ProblemError: `malformed-json` or `validation-failed`.
    """
    read = _read(kind.model_validate_json, without_byte_order_mark(body))
    if isinstance(read, Problem):
        raise ProblemError(read.slug, read.detail, **read.members)
    return read


def parse_batch(body: bytes, *, lines: bool) -> list[AnyOperation | BadOperation]:
    """The operations of a batch, in their order: a JSON array, or one JSON object a line.

    Raises:
        ProblemError: `malformed-json` (the array cannot be read), `validation-failed` (no array, or
            none or more than 1,000 operations).
    """
    return _parse_lines(body) if lines else _parse_array(without_byte_order_mark(body))


def _parse_lines(body: bytes) -> list[AnyOperation | BadOperation]:
    # Where files were joined, there are marks in the middle.
    lines = [line for line in map(without_byte_order_mark, body.split(b"\n")) if line.strip()]
    _check_number(len(lines))
    return [_parse_operation(line) for line in lines]


def _parse_array(body: bytes) -> list[AnyOperation | BadOperation]:
    if operations := _good_operations(body):
        return operations
    _check_array(body)
    return [_parse_operation(item) for item in split_array(body)]


def _good_operations(body: bytes) -> list[AnyOperation | BadOperation]:
    """The usual case: all of them are good. Empty in any other."""
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
    read = _read(_OPERATION.validate_json, raw, skip_tag=True)
    return BadOperation(*_ids_in(raw), read) if isinstance(read, Problem) else read


def _read(validate: Callable[[bytes], R], raw: bytes, *, skip_tag: bool = False) -> R | Problem:
    value: R | Problem
    try:
        value = validate(raw)
    except ValidationError as error:
        value = _problem_of(error, skip_tag=skip_tag)
        if value.slug == "malformed-json":
            return value
    try:
        refuse_ambiguous(raw)
    except InexactNumber as error:
        return value if isinstance(value, Problem) else _inexact(error)
    except NotStrict as error:
        # Before all other faults: they are told of one of two readings.
        return Problem("malformed-json", f"The body is not valid JSON: {error}.")
    return value


def _inexact(error: InexactNumber) -> Problem:
    # Where it stands, only its reader knew; the message has the number.
    return validation_problem([{"pointer": "", "message": str(error)}])


def _ids_in(raw: bytes) -> tuple[str | None, str | None]:
    try:
        value = pydantic_core.from_json(raw)
    except ValueError:
        return None, None
    if not isinstance(value, dict):
        return None, None
    found = (value.get("update_id"), value.get("order_id"))
    update_id, order_id = (text if isinstance(text, str) and is_identifier(text) else None for text in found)
    return update_id, order_id


def _problem_of(error: ValidationError, *, skip_tag: bool = False) -> Problem:
    first = error.errors()[0] if error.error_count() == 1 else None
    if first is not None and first["type"] == "json_invalid":
        return Problem("malformed-json", f"{first['msg']}.")
    # In a union told apart by `op`, the place of an error begins with the value of `op`, if that is known.
    skip = 1 if skip_tag and (first is None or first["loc"]) else 0
    return validation_problem(pointer_errors(error, skip))
