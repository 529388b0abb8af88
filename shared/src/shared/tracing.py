"""Trace context (W3C Trace Context, level 1): read from callers, carried with commands and events."""

import re
import secrets
from itertools import islice

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_NAMED = re.compile(rb'"traceparent":"00-([0-9a-f]{32})-')

MAX_TRACES = 100
"""Told of one message: as many as fit a line of the log."""


def traces_in(body: bytes) -> list[str]:
    """The trace ids of the commands in a message, even if it cannot be decoded; the first `MAX_TRACES`."""
    return [match[1].decode() for match in islice(_NAMED.finditer(body), MAX_TRACES)]


def trace_id_of(traceparent: str | None) -> str:
    """The trace id of a valid `traceparent` header, else a new one."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    if match and set(match[1]) != {"0"}:
        return match[1]
    return secrets.token_hex(16)


def traceparent_of(trace_id: str) -> str:
    """A `traceparent` for work that we do within this trace."""
    return f"00-{trace_id}-{secrets.token_hex(8)}-01"
