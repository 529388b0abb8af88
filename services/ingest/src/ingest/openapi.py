"""The OpenAPI document of ingest: what it takes and answers, beside what the routes say themselves."""

from typing import Annotated, Any

from fastapi import FastAPI
from pydantic import Field

from ingest import examples
from ingest.bodies import (
    MAX_METADATA_BYTES,
    MAX_METADATA_KEYS,
    MAX_METADATA_LEVELS,
    CreateBody,
    Operation,
    UpdateBody,
)
from ingest.parsing import MAX_BATCH_BYTES, MAX_BODY_BYTES, MAX_OPERATIONS
from ingest.requests import DEFAULT_WAIT_SECONDS, MAX_BATCH_KEY_CHARACTERS, MAX_WAIT_SECONDS
from ingest.shapes import Accepted, Result, Results
from shared import openapi
from shared.identifiers import MAX_IDENTIFIER_CHARACTERS, identifier_pattern
from shared.json_schemas import Document
from shared.messages import OrderView, UpdateOutcome
from shared.openapi import Answer, Content, Description
from shared.openapi_headers import ETAG_HEADERS, header
from shared.workflow import Workflow

NDJSON = "application/x-ndjson"
WRITE = "orders:write"

_TEXT = (
    "Creates orders and reports what happens to them. An answer 200 or 201 means that the change is recorded,"
    " 202 that it is taken and safe, and will be decided."
    "\n\nEvery update has an id, the `Idempotency-Key`. A request that is sent again with the same key has no"
    " second effect and gets the answer of the first, marked with `Idempotent-Replayed`. So whoever got no"
    " answer, or a 503, sends the same again."
    f"\n\nA body has up to {MAX_BODY_BYTES // 1024} KiB, a batch {MAX_BATCH_BYTES // 1024**2} MiB and"
    f" {MAX_OPERATIONS:,} operations. Unknown fields are refused; an optional one that is null counts as not"
    " given. What a token does not reach does not exist"
    " for it. Errors are problem documents (RFC 9457)."
)

_BATCH_KEY = "Idempotency-Key of a batch"


def _key_schema(most: int) -> Document:
    key = identifier_pattern(most)[1:-1]
    return {"type": "string", "pattern": f'^(?:{key}|"{key}")$'}


_HEADERS = {
    **ETAG_HEADERS,
    "Idempotency-Key": header(
        "The id of the update: what is sent again with it takes effect once. Plain, or as an RFC 8941 string."
        " Without it one is made.",
        "pickup-1",
        _key_schema(MAX_IDENTIFIER_CHARACTERS),
    ),
    _BATCH_KEY: header(
        "Of a batch: an operation without an `update_id` of its own gets this key, a colon and its place from"
        f" 0 as its id. So a batch that is sent again as it was has no second effect. At most"
        f" {MAX_BATCH_KEY_CHARACTERS} characters.",
        "batch-7",
        _key_schema(MAX_BATCH_KEY_CHARACTERS),
    )
    | {"name": "Idempotency-Key"},
    "Prefer": header(
        "RFC 7240. `respond-async`: answer 202 as soon as the update is safe. `wait=N`: wait up to N seconds"
        f" for the outcome, {DEFAULT_WAIT_SECONDS:g} without it and at most {MAX_WAIT_SECONDS:g}; then the"
        " answer is 202. Anything else is ignored, parameters too.",
        "respond-async",
    ),
    "Location": header(
        "Of the order, or with 202 of the outcome. Behind `PUBLIC_QUERY_URL`, where that is set.",
        "/v1/orders/acme-1001",
    ),
    "Preference-Applied": header(
        "With 202, if it was asked for.", "respond-async", {"const": "respond-async"}
    ),
    "Idempotent-Replayed": header(
        "The update had been decided before; this is its outcome.", "true", {"const": "true"}
    ),
}

_BODY_PROBLEMS = ("malformed-json", "payload-too-large", "unsupported-media-type", "validation-failed")
_PROBLEMS = (*_BODY_PROBLEMS, "idempotency-key-reused", "broker-unavailable", "database-unavailable")

_DECIDED = (
    "order-exists",
    "order-not-found",
    "invalid-transition",
    "version-conflict",
    "precondition-failed",
    "internal-error",
)
"""Refusals that are kept: a repeat is answered with them again."""

_ACCEPTED = Answer(
    202,
    "It is taken and safe, and will be decided",
    [Content(Accepted, examples.ACCEPTED)],
    always=["Location"],
    sometimes=["Preference-Applied"],
)

_NEXT = {
    "UpdateOrder": {
        "operationId": "update_order",
        "parameters": {"order_id": "$response.body#/order_id"},
        "description": "What happens to the order next.",
    }
}

