"""The `Prefer` header (RFC 7240): how long a caller waits for the end of what it asks for. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

DEFAULT_WAIT_SECONDS = 3.0
MAX_WAIT_SECONDS = 10.0

_ITEM, _PART = (re.compile(rf'(?:[^{end}"]|"(?:[^"\\]|\\.)*"?)+') for end in ",;")
"""The text between commas, and between semicolons, except those in quoted strings."""


@dataclass(frozen=True, slots=True)
class Preferences:
    """The preferences of the caller for the answer."""

    wait_seconds: float
    respond_async: bool

    def applied(self) -> dict[str, str]:
        """The header that says which of them was applied."""
        return {"Preference-Applied": "respond-async"} if self.respond_async else {}


def preferences_of(headers: Sequence[str], default_seconds: float = DEFAULT_WAIT_SECONDS) -> Preferences:
    """Parses the `Prefer` headers. Unknown preferences are ignored, as the RFC asks.

    With `respond-async` alone there is no wait; with `wait` beside it, up to that long; with neither, up to
    `default_seconds`. Never longer than `MAX_WAIT_SECONDS`.
    """
    asked = _preferred(headers)
    respond_async = asked.get("respond-async") == ""
    wait = asked.get("wait", "")
    if wait.isascii() and wait.isdigit():
        return Preferences(min(float(wait), MAX_WAIT_SECONDS), respond_async)
    return Preferences(0.0 if respond_async else default_seconds, respond_async)


def _preferred(headers: Sequence[str]) -> dict[str, str]:
    """The preferences by name, without their parameters; of two with one name the first counts."""
    found: dict[str, str] = {}
    for item in _ITEM.findall(",".join(headers)):
        head = _PART.match(item)
        name, _, value = (head[0] if head else "").partition("=")
        found.setdefault(name.strip().lower(), value.strip().strip('"'))
    return found
