"""The provider of the console's sign-in: its settings, and what the page and its policy are told."""

from typing import Any

import pytest
from pydantic import ValidationError

from tracking_query.pages.console import configuration, content_policy
from tracking_query.settings import QuerySettings
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

PROVIDER: dict[str, Any] = {
    "amqp_url": "amqp://unused",
    "mongodb_url": "mongodb://unused",
    "jwks_url": "https://login.example/jwks",
    "public_stream_url": "wss://stream.example/v1/stream",
    "oidc_issuer": "https://login.example/realms/logistics",
    "oidc_client_id": "tracking-console",
}


def settings(**given: Any) -> QuerySettings:
    return QuerySettings.model_validate(PROVIDER | given)


def connections(given: QuerySettings) -> str:
    directives = dict(part.split(" ", 1) for part in content_policy(given).split("; "))
    return directives["connect-src"]


def test_the_page_is_told_how_to_sign_in() -> None:
    given = settings(oidc_scope="openid offline_access", oidc_audience="https://tracking.example")
    assert configuration(given, DEFAULT_WORKFLOW)["sign_in"] == {
        "issuer": "https://login.example/realms/logistics",
        "client_id": "tracking-console",
        "scope": "openid offline_access",
        "resource": None,
        "audience": "https://tracking.example",
    }


def test_without_a_provider_the_page_is_told_of_none_and_may_ask_none() -> None:
    given = settings(oidc_issuer="")
    assert "sign_in" not in configuration(given, DEFAULT_WORKFLOW)
    assert "login.example" not in content_policy(given)


def test_the_policy_allows_the_origins_of_the_provider() -> None:
    common = "'self' wss://stream.example https://stream.example"
    assert connections(settings()) == f"{common} https://login.example"
    more = settings(oidc_origins="https://tokens.example, https://login.example")
    assert connections(more) == f"{common} https://login.example https://tokens.example"


@pytest.mark.parametrize("issuer", ["http://127.0.0.1:9000", "http://localhost:9000", "http://[::1]:9000"])
def test_a_provider_on_this_machine_needs_no_tls(issuer: str) -> None:
    assert connections(settings(oidc_issuer=issuer)).endswith(f" {issuer}")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"oidc_issuer": "http://login.example"}, "must be https"),
        ({"oidc_issuer": "login.example"}, "begins with https or http"),
        ({"oidc_issuer": "https://user@login.example"}, "must not hold a user"),
        ({"oidc_issuer": "https://login.example; script-src *"}, "begins with https or http"),
        ({"oidc_issuer": "https://login.example?a=b"}, "no query"),
        ({"oidc_client_id": ""}, "set OIDC_CLIENT_ID, too"),
        ({"jwks_url": ""}, "set JWKS_URL or JWKS_FILE, too"),
        ({"oidc_scope": "profile"}, "openid must be one of the scopes"),
        ({"oidc_origins": "https://tokens.example/path"}, "write origins"),
        ({"oidc_origins": "http://tokens.example"}, "must be https"),
        ({"oidc_origins": "*"}, "begins with https or http"),
        ({"oidc_origins": "https://*"}, "must name one host"),
        ({"oidc_origins": "https://tokens.example:*"}, "must name one host"),
        ({"oidc_origins": "https://tokens.example\\x"}, "must name one host"),
        ({"oidc_issuer": "https://*.example"}, "must name one host"),
    ],
)
def test_an_unsafe_provider_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings(**wrong)
