"""OpenAPI 3.1: how the document of an HTTP service is made.

FastAPI gives the paths and the parameters, from the routes themselves. What the answers look like, and
everything that FastAPI does not see (headers, bodies that we read ourselves, problems), comes from a table
with one `Operation` a path.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI

from shared.identifiers import IDENTIFIER_PATTERN
from shared.json_schemas import Document
from shared.metrics import METRICS_MEDIA_TYPE
from shared.openapi_headers import SHARED_HEADERS, TRACE_ID, header
from shared.openapi_problems import (
    by_status,
    problem_example,
    problem_headers,
    problem_response_of,
    problem_schemas,
    response_name,
)
from shared.openapi_schemas import exact, schemas_of

JSON = "application/json"

_PATH_PARAMETERS = {"order_id": "The order.", "update_id": "The update: its idempotency key."}


@dataclass(frozen=True, slots=True)
class Content:
    """A body in one media type: a type whose schema is shown, or a schema, and an example of it (None: it
    cannot be shown as text).
    """

    shape: Any
    example: Any
    media_type: str = JSON


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer. Of its headers, some are `always` there."""

    status: int
    description: str
    contents: Sequence[Content] = ()
    always: Sequence[str] = ()
    sometimes: Sequence[str] = ()
    links: Mapping[str, Document] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """What a path answers, beside the parameters that FastAPI knows."""

    name: str
    answers: Sequence[Answer]
    problems: Sequence[str] = ()
    headers: Sequence[str] = ()
    """Request headers, beside those of every request."""
    bodies: Sequence[Content] = ()
    scope: str | None = None
    """What the token must have; None: no token is needed."""
    other_scope: str | None = None
    """What is enough in its place, for some callers."""


@dataclass(frozen=True, slots=True)
class Description:
    """A service: the table of its operations, and what the document says beside them."""

    text: str
    tags: Mapping[str, str]
    operations: Mapping[str, Operation]
    headers: Mapping[str, Document]
    """Request and answer headers by name, without those of problems."""
    parameters: Mapping[str, Document]
    """Members that parameters of such a name have, beside what FastAPI knows of them."""
    of_refusals: Mapping[str, str] = field(default_factory=dict)
    """By the slug of a problem: a header that such an answer may have."""

    def refusal(self, slugs: Sequence[str]) -> Document:
        """The response with one of these problems."""
        headers = {self.of_refusals[slug] for slug in slugs if slug in self.of_refusals}
        return problem_response_of(slugs, sorted(headers))


OPERATIONS_TAG = {"operations": "For those who run the service. No token is needed."}

SERVICE_OPERATIONS = {
    "/healthz": Operation(
        "get_health",
        [Answer(200, "It is alive", [Content({"const": {"status": "ok"}}, {"status": "ok"})])],
    ),
    "/readyz": Operation(
        "get_readiness",
        [
            Answer(status, description, [Content({"$ref": "#/components/schemas/Readiness"}, example)])
            for status, description, example in (
                (200, "It can serve", {"status": "ok", "failing": {}}),
                (
                    503,
                    "What it depends on does not answer",
                    {"status": "unavailable", "failing": {"database": "DatabaseUnavailable"}},
                ),
            )
        ],
    ),
    "/metrics": Operation(
        "get_metrics",
        [
            Answer(
                200,
                "In the text format of Prometheus",
                [
                    Content(
                        {"type": "string"},
                        'tracking_http_requests_total{method="GET",status="200"} 17.0\n',
                        METRICS_MEDIA_TYPE,
                    )
                ],
            )
        ],
    ),
}
"""What every HTTP service has."""

_READINESS: Document = {
    "type": "object",
    "required": ["status", "failing"],
    "properties": {
        "status": {"enum": ["ok", "unavailable"]},
        "failing": {
            "type": "object",
            "description": "The dependencies that do not answer, and why.",
            "additionalProperties": {"type": "string"},
        },
    },
}

_TRACEPARENT = header(
    "W3C trace context; the trace goes on with it. What is not one is ignored.",
    f"00-{TRACE_ID}-00f067aa0ba902b7-01",
)

_TOKEN: Document = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": (
        "A token with `sub`, `exp`, `scope` and the `merchants` (or `orders`) that it may touch. What it"
        " does not reach does not exist for it: 404, not 403."
    ),
}


