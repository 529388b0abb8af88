"""JSON bodies of requests, parsed strictly into models."""

from collections.abc import Callable
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from tracking_shared.contracts.problems import Problem, ProblemError, validation_problem
from tracking_shared.contracts.strict_json import (
    InexactNumber,
    NotStrict,
    refuse_ambiguous,
    without_byte_order_mark,
)
from tracking_shared.http.http_limits import media_type_of, read_body
from tracking_shared.http.service_app import pointer_errors

MAX_BODY_BYTES = 64 * 1024

JSON_TYPE = "application/json"

BODY_PROBLEMS = ("malformed-json", "payload-too-large", "unsupported-media-type", "validation-failed")

M = TypeVar("M", bound=BaseModel)
R = TypeVar("R")


async def read_json(request: Request, kind: type[M]) -> M:
    """The body of a request as a `kind`.

    Raises:
        ProblemError: one of `BODY_PROBLEMS`, or `request-timeout`.
    """
    media_type_of(request, JSON_TYPE)
    return parse_body(kind, await read_body(request, MAX_BODY_BYTES))


def parse_body(kind: type[M], body: bytes) -> M:
    """Parses a body as a `kind`.

    Raises:
        ProblemError: `malformed-json` or `validation-failed`.
    """
    parsed = parse_json(kind.model_validate_json, without_byte_order_mark(body))
    if isinstance(parsed, Problem):
        raise ProblemError.of(parsed)
    return parsed


def parse_json(validate: Callable[[bytes], R], raw: bytes, *, skip_tag: bool = False) -> R | Problem:
    """Parses a text strictly, and validates it. `skip_tag`: the location of an error begins with the value of
    the member that decides between the models.
    """
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
        # Before all other errors, which hold for one of two readings only.
        return Problem("malformed-json", f"The body is not valid JSON: {error}.")
    return value


def _inexact(error: InexactNumber) -> Problem:
    # Only the parser knew the place of the number; the message quotes it.
    return validation_problem([{"pointer": "", "message": str(error)}])


def _problem_of(error: ValidationError, *, skip_tag: bool) -> Problem:
    first = error.errors()[0] if error.error_count() == 1 else None
    if first is not None and first["type"] == "json_invalid":
        return Problem("malformed-json", f"{first['msg']}.")
    # Of an unknown tag, the location is empty.
    skip = 1 if skip_tag and (first is None or first["loc"]) else 0
    return validation_problem(pointer_errors(error, skip))
