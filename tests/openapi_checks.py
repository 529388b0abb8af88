"""Real answers against the OpenAPI documents. What they do not describe is a fault, though callers are told
to ignore it: how else would anybody learn that it is missing there?
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Literal, cast

import orjson
from fastapi import FastAPI
from jsonschema_rs import Draft202012Validator

from message_checks import closed
from tracking_ingest.api.ingest_openapi import ingest_document
from tracking_ingest.api.submission_routes import Ingest, add_routes
from tracking_ingest.settings import IngestSettings
from tracking_ingest.submission.dispatcher import Dispatcher
from tracking_query.api.query_openapi import query_document
from tracking_query.app import create_app
from tracking_query.settings import QuerySettings
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.http.service_app import install_plumbing, service_app

Service = Literal["ingest", "query"]

SERVICES: tuple[Service, ...] = ("ingest", "query")

_SETTINGS = {"amqp_url": "amqp://unused", "mongodb_url": "mongodb://unused", "jwt_secret": "unused" * 6}

_OF_ANY_HTTP = frozenset(
    {
        "content-length",
        "content-type",
        "transfer-encoding",
        "connection",
        "cache-control",
        "content-security-policy",
        "cross-origin-resource-policy",
        "date",
        "referrer-policy",
        "server",
        "x-content-type-options",
        # As the installation is set up:
        "access-control-allow-origin",
        "access-control-expose-headers",
        "strict-transport-security",
        "vary",
    }
)
"""Headers that belong to HTTP, not to the API."""


@cache
def app_of(service: Service) -> FastAPI:
    """The application, with nothing behind its routes."""
    if service == "query":
        nothing: Any = None
        return create_app(QuerySettings.model_validate(_SETTINGS), nothing, DEFAULT_WORKFLOW, nothing)
    app = service_app("ingest", "Ingest")
    install_plumbing(app, IngestSettings.model_validate(_SETTINGS), dict)
    add_routes(app, Ingest(Dispatcher(1), *cast(Any, (None, None, DEFAULT_WORKFLOW, None))))
    return app


@cache
def document_of(service: Service) -> Any:
    """The document that the service serves at `/openapi.json`."""
    if service == "query":
        return query_document(app_of("query"), DEFAULT_WORKFLOW)
    return ingest_document(app_of("ingest"), DEFAULT_WORKFLOW)


def resolved(service: Service, part: Any) -> Any:
    """The part of the document, or what it refers to."""
    while "$ref" in part:
        found = document_of(service)
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    return part


@cache
def template_of(service: Service, path: str) -> str | None:
    """The path of the document that this path of a request is one of."""
    for template in sorted(document_of(service)["paths"], key=lambda template: template.count("{")):
        if re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template)), path):
            return str(template)
    return None


def check_answer(
    service: Service, method: str, path: str, *, status: int, headers: Mapping[str, str], body: bytes
) -> None:
    """Fails unless the answer is as described. Paths that are not described may have any answer."""
    template = template_of(service, path.partition("?")[0])
    if template is None:
        return
    operations = document_of(service)["paths"][template]
    operation = operations.get(method.lower()) or next(iter(operations.values()))
    where = f"{method} {template} {status}"
    assert str(status) in operation["responses"], (where, body[:300])
    response = resolved(service, operation["responses"][str(status)])
    _check_headers(service, where, response["headers"], headers)
    _check_body(service, where, response.get("content", {}), headers.get("Content-Type"), body)


def _check_headers(
    service: Service, where: str, described: Mapping[str, Any], headers: Mapping[str, str]
) -> None:
    names = {name.lower() for name in described}
    strange = {name.lower() for name in headers} - names - _OF_ANY_HTTP
    assert not strange, (where, strange)
    for name, reference in described.items():
        header = resolved(service, reference)
        value = headers.get(name)
        assert value is not None or not header.get("required"), (where, name)
        if value is not None:
            faults = header_faults(header["schema"], value)
            assert not faults, (where, name, value, faults)


def header_faults(schema: Any, text: str) -> list[str]:
    """Where the value of a header departs from its schema."""
    value: Any = int(text) if schema.get("type") == "integer" and text.isdecimal() else text
    return _texts(Draft202012Validator(schema).iter_errors(value))


def _check_body(
    service: Service, where: str, content: Mapping[str, Any], content_type: str | None, body: bytes
) -> None:
    if not content:
        assert not body, where
        return
    media_types = {name.partition(";")[0] for name in content}
    media_type = (content_type or "").partition(";")[0]
    assert media_type in media_types, (where, content_type)
    if not media_type.endswith("json") or media_type.endswith("ndjson"):
        return
    errors = _validator(service, where, media_type).iter_errors(orjson.loads(body))
    faults = _texts(errors)
    assert not faults, (where, faults[:3], body[:1000])


@cache
def _validator(service: Service, where: str, media_type: str) -> Draft202012Validator:
    method, template, status = where.split(" ")
    operations = document_of(service)["paths"][template]
    operation = operations.get(method.lower()) or next(iter(operations.values()))
    schema = resolved(service, operation["responses"][status])["content"][media_type]["schema"]
    return validator(service, schema, closed_objects=True)


def validator(service: Service, schema: Any, *, closed_objects: bool) -> Draft202012Validator:
    """Of a schema in the document. `closed_objects`: what is not described is a fault."""
    whole = {"allOf": [schema], "components": {"schemas": document_of(service)["components"]["schemas"]}}
    return Draft202012Validator(closed(whole) if closed_objects else whole, validate_formats=True)


def _texts(errors: Iterable[Any]) -> list[str]:
    return [f"{error.instance_path}: {error.message}" for error in errors]
