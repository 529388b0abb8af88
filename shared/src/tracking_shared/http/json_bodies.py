"""JSON bodies of requests, parsed strictly into models."""

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

BODY_PROBLEMS = ("malformed-json", "payload-too-large", "unsupported-media-type", "validation-failed")

M = TypeVar("M", bound=BaseModel)


async def read_json(request: Request, kind: type[M]) -> M:
    """The body as a `kind`.

    Raises:
        ProblemError: one of `BODY_PROBLEMS`, or `request-timeout`.
    """
    media_type_of(request, "application/json")
    body = without_byte_order_mark(await read_body(request, MAX_BODY_BYTES))
    value: M | Problem
    try:
        value = kind.model_validate_json(body)
    except ValidationError as error:
        value = _problem_of(error)
        if value.slug == "malformed-json":
            raise ProblemError.of(value) from None
    try:
        refuse_ambiguous(body)
    except InexactNumber as error:
        raise ProblemError.of(validation_problem([{"pointer": "", "message": str(error)}])) from None
    except NotStrict as error:
        # Before all other errors, which hold for one of two readings only.
        raise ProblemError("malformed-json", f"The body is not valid JSON: {error}.") from None
    if isinstance(value, Problem):
        raise ProblemError.of(value)
    return value


def _problem_of(error: ValidationError) -> Problem:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return Problem("malformed-json", f"{first['msg']}.")
    return validation_problem(pointer_errors(error))
