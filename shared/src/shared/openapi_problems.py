"""The problems of the catalogue in an OpenAPI document: what each one looks like, with an example."""

from collections.abc import Iterable, Sequence
from typing import Any

from shared.identifiers import IDENTIFIER_PATTERN
from shared.json_schemas import Document
from shared.openapi_headers import TRACE_ID
from shared.problems import CATALOGUE, PROBLEM_MEDIA_TYPE, Problem
from shared.workflow import STATUS_PATTERN

_IDENTIFIER = {"type": "string", "pattern": IDENTIFIER_PATTERN}
_STATUS = {"type": "string", "pattern": STATUS_PATTERN}
_VERSION = {"type": "integer", "minimum": 1}
_TEXTS = {"type": "array", "items": {"type": "string"}}
_ERROR = {
    "type": "object",
    "required": ["pointer", "message"],
    "properties": {
        "pointer": {"type": "string", "description": "JSON pointer (RFC 6901)."},
        "message": {"type": "string"},
    },
}

_MEMBERS: dict[str, Document] = {
    "errors": {"type": "array", "minItems": 1, "items": _ERROR},
    "offered": _TEXTS,
    "supported": _TEXTS,
    "limit_bytes": {"type": "integer", "minimum": 1},
    "current_status": _STATUS,
    "requested_status": _STATUS,
    "allowed_next": {"type": "array", "items": _STATUS},
    "version": _VERSION,
    "expected_version": _VERSION,
    "update_id": _IDENTIFIER,
    "order_id": _IDENTIFIER,
}
"""Members that some problems have beside those of all."""

_OWN = {
    "validation-failed": ("errors",),
    "not-acceptable": ("offered",),
    "unsupported-media-type": ("supported",),
    "payload-too-large": ("limit_bytes",),
    "invalid-transition": ("current_status", "requested_status", "allowed_next", "version"),
    "version-conflict": ("version", "expected_version"),
}
"""Slug → the members that such a problem always has."""

_POSSIBLE = {
    "order-exists": ("current_status", "version"),
    "precondition-failed": ("version", "expected_version"),
}
"""Slug → the members that it has for some callers."""

_OF_UPDATES = ("update_id", "order_id")
"""Whatever refuses an update names it, as soon as it is known."""

_EXAMPLES: dict[str, tuple[str, dict[str, Any]]] = {
    "malformed-json": ("Invalid JSON: EOF while parsing an object at line 1 column 1.", {}),
    "invalid-cursor": ("The cursor does not belong to a list with this filter and sort.", {}),
    "unauthenticated": ("exp: the token has expired.", {}),
    "forbidden": ("The token does not have the scope that this needs.", {}),
    "order-not-found": ("There is no order acme-1001.", {}),
    "update-not-found": ("It is not known, or not decided yet.", {}),
    "not-found": ("There is nothing at /v1/nothing.", {}),
    "method-not-allowed": ("DELETE is not supported here; see Allow.", {}),
    "not-acceptable": ("There is application/json, text/csv.", {"offered": ["application/json", "text/csv"]}),
    "order-exists": (
        "The order acme-1001 exists already and is picked_up.",
        {"current_status": "picked_up", "version": 2, "update_id": "order-1001"},
    ),
    "invalid-transition": (
        "The order is picked_up; it cannot become delivered.",
        {
            "current_status": "picked_up",
            "requested_status": "delivered",
            "allowed_next": ["in_transit", "cancelled"],
            "version": 2,
            "update_id": "drop-1",
        },
    ),
    "version-conflict": (
        "The order is at version 3, not 2.",
        {"version": 3, "expected_version": 2, "update_id": "drop-1"},
    ),
    "precondition-failed": (
        "The order is at version 3, not 2.",
        {"version": 3, "expected_version": 2, "update_id": "drop-1"},
    ),
    "cursor-expired": ("The cursor belongs to a log that was replaced; read from the beginning.", {}),
    "payload-too-large": ("The body may have 65536 bytes.", {"limit_bytes": 65536}),
    "unsupported-media-type": ("Send application/json.", {"supported": ["application/json"]}),
    "validation-failed": (
        "The request breaks a rule; see errors.",
        {"errors": [{"pointer": "/status", "message": "Field required"}]},
    ),
    "idempotency-key-reused": (
        "The update id pickup-1 was used for another request on this order.",
        {"update_id": "pickup-1"},
    ),
    "too-many-requests": ("One principal may have 2 reports at once; repeat it when one has ended.", {}),
    "upgrade-required": ("Open a WebSocket here: HTTP/1.1, and version 13 of the protocol.", {}),
    "malformed-request": ("Invalid HTTP request received.", {}),
    "request-timeout": ("The body did not arrive in time.", {}),
    "headers-too-large": ("The head may have 32768 bytes.", {}),
    "keys-unavailable": ("The keys to verify tokens with are not known yet.", {}),
    "overloaded": ("Repeat the request a little later.", {}),
    "internal-error": ("The fault is logged under the trace id.", {}),
    "broker-unavailable": (
        "The update may or may not have been taken. Repeat it with the same id; that is safe.",
        {"update_id": "pickup-1", "order_id": "acme-1001"},
    ),
    "database-unavailable": ("Repeat the request a little later.", {}),
}
"""Slug → a detail, and the members of its own."""

