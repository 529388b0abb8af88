"""Query parameters: strict types, the refusal of unknown ones, and the links and cursors of pages."""

import re
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from tracking_query.api.page_cursors import KeysetPosition, decode_position
from tracking_shared.contracts.cursors import InvalidCursor
from tracking_shared.contracts.identifiers import Identifier
from tracking_shared.contracts.problems import ProblemError, unknown_name
from tracking_shared.contracts.timestamps import Timestamp
from tracking_shared.contracts.workflow import Workflow
from tracking_shared.http.request_parser import path_as_sent

MAX_REPEATS = 100
"""Values of one `merchant_id`, `order_id` or `status`: a URL of that length still travels."""

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
    """The query parameters of a route; unknown ones are refused. A docstring of one is its description."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def check_statuses(statuses: list[str], workflow: Workflow) -> None:
    """Refuses statuses that no order can have.

    Raises:
        ProblemError: `validation-failed`.
    """
    if not workflow.statuses.issuperset(statuses):
        raise _invalid(unknown_name("/query/status", workflow.statuses))


def invalid_parameter(name: str, message: str) -> ProblemError:
    """The refusal of one query parameter."""
    return _invalid([{"pointer": f"/query/{name}", "message": message}])


def _invalid(errors: list[dict[str, str]]) -> ProblemError:
    return ProblemError("validation-failed", "The request breaks a rule; see errors.", errors=errors)


def next_link(request: Request, cursor: str) -> str:
    """The `Link` to the page behind `cursor`: the same request, with it."""
    asked = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    return f'<{path_as_sent(request.scope)}?{urlencode([*asked, ("cursor", cursor)])}>; rel="next"'


def refuse_cursor(of: str) -> ProblemError:
    """The refusal of a cursor that does not belong to what was asked for."""
    return ProblemError("invalid-cursor", f"The cursor does not belong to {of}.")


def position_of(cursor: str | None, binding: bytes, key: bytes, of: str) -> KeysetPosition | None:
    """The position that the page follows; None: it is the first page.

    Raises:
        ProblemError: `invalid-cursor`: the cursor does not belong to `of`.
    """
    if cursor is None:
        return None
    try:
        return decode_position(cursor, binding, key)
    except InvalidCursor:
        raise refuse_cursor(of) from None
