"""The OpenAPI document of query: the parts that belong to no single route."""

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI

from tracking_shared.api_docs.openapi import Description, openapi_document
from tracking_shared.api_docs.schemas import ETAG_HEADERS, Document, header
from tracking_shared.contracts.identifiers import MAX_IDENTIFIER_CHARACTERS, identifier_pattern
from tracking_shared.contracts.workflow import Workflow
from tracking_shared.http.described_routes import READ, Answer, Endpoint, described
from tracking_shared.http.preferences import MAX_WAIT_SECONDS
from tracking_shared.storage.erasures import WAIT_SECONDS

LIST_CURSOR = "3q2-7wAAAAAAAAAAMTc3MjQ0MDUwMDEyMy9hY21lLTEwMDE"
"""An example."""

_TEXT = (
    "Where orders are, what happened to them, which ones, how long they take, and the whole log of changes."
    "\n\nTimes are RFC 3339 in UTC with milliseconds; a time in a request needs an offset. Unknown parameters"
    " are refused, so are second values of parameters that have one. What a token does not reach does not"
    " exist for it. Names and contacts of customers are shown to tokens with `merchants` that are not"
    " narrowed to `orders`. Errors are problem documents (RFC 9457)."
)

_TAGS = {
    "orders": "One order, now or at a time; its history; lists, in pages or as files.",
    "updates": "What became of updates, refusals included.",
    "events": "The log of all changes, readable from any position.",
    "erasures": "The erasure of persons.",
    "webhooks": "Events sent to addresses of callers.",
    "audit": "Who did which administrative thing, when.",
    "reports": "Figures over many orders, as JSON or CSV.",
}


_KEY = identifier_pattern(MAX_IDENTIFIER_CHARACTERS)[1:-1]

_HEADERS = {
    **ETAG_HEADERS,
    "Accept-Encoding": header("With `gzip` preferred, CSV and NDJSON come compressed.", "gzip"),
    "Link": header(
        "The next page (RFC 8288); not there on the last one.",
        f'</v1/orders?limit=1&cursor={LIST_CURSOR}>; rel="next"',
        {"type": "string", "pattern": '^<[^>]+>; rel="next"$'},
    ),
    "Content-Disposition": header(
        "With a file: its name.", 'attachment; filename="orders-20260302T094100Z.csv"'
    ),
    "Content-Encoding": header("With a file, if asked for.", "gzip", {"const": "gzip"}),
    "As-Of": header(
        "Nothing recorded before it can still appear, so the next list by time may begin here. 1970 where"
        " that is not known.",
        "2026-03-02T09:40:58.021Z",
    ),
    "Archived-Until": header(
        "Of a report: orders whose newest change was recorded until then may be archived, and are not"
        " counted. Not there: none was archived that belongs to the range.",
        "2025-01-25T00:00:00.000Z",
    ),
    "Corrections": header(
        "Of a report: the number of corrections in its range. What they took back is not counted.",
        "2",
        {"type": "string", "pattern": r"^\d+$"},
    ),
    "Location": header(
        "Where the outcome can be read, or what was made.", "/v1/erasures/019c1e5c5b7a7c119d0e3f5f6c1b2a90"
    ),
    "Prefer": header(
        "RFC 7240, of an erasure. `respond-async`: answer 202 as soon as it is accepted. `wait=N`: wait up to"
        f" N seconds for its end, {WAIT_SECONDS:g} without it and at most {MAX_WAIT_SECONDS:g}; then the"
        " answer is 202. Anything else is ignored, parameters too.",
        "respond-async",
    ),
    "Preference-Applied": header(
        "With 202, if it was asked for.", "respond-async", {"const": "respond-async"}
    ),
    "Idempotency-Key": header(
        "By it a repeated request finds what the first attempt made. Plain, or in double quotes.",
        "shop-webhook-1",
        {"type": "string", "pattern": f'^(?:{_KEY}|"{_KEY}")$'},
    ),
    "Idempotent-Replayed": header("The request was answered before.", "true", {"const": "true"}),
    "Vary": header("The request headers that the answer depends on.", "Accept"),
}


def described_read(
    *answers: Answer, problems: Sequence[str] = (), scope: str = READ, **members: Any
) -> Callable[[Endpoint], Endpoint]:
    """`described`, with the problems of every read."""
    every = ("validation-failed", "database-unavailable", *problems)
    return described(*answers, problems=every, scope=scope, **members)


def query_document(app: FastAPI, workflow: Workflow) -> Document:
    """The OpenAPI document of query, with the statuses of this workflow."""
    document = openapi_document(app, Description(_TEXT, _TAGS, _HEADERS))
    operations = [one for methods in document["paths"].values() for one in methods.values()]
    for operation in operations:
        for parameter in operation.get("parameters", ()):
            if parameter["name"] == "status":
                parameter["schema"]["items"] = {"type": "string", "enum": list(workflow.transitions)}
    return document
