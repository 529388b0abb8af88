"""The OpenAPI document of ingest: the parts that belong to no single route."""

from typing import Any

from fastapi import FastAPI

from tracking_ingest.api.bodies import MAX_BATCH_BYTES, MAX_OPERATIONS
from tracking_ingest.api.requests import MAX_BATCH_KEY_CHARACTERS
from tracking_shared.api_docs.openapi import Description, openapi_document
from tracking_shared.api_docs.schemas import ETAG_HEADERS, Document, header
from tracking_shared.contracts.documents import MAX_METADATA_BYTES, MAX_METADATA_KEYS, MAX_METADATA_LEVELS
from tracking_shared.contracts.identifiers import MAX_IDENTIFIER_CHARACTERS, identifier_pattern
from tracking_shared.contracts.workflow import Workflow
from tracking_shared.http.json_bodies import MAX_BODY_BYTES
from tracking_shared.http.preferences import DEFAULT_WAIT_SECONDS, MAX_WAIT_SECONDS

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

BATCH_KEY = "Idempotency-Key of a batch"
"""Names the header as a batch has it, which is another one."""


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
    BATCH_KEY: header(
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

_DECIDED = (
    "order-archived",
    "order-exists",
    "order-not-found",
    "invalid-transition",
    "version-conflict",
    "precondition-failed",
    "internal-error",
)
"""Refusals that are kept: a repeat is answered with them again."""

_WITH_METADATA = [
    f"{change}{form}"
    for change, forms in {
        "Create": ("Body", "Operation"),
        "Update": ("Body", "Operation"),
        "Checkpoint": ("Body", "Operation"),
        "Correct": ("Operation",),
        "Correction": ("Body",),
    }.items()
    for form in forms
]

_TAGS = {"updates": "Orders, and what happens to them."}


def ingest_document(app: FastAPI, workflow: Workflow) -> Document:
    """The OpenAPI document of ingest, with the statuses of this workflow."""
    decided = dict.fromkeys(_DECIDED, "Idempotent-Replayed")
    document = openapi_document(app, Description(_TEXT, _TAGS, _HEADERS, of_refusals=decided))
    schemas = document["components"]["schemas"]
    for name in _WITH_METADATA:
        properties = schemas[name]["properties"]
        properties["metadata"] = {"anyOf": [{"$ref": "#/components/schemas/Metadata"}, {"type": "null"}]}
        if "status" in properties:
            properties["status"] = {"type": "string", "enum": list(workflow.transitions)}
        if "kind" in properties:
            properties["kind"] = {"type": "string", "enum": list(workflow.checkpoints)}
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