def openapi_document(app: FastAPI, description: Description) -> Document:
    """The document of `app`. A path without an `Operation` is shown as FastAPI knows it."""
    generated = app.openapi()
    operations = SERVICE_OPERATIONS | dict(description.operations)
    bodies = [content for operation in operations.values() for content in _contents(operation)]
    schemas, components = schemas_of([content.shape for content in bodies])
    builder = _Builder(
        description, {id(content): schema for content, schema in zip(bodies, schemas, strict=True)}
    )
    paths = {
        path: {method: builder.operation(path, found, operations[path]) for method, found in methods.items()}
        if path in operations
        else methods
        for path, methods in generated["paths"].items()
    }
    refusals = {
        slugs
        for path, operation in operations.items()
        for slugs in by_status(_slugs(path, operation)).values()
    }
    every = sorted({slug for slugs in refusals for slug in slugs})
    tags = {**description.tags, **OPERATIONS_TAG}
    return {
        "openapi": generated["openapi"],
        "info": generated["info"] | {"description": description.text},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in tags.items()],
        "paths": paths,
        "components": {
            "schemas": components | {"Readiness": _READINESS} | problem_schemas(every),
            "responses": {response_name(slugs): description.refusal(slugs) for slugs in sorted(refusals)},
            "examples": {slug: {"value": problem_example(slug)} for slug in every},
            "headers": _answer_headers(description, refusals),
            "securitySchemes": {"token": _TOKEN},
        },
    }


def _contents(operation: Operation) -> Iterator[Content]:
    yield from operation.bodies
    for answer in operation.answers:
        yield from answer.contents


def _answer_headers(description: Description, refusals: Iterable[Sequence[str]]) -> Document:
    """The headers that answers refer to: those that are not always there."""
    known = SHARED_HEADERS | dict(description.headers)
    answers = [answer for operation in description.operations.values() for answer in operation.answers]
    used = {name for answer in answers for name in answer.sometimes}
    used.update(name for slugs in refusals for name in problem_headers(slugs[0]))
    return {name: known[name] for name in known if name in used}


def _slugs(path: str, operation: Operation) -> list[str]:
    common = ["malformed-request", "method-not-allowed", "request-timeout", "headers-too-large"]
    common += ["internal-error", "overloaded"]
    if operation.scope:
        common += ["unauthenticated", "forbidden", "too-many-requests", "keys-unavailable"]
    if "{" in path:
        common.append("not-found")
    return list(dict.fromkeys((*operation.problems, *common)))


class _Builder:
    """Makes the operations of one document."""

    def __init__(self, description: Description, schemas: Mapping[int, Document]) -> None:
        self._description = description
        self._schemas = schemas

    def operation(self, path: str, generated: Document, operation: Operation) -> Document:
        names = [*operation.headers, "traceparent"]
        known = {
            name: value for name, value in generated.items() if name in ("tags", "summary", "description")
        }
        made: Document = known | {
            "operationId": operation.name,
            "parameters": [
                *(self._parameter(parameter) for parameter in generated.get("parameters", ())),
                *(self._request_header(name) for name in names),
            ],
        }
        if operation.bodies:
            made["requestBody"] = {"required": True, "content": self._content(operation.bodies)}
        made["responses"] = self._responses(path, operation)
        scopes = (operation.scope, operation.other_scope)
        made["security"] = [{"token": [scope]} for scope in scopes if scope]
        return made

    def _parameter(self, generated: Document) -> Document:
        schema = exact(generated["schema"])
        own = dict(self._description.parameters.get(generated["name"], {}))
        schema |= own.pop("schema", {})
        if generated["in"] == "path":
            schema["pattern"] = IDENTIFIER_PATTERN
            own = {"description": _PATH_PARAMETERS[generated["name"]]}
        return {**own, **generated, "schema": schema}

    def _request_header(self, name: str) -> Document:
        known = _TRACEPARENT if name == "traceparent" else self._description.headers[name]
        return {"name": name, "in": "header", "required": False} | known

    def _responses(self, path: str, operation: Operation) -> Document:
        refused = by_status(_slugs(path, operation))
        responses = {
            str(status): {"$ref": f"#/components/responses/{response_name(slugs)}"}
            for status, slugs in refused.items()
        }
        common = ["Trace-Id", *(("RateLimit-Policy", "RateLimit") if operation.scope else ())]
        for answer in operation.answers:
            good = self._answer(answer, common)
            slugs = refused.get(answer.status)
            responses[str(answer.status)] = _either(good, self._description.refusal(slugs)) if slugs else good
        return dict(sorted(responses.items()))

    def _answer(self, answer: Answer, common: Sequence[str]) -> Document:
        headers = {name: {"$ref": f"#/components/headers/{name}"} for name in (*common, *answer.sometimes)}
        headers |= {name: self._description.headers[name] | {"required": True} for name in answer.always}
        made: Document = {"description": answer.description, "headers": headers}
        if answer.contents:
            made["content"] = self._content(answer.contents)
        if answer.links:
            made["links"] = answer.links
        return made

    def _content(self, contents: Sequence[Content]) -> Document:
        return {
            content.media_type: {"schema": self._schemas[id(content)]}
            | ({} if content.example is None else {"example": content.example})
            for content in contents
        }


def _either(answer: Document, problem: Document) -> Document:
    """An answer, or with the same status a problem."""
    return {
        "description": f"{answer['description']}; {problem['description']}",
        "headers": answer["headers"] | problem["headers"],
        "content": answer["content"] | problem["content"],
    }
