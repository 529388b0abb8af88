"""What a service or a model says is wrong, in the words of the file that it came from. Pure."""

import re
from collections.abc import Mapping
from typing import Any

from tracking.load.faults import quoted
from tracking.load.header import Header
from tracking.load.operations import Operation
from tracking.terminal_text import printable

MAX_ERRORS_TOLD = 3

_COLUMNS = {
    "/customer": "customer_name",
    "/customer/name": "customer_name",
    "/customer/contact_ref": "customer_contact_ref",
}
_IDENTIFIER = "must be 1 to 64 of letters, digits and . _ : -, a letter or digit first"
_PATTERNS = {
    "/customer/name": "must not hold control characters",
    "/customer/contact_ref": "must not hold control characters",
}
_LIBRARY_SUBJECT = re.compile(r"^(String|Input|Value|List|Dictionary) should")
_PLAINER = {"Field required": "is missing", "Extra inputs are not permitted": "has no place here"}


def error_line(error: Mapping[str, Any], operation: Operation, header: Header | None) -> str:
    """One broken rule (`pointer` and `message`) with the column and the value that break it."""
    pointer = str(error.get("pointer", ""))
    target = _COLUMNS.get(pointer) or pointer.removeprefix("/")
    column = header.theirs(target) if header else target
    value = _value_at(operation, pointer)
    shown = "" if value is None or isinstance(value, dict) else f" {quoted(str(value))}"
    return f"{printable(column)}{shown}: {plain_message(str(error.get('message', '')), pointer)}".lstrip(": ")


def plain_message(message: str, pointer: str) -> str:
    """The message without a library's manners: no class of an error, no regular expression."""
    if "pattern" in message:
        return _PATTERNS.get(pointer, _IDENTIFIER)
    plain = _PLAINER.get(message, message.removeprefix("Value error, "))
    return printable(_LIBRARY_SUBJECT.sub("must", plain))


def problem_text(problem: Mapping[str, Any], operation: Operation, header: Header | None) -> str:
    """Why an operation was refused: the rules that it breaks, the first few, or else the detail."""
    errors = problem.get("errors") or []
    told = "; ".join(error_line(error, operation, header) for error in errors[:MAX_ERRORS_TOLD])
    return told or printable(str(problem.get("detail") or problem.get("title") or ""))


def _value_at(operation: Operation, pointer: str) -> object:
    value: object = operation
    for part in pointer.split("/")[1:]:
        value = value.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(value, dict) else None
    return value
