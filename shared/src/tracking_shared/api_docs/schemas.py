"""JSON schemas of types, and the shared components of OpenAPI documents."""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from tracking_shared.contracts.problems import (
    CATALOGUE,
    EXAMPLE_TRACE_ID,
    MEMBERS,
    PROBLEM_MEDIA_TYPE,
    RETRY_AFTER_SECONDS,
)
from tracking_shared.http.callers import invalid_token
from tracking_shared.http.headers import IF_MATCH_PATTERN

Document = dict[str, Any]


class PlainSchema(GenerateJsonSchema):
    """Without titles that repeat the name, and defaults that say nothing."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def field_is_required(self, field: Any, total: bool) -> bool:
        # The field that distinguishes the members of a union is required, though our code need not name it.
        inner = field["schema"]
        is_tag = inner["type"] == "default" and inner["schema"]["type"] == "literal"
        return is_tag or super().field_is_required(field, total)

    def default_schema(self, schema: Any) -> Document:
        document = super().default_schema(schema)
        if document.get("default") is None or isinstance(document["default"], dict):
            document.pop("default", None)
        return document


_TIME_PATTERN = (
    r"^(19|20|21)\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?"
    r"(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$"
)


def schemas_of(shapes: Sequence[Any]) -> tuple[list[Document], Document]:
    """A schema for each of `shapes`, and what they refer to."""
    inputs = [
        (index, "validation", TypeAdapter(shape))
        for index, shape in enumerate(shapes)
        if not isinstance(shape, dict)
    ]
    made, definitions = TypeAdapter.json_schemas(
        inputs,  # type: ignore[arg-type] # its keys are Hashable, and lists are invariant
        ref_template="#/components/schemas/{model}",
        schema_generator=PlainSchema,
    )
    return [
        shape if isinstance(shape, dict) else made[index, "validation"] for index, shape in enumerate(shapes)
    ], _with_times(definitions.get("$defs", {}))


def exact(schema: Document) -> Document:
    """A parameter's schema as JSON Schema has it. A parameter is there or not: it is never null."""
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) == 1:
        schema = {name: value for name, value in schema.items() if name != "anyOf"} | options[0]
    # Behind a validator written in Python, pydantic calls the bounds by its own names.
    names = {"ge": "minimum", "le": "maximum"}
    named = {names.get(name, name): value for name, value in schema.items() if name != "title"}
    timed: Document = _with_times(named)
    return timed


def _with_times(schema: Any) -> Any:
    """The schema with the times that are taken: years from 1900, and an offset."""
    if isinstance(schema, list):
        return [_with_times(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _with_times(value) for name, value in schema.items()}
    if made.get("format") == "date-time":
        made.setdefault("pattern", _TIME_PATTERN)
    return made


_TEXT: Document = {"type": "string"}


def header(description: str, example: Any, schema: Document = _TEXT, *, required: bool = False) -> Document:
    """A header of a request or an answer, with a value it may have."""
    made: Document = {"description": description, "schema": schema, "example": example}
    return made | {"required": True} if required else made


SHARED_HEADERS: dict[str, Document] = {
    "Trace-Id": header(
        "The trace of the request, as it is in the logs.",
        EXAMPLE_TRACE_ID,
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
        {"type": "string", "pattern": IF_MATCH_PATTERN},
    ),
}
"""Of an order by its id, in requests and answers."""


_OF_UPDATES = ("update_id", "order_id")
"""Members of any refusal of an update, as soon as they are known."""


def problem_schemas(slugs: Iterable[str]) -> dict[str, Document]:
    """The schemas of these problems, by slug."""
    return {slug: _schema(slug) for slug in sorted(set(slugs))}


def _schema(slug: str) -> Document:
    kind = CATALOGUE[slug]
    of_request = ("trace_id",) if kind.may_lack_request else ("instance", "trace_id")
    return {
        "type": "object",
        "title": kind.title,
        "required": ["type", "title", "status", "detail", *of_request, *kind.always],
        "properties": {
            "type": {"const": f"/problems/{slug}"},
            "title": {"const": kind.title},
            "status": {"const": kind.status},
            "detail": {"type": "string"},
            "instance": {"type": "string", "description": "The path of the request."},
            "trace_id": {"type": "string", "description": "What the log has it under."},
            **{name: MEMBERS[name].schema for name in dict.fromkeys((*kind.members, *_OF_UPDATES))},
        },
    }


def by_status(slugs: Iterable[str]) -> dict[int, tuple[str, ...]]:
    """The slugs of each status, both in the order of the catalogue."""
    asked = frozenset(slugs)
    found: dict[int, tuple[str, ...]] = {}
    for slug, kind in CATALOGUE.items():
        if slug in asked:
            found[kind.status] = (*found.get(kind.status, ()), slug)
    return found


def response_name(slugs: Sequence[str]) -> str:
    """The name of the response with one of these problems."""
    return ".".join(slugs)


def problem_response_of(slugs: Sequence[str], headers: Iterable[str] = ()) -> Document:
    """The response with one of these problems, which have one status. `headers`: names of more that it may
    have.
    """
    refs = [{"$ref": f"#/components/schemas/{slug}"} for slug in slugs]
    return {
        "description": "; ".join(f"`{slug}`: {CATALOGUE[slug].title}" for slug in slugs),
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


def problem_headers(slug: str) -> list[str]:
    """The names of headers that a response with this problem may have."""
    kind = CATALOGUE[slug]
    return ["Trace-Id", "RateLimit-Policy", "RateLimit", *kind.headers, *kind.other_headers]
