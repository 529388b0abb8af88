"""Trace context (W3C Trace Context, level 1): read from callers, carried with commands and events."""

import re
import secrets

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


def trace_id_of(traceparent: str | None) -> str:
    """The trace id of a valid `traceparent` header, else a new one."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    if match and set(match[1]) != {"0"}:
        return match[1]
    return secrets.token_hex(16)


def traceparent_of(trace_id: str) -> str:
    """A `traceparent` for work that we do within this trace."""
    return f"00-{trace_id}-{secrets.token_hex(8)}-01"
