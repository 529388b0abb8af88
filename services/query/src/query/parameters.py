"""Query parameters: strict types, and the refusal of whatever is not one of them."""

import re
from typing import Annotated

from fastapi import Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from shared.identifiers import Identifier
from shared.problems import ProblemError
from shared.timestamps import Timestamp
from shared.workflow import Workflow

MAX_REPEATS = 100
"""How often `merchant_id`, `order_id` or `status` may be given: a URL of that length still travels."""

_REPEATABLE = frozenset({"merchant_id", "order_id", "status"})
_DIGITS = re.compile(r"[0-9]{1,9}")
_LOST_PLUS = re.compile(r"(?<=[0-9]) ([0-9]{2}:[0-9]{2})\Z")


def _flag(value: object) -> object:
    # pydantic would also take yes, on, t, 1 …
    if isinstance(value, str) and value not in ("true", "false"):
        raise ValueError("must be true or false")
    return value


def _whole_number(value: object) -> object:
    # pydantic would also take 1_000, " 5 " and 5.0
    if isinstance(value, str) and not _DIGITS.fullmatch(value):
        raise ValueError("must be a whole number")
    return value


def _plus(value: object) -> object:
    # In a query string a plus stands for a space, and many a caller does not escape that of an offset.
    return _LOST_PLUS.sub(r"+\1", value) if isinstance(value, str) else value


Flag = Annotated[bool, BeforeValidator(_flag)]
WholeNumber = Annotated[int, BeforeValidator(_whole_number)]
Time = Annotated[Timestamp, BeforeValidator(_plus)]
Identifiers = Annotated[list[Identifier], Field(default_factory=list, max_length=MAX_REPEATS)]
Statuses = Annotated[
    list[Annotated[str, Field(max_length=32)]], Field(default_factory=list, max_length=MAX_REPEATS)
]


class Parameters(BaseModel):
    """The query parameters of a route; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


async def refuse_repeated(request: Request) -> None:
    """Refuses a second value of a parameter that has one.

    Raises:
        ProblemError: `validation-failed`.
    """
    seen: set[str] = set()
    for name, _ in request.query_params.multi_items():
        if name in seen and name not in _REPEATABLE:
            raise invalid_parameter(name, "must be given once")
        seen.add(name)


def check_statuses(statuses: list[str], workflow: Workflow) -> None:
    """Refuses statuses that no order can have.

    Raises:
        ProblemError: `validation-failed`.
    """
    if not workflow.statuses.issuperset(statuses):
        raise invalid_parameter("status", f"must be one of {', '.join(sorted(workflow.statuses))}")


def invalid_parameter(name: str, message: str) -> ProblemError:
    """The refusal of one query parameter."""
    errors = [{"pointer": f"/query/{name}", "message": message}]
    return ProblemError("validation-failed", "The request breaks a rule; see errors.", errors=errors)
