"""Documents as lines of JSON, for programs and for those who watch them. Pure."""

import json
from typing import Any

import orjson

from tracking.terminal_text import printable


def json_line(document: Any, encoding: str) -> str:
    """The document in one line, which `encoding` can write, and a terminal can show, without changing it."""
    text = orjson.dumps(document).decode()
    if text.isascii() or (encoding.lower().replace("-", "") == "utf8" and printable(text) == text):
        return text
    return json.dumps(document, separators=(",", ":"))
