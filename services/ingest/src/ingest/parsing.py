"""From bytes to bodies: one body, or a batch in which a bad operation is refused alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import pydantic_core
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from ingest.bodies import CreateOperation, Operation, UpdateOperation
from shared.http import pointer_errors
from shared.identifiers import is_identifier
from shared.problems import Problem, ProblemError, validation_problem

MAX_BODY_BYTES = 64 * 1024
MAX_BATCH_BYTES = 1024 * 1024
MAX_OPERATIONS = 1000

AnyOperation = CreateOperation | UpdateOperation
B = TypeVar("B", bound=BaseModel)

_OPERATION: TypeAdapter[AnyOperation] = TypeAdapter(Operation)
_OPERATIONS: TypeAdapter[list[AnyOperation]] = TypeAdapter(list[Annotated[Operation, Field()]])


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
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        problem = _problem_of(error)
        raise ProblemError(problem.slug, problem.detail, **problem.members) from None


def parse_batch(body: bytes, *, lines: bool) -> list[AnyOperation | BadOperation]:
    """The operations of a batch, in their order: a JSON array, or one JSON object a line.

    Raises:
        ProblemError: `malformed-json` (the array cannot be read), `validation-failed` (no array, or
            none or more than 1,000 operations).
    """
    operations = _parse_lines(body) if lines else _parse_array(body)
    if not 1 <= len(operations) <= MAX_OPERATIONS:
        message = f"must hold 1 to {MAX_OPERATIONS} operations, not {len(operations)}"
        raise ProblemError(
            "validation-failed", f"The batch {message}.", errors=[{"pointer": "", "message": message}]
        )
    return operations


def _parse_lines(body: bytes) -> list[AnyOperation | BadOperation]:
    return [_parse_operation(line) for line in body.split(b"\n", MAX_OPERATIONS * 2) if line.strip()]


def _parse_array(body: bytes) -> list[AnyOperation | BadOperation]:
    try:
        return list(_OPERATIONS.validate_json(body))  # the usual case: all are good
    except ValidationError:
        return [_parse_operation(pydantic_core.to_json(item)) for item in _items(body)]


def _items(body: bytes) -> Iterator[Any]:
    try:
        items = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ProblemError("malformed-json", f"The body is not valid JSON: {error}.") from None
    if not isinstance(items, list):
        message = "must be an array of operations"
        raise ProblemError(
            "validation-failed", f"The body {message}.", errors=[{"pointer": "", "message": message}]
        )
    yield from items


def _parse_operation(raw: bytes) -> AnyOperation | BadOperation:
    try:
        return _OPERATION.validate_json(raw)
    except ValidationError as error:
        update_id, order_id = _ids_in(raw)
        return BadOperation(update_id, order_id, _problem_of(error, skip_tag=True))


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
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return Problem("malformed-json", f"{first['msg']}.")
    # In a union told apart by `op`, the place of an error begins with the value of `op`.
    skip = 1 if skip_tag and first["loc"] else 0
    return validation_problem(pointer_errors(error, skip))
