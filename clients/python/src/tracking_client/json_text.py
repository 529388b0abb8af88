"""JSON as the services read and write it. Pure."""

import json
from typing import Any


def encode(document: Any) -> bytes:
    """UTF-8 without spaces.

    Raises:
        ValueError: the document holds a number or a text that JSON cannot carry.
        TypeError: it holds a value of another kind.
    """
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def decode(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
