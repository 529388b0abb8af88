"""What is wrong with a value, in words for its sender instead of those of the validator. Pure."""

from typing import Any

from shared.identifiers import IDENTIFIER_PATTERN, IDENTIFIER_RULE, SUBJECT_PATTERN, SUBJECT_RULE
from shared.visible_text import CONTROL_FREE_PATTERN, CONTROL_FREE_RULE

_OWN_WORDS = "Value error, "
"""What pydantic puts before the message of a rule of ours."""

_RULES = {
    f"String should match pattern '{pattern}'": f"must be {rule}"
    for pattern, rule in (
        (IDENTIFIER_PATTERN, IDENTIFIER_RULE),
        (SUBJECT_PATTERN, SUBJECT_RULE),
        (CONTROL_FREE_PATTERN, CONTROL_FREE_RULE),
    )
}

_OTHER_FORM = "has a form that is not taken here"


def message_of(error: dict[str, Any]) -> str:
    """The message of one of pydantic's errors."""
    message: str = error["msg"]
    if error["type"] == "value_error":
        return message.removeprefix(_OWN_WORDS)
    return _RULES.get(message, _OTHER_FORM) if error["type"] == "string_pattern_mismatch" else message
