"""The proxy of the containers: every operation reaches the service that has it, as in Kubernetes."""

import re

import pytest
from test_compose import SERVICES
from test_kubernetes import routed

from nginx_routes import CONFIGURATION, Routes
from openapi_checks import document_of
from tracking_shared.contracts.problems import CATALOGUE
from tracking_shared.http.service_app import NEVER_REFUSED

TEXT = CONFIGURATION.read_text()
ROUTES = Routes(TEXT)
OPERATIONS = sorted(
    {
        (method.upper(), path)
        for name in ("ingest", "query")
        for path, methods in document_of(name)["paths"].items()
        for method in methods
    }
)
PAGES = (
    "/v1/stream",
    "/asyncapi.json",
    "/console/",
    "/console/app.js",
    "/problems/forbidden",
    "/docs",
    "/openapi.json",
)


@pytest.mark.parametrize(("method", "path"), [*OPERATIONS, *(("GET", page) for page in PAGES)])
def test_a_request_reaches_the_same_service_as_in_kubernetes(method: str, path: str) -> None:
    target = ROUTES.target(method, path)
    assert (target and target.split(":")[0]) == routed(method, path)


@pytest.mark.parametrize("path", [*sorted(NEVER_REFUSED), "/", "/v2/orders"])
def test_what_is_for_operators_stays_inside(path: str) -> None:
    assert ROUTES.target("GET", path) is None


def test_an_address_goes_on_as_it_was_sent() -> None:
    # With a path behind the name, the proxy would send its own form of it: %2F as a slash.
    targets = re.findall(r"proxy_pass (\S+);", TEXT)
    assert targets
    assert all(re.fullmatch(r"http://\$\w+", target) for target in targets)
    assert "rewrite" not in TEXT


@pytest.mark.parametrize("reference", ["WH%2FOUT%2F00012", "%231001", "ORD%202024%2F17", "a%252Fb", "%2E%2E"])
def test_a_merchants_number_is_written_at_ingest_and_read_at_query(reference: str) -> None:
    path = f"/v1/merchants/acme/orders/{reference}"
    assert ROUTES.target("POST", f"{path}/updates") == ROUTES.target("POST", "/v1/orders")
    assert ROUTES.target("GET", path) == ROUTES.target("GET", "/v1/orders/o-1")


def test_each_service_is_reached_at_its_port() -> None:
    targets = {ROUTES.target(method, path) for method, path in OPERATIONS} | {
        ROUTES.target("GET", "/v1/stream")
    }
    for target in targets - {None}:
        name, _, port = str(target).partition(":")
        assert SERVICES[name]["environment"][f"{name.upper()}_PORT"] == int(port)


def test_what_the_proxy_says_itself_is_in_the_catalogue() -> None:
    said = re.findall(
        r"return (\d+) '\{\"type\":\"/problems/([\w-]+)\",\"title\":\"([^\"]+)\",\"status\":(\d+)\}'", TEXT
    )
    assert len(said) == TEXT.count("application/problem+json")
    for status, slug, title, told in said:
        assert (CATALOGUE[slug].status, CATALOGUE[slug].title) == (int(status), title)
        assert status == told
