"""Makes the OpenAPI 3.1 document of an HTTP service from its routes.

FastAPI gives paths and parameters; answers, headers, bodies and problems are those that the endpoints are
decorated with (`tracking_shared.http.described_routes`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fastapi import FastAPI
from fastapi.routing import APIRoute

from tracking_shared.api_docs.schemas import (
    SHARED_HEADERS,
    Document,
    by_status,
    exact,
    header,
    problem_headers,
    problem_response_of,
    problem_schemas,
    response_name,
    schemas_of,
)
from tracking_shared.contracts.identifiers import IDENTIFIER_PATTERN
from tracking_shared.contracts.problems import EXAMPLE_TRACE_ID, problem_example
from tracking_shared.contracts.references import MAX_REFERENCE_CHARACTERS
from tracking_shared.contracts.texts import CONTROL_FREE_PATTERN, MAX_CONTACT_CHARACTERS
from tracking_shared.http.described_routes import Answer, Content, RouteDescription, description_of

_PATH_PARAMETERS = {
    "order_id": "The order.",
    "update_id": "The update: its idempotency key.",
    "merchant_id": "The merchant of the order.",
    "contact_ref": "The contact of the person, percent-encoded: `%2B49%2030%20123`.",
    "erasure_id": "The erasure.",
    "webhook_id": "The webhook.",
    "reference": "The number that the merchant gave the order, percent-encoded: `WH%2FOUT%2F00012`.",
}


_IDENTIFIER: Document = {"pattern": IDENTIFIER_PATTERN}
_PATH_SCHEMAS: Mapping[str, Document] = {
    "reference": {"pattern": CONTROL_FREE_PATTERN, "minLength": 1, "maxLength": MAX_REFERENCE_CHARACTERS},
    "contact_ref": {"pattern": CONTROL_FREE_PATTERN, "minLength": 1, "maxLength": MAX_CONTACT_CHARACTERS},
}
"""Beside those that are identifiers."""


@dataclass(frozen=True, slots=True)
class Description:
    """The description of a service beside its routes."""

    text: str
    tags: Mapping[str, str]
    headers: Mapping[str, Document]
    """Request and answer headers by name, without those of problems."""
    of_refusals: Mapping[str, str] = field(default_factory=dict)
    """By the slug of a problem: a header that such an answer may have."""

    def refusal(self, slugs: Sequence[str]) -> Document:
        """The response with one of these problems."""
        headers = {self.of_refusals[slug] for slug in slugs if slug in self.of_refusals}
        return problem_response_of(slugs, sorted(headers))


OPERATIONS_TAG = {"operations": "For those who run the service. No token is needed."}

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
    f"00-{EXAMPLE_TRACE_ID}-00f067aa0ba902b7-01",
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
    """The document of `app`. A route that is not `described` is shown as FastAPI knows it."""
    generated = app.openapi()
    operations = _operations(app)
    bodies = [content for operation in operations.values() for content in _contents(operation)]
    schemas, components = schemas_of([content.shape for content in bodies])
    builder = _Builder(
        description, {id(content): schema for content, schema in zip(bodies, schemas, strict=True)}
    )
    paths = {
        path: {
            method: builder.operation(path, found, operations[path, method])
            if (path, method) in operations
            else found
            for method, found in methods.items()
        }
        for path, methods in generated["paths"].items()
    }
    refusals = {
        slugs
        for (path, _), operation in operations.items()
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
            "headers": _answer_headers(description, operations.values(), refusals),
            "securitySchemes": {"token": _TOKEN},
        },
    }


def _operations(app: FastAPI) -> dict[tuple[str, str], RouteDescription]:
    """The descriptions by path and method."""
    return {
        (route.path, method.lower()): operation
        for route in app.routes
        if isinstance(route, APIRoute) and (operation := description_of(route.endpoint)) is not None
        for method in route.methods or ()
    }


def _contents(operation: RouteDescription) -> Iterator[Content]:
    yield from operation.bodies
    for answer in operation.answers:
        yield from answer.contents


def _answer_headers(
    description: Description, operations: Iterable[RouteDescription], refusals: Iterable[Sequence[str]]
) -> Document:
    """The headers that answers refer to: those that are not always there."""
    known = SHARED_HEADERS | dict(description.headers)
    answers = [answer for operation in operations for answer in operation.answers]
    used = {name for answer in answers for name in answer.sometimes}
    used.update(name for slugs in refusals for name in problem_headers(slugs[0]))
    return {name: known[name] for name in known if name in used}


def _slugs(path: str, operation: RouteDescription) -> list[str]:
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

    def operation(self, path: str, generated: Document, operation: RouteDescription) -> Document:
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
        schema.pop("description", None)  # which the parameter itself has
        if generated["in"] != "path":
            return {**generated, "schema": schema}
        text = {"description": _PATH_PARAMETERS[generated["name"]]}
        return {**text, **generated, "schema": schema | _PATH_SCHEMAS.get(generated["name"], _IDENTIFIER)}

    def _request_header(self, name: str) -> Document:
        known = _TRACEPARENT if name == "traceparent" else self._description.headers[name]
        return {"name": name, "in": "header", "required": False} | known

    def _responses(self, path: str, operation: RouteDescription) -> Document:
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