_BEFORE_US = frozenset({"malformed-request", "request-timeout", "headers-too-large", "overloaded"})
"""What the HTTP server may say by itself, before there is a request with a path."""


def problem_schemas(slugs: Iterable[str]) -> dict[str, Document]:
    """The schemas of these problems, by slug."""
    return {slug: _schema(slug) for slug in sorted(set(slugs))}


def _schema(slug: str) -> Document:
    status, title = CATALOGUE[slug]
    own = _OWN.get(slug, ())
    members = dict.fromkeys((*own, *_POSSIBLE.get(slug, ()), *_OF_UPDATES))
    of_request = ("trace_id",) if slug in _BEFORE_US else ("instance", "trace_id")
    return {
        "type": "object",
        "title": title,
        "required": ["type", "title", "status", "detail", *of_request, *own],
        "properties": {
            "type": {"const": f"/problems/{slug}"},
            "title": {"const": title},
            "status": {"const": status},
            "detail": {"type": "string"},
            "instance": {"type": "string", "description": "The path of the request."},
            "trace_id": {"type": "string", "description": "What the log has it under."},
            **{name: _MEMBERS[name] for name in members},
        },
    }


def by_status(slugs: Iterable[str]) -> dict[int, tuple[str, ...]]:
    """The slugs of each status, both in the order of the catalogue."""
    asked = frozenset(slugs)
    found: dict[int, tuple[str, ...]] = {}
    for slug, (status, _) in CATALOGUE.items():
        if slug in asked:
            found[status] = (*found.get(status, ()), slug)
    return found


def response_name(slugs: Sequence[str]) -> str:
    """Under which the response with one of these problems stands."""
    return ".".join(slugs)


def problem_response_of(slugs: Sequence[str], headers: Iterable[str] = ()) -> Document:
    """The response with one of these problems, which have one status. `headers`: names of more that it may
    have.
    """
    refs = [{"$ref": f"#/components/schemas/{slug}"} for slug in slugs]
    return {
        "description": "; ".join(f"`{slug}`: {CATALOGUE[slug][1]}" for slug in slugs),
        "headers": {
            name: {"$ref": f"#/components/headers/{name}"} for name in (*problem_headers(slugs[0]), *headers)
        },
        "content": {
            PROBLEM_MEDIA_TYPE: {
                "schema": refs[0] if len(refs) == 1 else {"oneOf": refs},
                "examples": {slug: {"$ref": f"#/components/examples/{slug}"} for slug in slugs},
            }
        },
    }


def problem_example(slug: str, path: str = "/v1/orders/acme-1001") -> Document:
    """A problem document as a request for `path` could have got it."""
    detail, members = _EXAMPLES.get(slug, (CATALOGUE[slug][1], {}))
    return Problem(slug, detail, members).document(path, TRACE_ID)


def problem_headers(slug: str) -> list[str]:
    """The headers that an answer with this problem may have."""
    problem = Problem(slug, "")
    own = {403: ["WWW-Authenticate"], 405: ["Allow"], 415: ["Accept-Encoding"]}
    return ["Trace-Id", "RateLimit-Policy", "RateLimit", *problem.headers(), *own.get(problem.status, [])]
