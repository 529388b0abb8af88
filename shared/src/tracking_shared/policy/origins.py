"""Cross-origin requests (CORS): the allow-list of origins, and the headers of answers to them. Pure."""

import re
from collections.abc import Iterable

Headers = Iterable[tuple[bytes, bytes]]

MAX_ORIGINS = 100

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9.-]+|\[[0-9a-f:]+\])(?::([0-9]{1,5}))?", re.IGNORECASE)
_DEFAULT_PORTS = {"http": "80", "https": "443"}

_NO_PAGES = frozenset({"about", "blob", "data", "file", "filesystem", "ftp", "javascript", "ws", "wss"})
"""Schemes of which browsers make no origin. Others are those of hybrid apps: `capacitor`, `tauri`."""

PREFLIGHT_SECONDS = b"600"
"""A browser need not ask again for so long. Firefox takes up to a day; Chrome at most two hours."""

ALLOWED_METHODS = b"GET, POST, PATCH, DELETE"
ALLOWED_HEADERS = (
    b"Accept, Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, Prefer,"
    b" Traceparent"
)
EXPOSED_HEADERS = (
    b"As-Of, Content-Disposition, ETag, Idempotent-Replayed, Link, Location, Preference-Applied, RateLimit,"
    b" RateLimit-Policy, Retry-After, Trace-Id, WWW-Authenticate"
)
"""Headers that a script may read, beside those that it always may."""


class BadOrigin(ValueError):
    """Not an origin: scheme and host, a port if it is not the usual one, nothing behind it."""


def parse_origins(text: str) -> frozenset[str]:
    """The origins of a comma-separated list, as browsers write them.

    There is no wildcard: whoever may use every origin's name has no need of a list.

    Raises:
        BadOrigin: one of them is none, or there are more than 100.
    """
    origins = frozenset(_parse_origin(part) for part in text.split(",") if part.strip())
    if len(origins) > MAX_ORIGINS:
        raise BadOrigin(f"more than {MAX_ORIGINS} origins")
    return origins


def _parse_origin(text: str) -> str:
    match = _ORIGIN.fullmatch(text.strip())
    scheme, host, port = match.groups() if match else ("", "", None)
    scheme = scheme.lower()
    if not scheme or scheme in _NO_PAGES:
        raise BadOrigin(
            f"{text.strip()[:100]} is no origin like https://desk.example, http://localhost:8080 or"
            " capacitor://localhost"
        )
    if scheme in _DEFAULT_PORTS:  # of another scheme, browsers leave the host as it is
        host = host.lower()
    return f"{scheme}://{host}" if port in (None, _DEFAULT_PORTS.get(scheme)) else f"{scheme}://{host}:{port}"


def is_foreign(origins: frozenset[str], sent: list[str]) -> bool:
    """True if a request with these `Origin` fields comes from a page that is not on the list.

    Without the field it comes from no page: programs do not send it, browsers always do.
    """
    return bool(sent) and (len(sent) > 1 or sent[0] not in origins)


def cross_origin_headers(origins: frozenset[str], origin: str | None) -> list[tuple[bytes, bytes]]:
    """The CORS headers of an answer (Fetch standard): none unless the origin is allowed."""
    if not origins:
        return []
    varies = [(b"vary", b"Origin")]  # also without an origin: a cache must not mix the two answers up
    if origin is None or origin not in origins:
        return varies
    return [
        *varies,
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-expose-headers", EXPOSED_HEADERS),
    ]


def preflight_headers(
    origins: frozenset[str], origin: str | None, asked_method: str | None
) -> list[tuple[bytes, bytes]] | None:
    """The answer to a browser that asks before it sends. None: no such question, or none of our origins."""
    if origin is None or asked_method is None or origin not in origins:
        return None
    return [
        *cross_origin_headers(origins, origin),
        (b"access-control-allow-methods", ALLOWED_METHODS),
        (b"access-control-allow-headers", ALLOWED_HEADERS),
        (b"access-control-max-age", PREFLIGHT_SECONDS),
    ]
