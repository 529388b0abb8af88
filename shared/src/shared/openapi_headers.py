"""Headers in an OpenAPI document: how one is written, and those that answers of every service have."""

from typing import Any

from shared.challenges import invalid_token
from shared.json_schemas import Document
from shared.problems import RETRY_AFTER_SECONDS

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
"""The trace of all examples."""

_TEXT: Document = {"type": "string"}


def header(description: str, example: Any, schema: Document = _TEXT, *, required: bool = False) -> Document:
    """A header of a request or an answer, with a value it may have."""
    made: Document = {"description": description, "schema": schema, "example": example}
    return made | {"required": True} if required else made


SHARED_HEADERS: dict[str, Document] = {
    "Trace-Id": header(
        "The trace of the request, as it is in the logs.",
        TRACE_ID,
        {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    ),
    "WWW-Authenticate": header(
        "What to authenticate with; where a token was refused, why (RFC 6750, section 3).",
        invalid_token("exp: the token has expired.").headers()["WWW-Authenticate"],
        required=True,
    ),
    "Retry-After": header(
        "Seconds to wait before the request is repeated.",
        RETRY_AFTER_SECONDS,
        {"type": "integer", "minimum": 1},
        required=True,
    ),
    "Allow": header("The methods that the path supports.", "GET", required=True),
    "Accept-Encoding": header(
        "Where it was the coding of the body: what is taken instead.", "identity", {"const": "identity"}
    ),
    "RateLimit-Policy": header(
        "With a token: how much its subject may ask for (the IETF's draft 10).", '"principal";q=10000;w=4'
    ),
    "RateLimit": header(
        "With a token: what is left of it, and in how many seconds all of it is back.",
        '"principal";r=9999;t=1',
    ),
}
"""By name. A service has more of its own."""

_ENTITY_TAG = '"2-9f86d081884c"'

ETAG_HEADERS: dict[str, Document] = {
    "ETag": header(
        "Changes whenever the answer does; send it back in `If-None-Match`.",
        _ENTITY_TAG,
        {"type": "string", "pattern": '^"[^"]+"$'},
    ),
    "If-None-Match": header(
        "Entity tags that the caller has, or `*`. If one is still right, the answer is 304.", _ENTITY_TAG
    ),
    "If-Match": header(
        "The `ETag` of the order as it was read: an update is made only if the order is still at that"
        " version, as with `expected_version`. `*`: if there is the order.",
        '"1-0123456789ab"',
        {"type": "string", "pattern": r'^(?:\*|"\d{1,10}-[0-9a-f]{12}")$'},
    ),
}
"""Of an order by its id, in requests and answers."""
