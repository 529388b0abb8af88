"""The OpenAPI documents: valid, whole, of one mind with the routes, and their examples true to them."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator
from pages import read

from openapi_checks import SERVICES, Service, app_of, document_of, header_faults, resolved, validator
from tracking_shared.contracts.problems import CATALOGUE, PROBLEM_MEDIA_TYPE, Problem
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.http.service_app import NEVER_REFUSED

each_service = pytest.mark.parametrize("service", SERVICES)


def operations(service: Service) -> Iterator[tuple[str, Any]]:
    for path, methods in document_of(service)["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def contents(service: Service) -> Iterator[tuple[str, str, Any]]:
    """Every body that is described, of requests and answers."""
    for where, operation in operations(service):
        bodies = [("request", operation["requestBody"])] if "requestBody" in operation else []
        for status, described in [*bodies, *operation["responses"].items()]:
            for media_type, content in resolved(service, described).get("content", {}).items():
                yield f"{where} {status}", media_type, content


@each_service
def test_it_follows_the_specification(service: Service) -> None:
    schema = json.loads(read("tests/data/openapi-spec/openapi-3.1.json"))
    errors = Draft202012Validator(schema).iter_errors(document_of(service))
    assert [f"{error.instance_path}: {error.message}" for error in errors] == []


@each_service
def test_its_schemas_are_schemas(service: Service) -> None:
    for name, schema in document_of(service)["components"]["schemas"].items():
        validator(service, schema, closed_objects=False)
        assert "anyOf" in schema or schema.get("type"), name


@each_service
def test_every_reference_leads_somewhere_and_everything_is_referred_to(service: Service) -> None:
    document = document_of(service)
    found = set(re.findall(r'"\$ref": "#/components/([^"]+)"', json.dumps(document)))
    components = {
        f"{kind}/{name}"
        for kind, members in document["components"].items()
        if kind != "securitySchemes"
        for name in members
    }
    assert found == components


@each_service
def test_every_route_is_described_and_nothing_else(service: Service) -> None:
    described = {path for path, methods in document_of(service)["paths"].items()}
    assert described == set(app_of(service).openapi()["paths"])
    for where, operation in operations(service):
        assert "security" in operation, f"{where} is not @described"


@each_service
def test_every_operation_has_a_name_a_tag_and_words(service: Service) -> None:
    document = document_of(service)
    names = [operation["operationId"] for _, operation in operations(service)]
    assert len(names) == len(set(names))
    tags = {tag["name"]: tag["description"] for tag in document["tags"]}
    used = {tag for _, operation in operations(service) for tag in operation["tags"]}
    assert used == set(tags)
    for where, operation in operations(service):
        assert operation["summary"], where
        for parameter in operation["parameters"]:
            assert parameter.get("description"), (where, parameter["name"])
            assert parameter["schema"].keys() - {"title"}, (where, parameter["name"])


@each_service
def test_every_operation_but_the_service_s_own_asks_for_a_token_and_says_what_happens_without(
    service: Service,
) -> None:
    for where, operation in operations(service):
        if where.removeprefix("get ") in NEVER_REFUSED:
            assert operation["security"] == [], where
        else:
            assert operation["security"], where
            assert all(required["token"] for required in operation["security"]), where
            assert {"401", "403", "429", "503"} <= set(operation["responses"]), where


@each_service
def test_every_operation_says_what_our_own_faults_and_other_methods_are_answered(service: Service) -> None:
    for where, operation in operations(service):
        assert {"400", "405", "408", "431", "500", "503"} <= set(operation["responses"]), where


@each_service
def test_every_example_of_a_body_is_true_to_its_schema(service: Service) -> None:
    checked = 0
    for where, media_type, content in contents(service):
        values = [resolved(service, example)["value"] for example in content.get("examples", {}).values()]
        values += [content["example"]] if content.get("example") is not None else []
        assert values or "contentMediaType" in content["schema"], (where, media_type)
        for value in values:
            errors = validator(service, content["schema"], closed_objects=True).iter_errors(value)
            assert [f"{error.instance_path}: {error.message}" for error in errors] == [], (where, value)
            checked += 1
    assert checked > 30


@each_service
def test_every_example_of_a_parameter_or_header_is_true_to_its_schema(service: Service) -> None:
    for name, header in document_of(service)["components"]["headers"].items():
        assert header_faults(header["schema"], str(header["example"])) == [], name
    for where, operation in operations(service):
        for parameter in operation["parameters"]:
            for example in [parameter.get("example"), *parameter["schema"].get("examples", ())]:
                if example is not None:
                    faults = header_faults(parameter["schema"], example)
                    assert faults == [], (where, parameter["name"])


@each_service
def test_a_problem_is_described_under_its_status_with_the_headers_that_go_with_it(service: Service) -> None:
    for where, operation in operations(service):
        for status, reference in operation["responses"].items():
            response = resolved(service, reference)
            problems = response.get("content", {}).get(PROBLEM_MEDIA_TYPE)
            for slug in problems["examples"] if problems else ():
                assert str(CATALOGUE[slug].status) == status, where
                assert set(Problem(slug, "").headers()) <= set(response["headers"]), (where, slug)


def test_every_problem_of_the_catalogue_is_described_somewhere() -> None:
    described = {slug for service in SERVICES for slug in document_of(service)["components"]["schemas"]}
    assert set(CATALOGUE) - {"upgrade-required"} <= described  # which is of the stream alone


@each_service
def test_the_statuses_are_those_of_the_workflow(service: Service) -> None:
    text = json.dumps(document_of(service))
    assert json.dumps({"type": "string", "enum": list(DEFAULT_WORKFLOW.transitions)}) in text


def test_bounds_of_parameters_are_said_as_json_schema_says_them() -> None:
    listing = document_of("query")["paths"]["/v1/orders"]["get"]["parameters"]
    schemas = {parameter["name"]: parameter["schema"] for parameter in listing}
    assert schemas["limit"] == {"type": "integer", "minimum": 1, "maximum": 500, "default": 50}
    assert schemas["active"] == {"type": "boolean"}
    assert schemas["status"]["type"] == "array"
    assert schemas["created_from"]["format"] == "date-time"


@pytest.mark.parametrize(
    ("time", "fits"),
    [
        ("2026-03-01T08:15:00Z", True),
        ("2026-03-01T08:15:00.123+01:00", True),
        ("2026-03-01T08:15:00", False),
        ("0001-01-01T00:00:00Z", False),
        ("2026-03-01T24:00:00Z", False),
        ("2026-03-01T23:59:60Z", False),
    ],
)
def test_times_are_described_as_they_are_taken(time: str, fits: bool) -> None:
    schema = {"$ref": "#/components/schemas/UpdateBody"}
    body = {"status": "picked_up", "occurred_at": time}
    assert validator("ingest", schema, closed_objects=False).is_valid(body) is fits


@pytest.mark.parametrize(
    ("metadata", "fits"),
    [
        ({"a": {"b": {"c": {"d": 1}}}}, True),
        ({"a": {"b": {"c": {"d": {}}}}}, False),
        ({"a": [[[1]]]}, True),
        ({"a": [[[[1]]]]}, False),
        ({"$a": 1}, False),
        ({"a": {"b.c": 1}}, False),
        ({"a": 2**63}, False),
        ({str(number): number for number in range(33)}, False),
    ],
)
def test_metadata_is_described_as_it_is_taken(metadata: dict[str, Any], fits: bool) -> None:
    schema = {"$ref": "#/components/schemas/UpdateBody"}
    body = {"status": "picked_up", "metadata": metadata}
    assert validator("ingest", schema, closed_objects=False).is_valid(body) is fits