_OPERATIONS = {
    "/v1/orders": openapi.Operation(
        "create_order",
        [
            Answer(
                201,
                "The order is created, now or before",
                [Content(Result, examples.CREATED)],
                always=["Location"],
                sometimes=["Idempotent-Replayed"],
                links=_NEXT,
            ),
            _ACCEPTED,
        ],
        [*_PROBLEMS, "order-exists"],
        headers=["Idempotency-Key", "Prefer"],
        bodies=[Content(CreateBody, examples.CREATE)],
        scope=WRITE,
    ),
    "/v1/orders/{order_id}/updates": openapi.Operation(
        "update_order",
        [
            Answer(
                200,
                "The change is recorded, now or before",
                [Content(Result, examples.UPDATED)],
                sometimes=["Idempotent-Replayed"],
            ),
            _ACCEPTED,
        ],
        [*_PROBLEMS, "order-not-found", "invalid-transition", "version-conflict", "precondition-failed"],
        headers=["Idempotency-Key", "If-Match", "Prefer"],
        bodies=[Content(UpdateBody, examples.UPDATE)],
        scope=WRITE,
    ),
    "/v1/orders/{order_id}": openapi.Operation(
        "get_order",
        [
            Answer(200, "The order", [Content(OrderView, examples.ORDER)], always=["ETag"]),
            Answer(304, "It is as the caller has it", always=["ETag"]),
        ],
        ["validation-failed", "database-unavailable", "order-not-found", "precondition-failed"],
        headers=["If-Match", "If-None-Match"],
        scope="orders:read",
    ),
    "/v1/updates/{order_id}/{update_id}": openapi.Operation(
        "get_update",
        [
            Answer(
                200,
                "It was applied, or rejected with this problem",
                [Content(UpdateOutcome, examples.OUTCOME)],
            )
        ],
        ["validation-failed", "database-unavailable", "update-not-found"],
        scope="orders:read",
        other_scope=WRITE,
    ),
    "/v1/batch": openapi.Operation(
        "send_batch",
        [
            Answer(
                200,
                "What became of each operation",
                [Content(Results, examples.RESULTS)],
                sometimes=["Preference-Applied"],
            )
        ],
        [*_BODY_PROBLEMS, "broker-unavailable", "database-unavailable"],
        headers=[_BATCH_KEY, "Prefer"],
        bodies=[
            Content(
                Annotated[list[Operation], Field(min_length=1, max_length=MAX_OPERATIONS)],
                examples.OPERATIONS,
            ),
            Content({"type": "string", "description": "One operation a line."}, examples.LINES, NDJSON),
        ],
        scope=WRITE,
    ),
}

_TAGS = {"updates": "Orders, and what happens to them."}


def ingest_document(app: FastAPI, workflow: Workflow) -> Document:
    """The OpenAPI document of ingest, with the statuses of this workflow."""
    decided = dict.fromkeys(_DECIDED, "Idempotent-Replayed")
    document = openapi.openapi_document(
        app, Description(_TEXT, _TAGS, _OPERATIONS, _HEADERS, {}, of_refusals=decided)
    )
    schemas = document["components"]["schemas"]
    for name in ("CreateBody", "UpdateBody", "CreateOperation", "UpdateOperation"):
        properties = schemas[name]["properties"]
        properties["metadata"] = {"anyOf": [{"$ref": "#/components/schemas/Metadata"}, {"type": "null"}]}
        if "status" in properties:
            properties["status"] = {"type": "string", "enum": list(workflow.transitions)}
    schemas["Metadata"] = _metadata_schema()
    return document


def _metadata_schema() -> Document:
    """The bounds of metadata, as far as JSON Schema can say them."""
    value: Document = _SCALAR
    for _ in range(MAX_METADATA_LEVELS - 1):
        inner: dict[str, Any] = {"type": "object", "propertyNames": _KEY, "additionalProperties": value}
        value = {"anyOf": [_SCALAR, {"type": "array", "items": value}, inner]}
    return {
        "type": "object",
        "description": (
            f"At most {MAX_METADATA_BYTES // 1024} KiB, {MAX_METADATA_KEYS} keys and {MAX_METADATA_LEVELS}"
            " levels, all in all. Beyond that, an order forgets the keys that were not sent for longest."
        ),
        "maxProperties": MAX_METADATA_KEYS,
        "propertyNames": _KEY,
        "additionalProperties": value,
    }


_KEY: Document = {"pattern": r"^(?!\$)[^.\x00]*$"}
_SCALAR: Document = {
    "type": ["string", "boolean", "null", "number"],
    "minimum": -(2**63),
    "maximum": 2**63 - 1,
}
