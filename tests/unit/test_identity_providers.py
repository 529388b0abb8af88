"""Tokens as identity providers make them, with the very settings that the page recommends."""

import json
import shlex
from dataclasses import dataclass
from time import time
from typing import Any
from urllib.parse import urlsplit

import pytest
from pages import read, section

from issuers import Issuer, new_key, public_jwk
from tracking_shared.auth.tokens import TokenError, TokenVerifier
from tracking_shared.contracts.access import Principal
from tracking_shared.settings import Settings, check_token_settings

PAGE = "docs/identity-providers.md"
TENANT = "8f2c1f6e-3d0b-4a55-9c1e-0d7a2b9e4c11"


@dataclass(frozen=True)
class Provider:
    heading: str
    claims: dict[str, Any]
    """Of an access token, as the provider documents them; `iat`, `nbf` and `exp` are added."""
    subject: str
    scopes: frozenset[str] = frozenset({"orders:read", "orders:write"})


PROVIDERS = [
    Provider(
        "Keycloak",
        {
            "jti": "onrtac:8f3c0a4e-6f0e-4d52-b1d2-8b7b7a1c9d5e",
            "iss": "https://sso.example.com/realms/logistics",
            "aud": ["tracking", "account"],
            "sub": "f1c4f64e-2c0c-4cda-8c9f-9f3f8f3a2b0e",
            "typ": "Bearer",
            "azp": "desk",
            "sid": "4c0a3a8a-3a47-4f2f-8e89-9e5f9b0a0a0a",
            "acr": "1",
            "allowed-origins": ["https://desk.example.com"],
            "realm_access": {
                "roles": ["default-roles-logistics", "offline_access", "dispatcher", "uma_authorization"]
            },
            "resource_access": {"account": {"roles": ["manage-account", "view-profile"]}},
            "scope": "openid email profile",
            "email_verified": True,
            "merchants": ["acme", "bravo"],
            "preferred_username": "ann",
            "email": "ann@example.com",
        },
        "f1c4f64e-2c0c-4cda-8c9f-9f3f8f3a2b0e",
    ),
    Provider(
        "Auth0",
        {
            "https://example.com/merchants": ["acme", "bravo"],
            "iss": "https://logistics.eu.auth0.com/",
            "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
            "aud": ["https://tracking.example.com", "https://logistics.eu.auth0.com/userinfo"],
            "azp": "my_client_id",
            "scope": "openid profile email",
            "permissions": ["orders:read", "orders:write"],
        },
        "auth0|5f7c8ec7c33c6c004bbafe82",
    ),
    Provider(
        "Okta",
        {
            "ver": 1,
            "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE",
            "iss": "https://logistics.okta.com/oauth2/default",
            "aud": "api://default",
            "cid": "0oabskvc6442nkvQO0h7",
            "uid": "00u5t60iloOHN9pBi0h7",
            "scp": ["openid", "offline_access", "orders:read", "orders:write"],
            "sub": "ann.smith@example.com",
            "auth_time": 1_790_000_000,
            "merchants": ["acme", "bravo"],
        },
        "ann.smith@example.com",
    ),
    Provider(
        "Entra ID",
        {
            "aud": "6e74172b-be56-4843-9ff4-e66a39bb12e3",
            "iss": f"https://login.microsoftonline.com/{TENANT}/v2.0",
            "aio": "AXQAi/8IAAAAtAaZLo3ChMif6KOnttRB7eBq4/DccQzjcJGxPYy/C3jDaNGxXd6w",
            "azp": "0ad1b1e2-4a4e-4d7b-8c7d-0b9bb5a1c0de",
            "azpacr": "0",
            "name": "Ann Smith",
            "oid": "690222be-ff1a-4d56-abd1-7e4f7d38e474",
            "preferred_username": "ann@example.com",
            "rh": "I",
            "roles": ["orders:read", "orders:write"],
            "scp": "access_as_user",
            "sub": "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ",
            "tid": TENANT,
            "uti": "fqiBqXLPj0eQa82S-IYFAA",
            "ver": "2.0",
            "extn.merchants": ["acme bravo"],
        },
        "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ",
    ),
    Provider(
        "Cognito",
        {
            "sub": "53e4c8a2-3011-70c4-8f8a-1c4f0b7a9f10",
            "cognito:groups": ["desk"],
            "iss": "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_EXAMPLE",
            "version": 2,
            "client_id": "1example23456789",
            "origin_jti": "7d2b1a3c-0000-4000-8000-4f1d2e3c4b5a",
            "event_id": "64f513be-0000-4000-8000-10e2b3c4d5f6",
            "token_use": "access",
            "scope": "openid tracking/write email",
            "auth_time": 1_790_000_000,
            "jti": "a1b2c3d4-0000-4000-8000-a1b2c3d4e5f6",
            "username": "ann",
            "merchants": "acme bravo",
        },
        "53e4c8a2-3011-70c4-8f8a-1c4f0b7a9f10",
    ),
]

each_provider = pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.heading)


def page_settings(heading: str) -> dict[str, str]:
    """The settings of the recipe, as a shell would read them."""
    block = section(read(PAGE), f"## {heading}").split("```sh\n")[1].split("```")[0]
    pairs = (shlex.split(line)[0].partition("=") for line in block.splitlines())
    return {name.lower(): value for name, _, value in pairs}


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    """Its set has what those of providers have: keys without `alg`, and one that is for encryption."""
    made = Issuer(tmp_path_factory.mktemp("keys") / "jwks.json")
    signing = public_jwk("RS256", made.key("RS256"), kid="RS256", x5t="RS256", x5c=["MIIC"])
    other = public_jwk("RS256", new_key("RS256"), kid="enc", use="enc", alg="RSA-OAEP")
    made.path.write_text(json.dumps({"keys": [other, signing]}))
    return made


def verified(provider: Provider, issuer: Issuer, **changed: Any) -> Principal:
    given = page_settings(provider.heading)
    del given["jwks_url"]
    settings = Settings(amqp_url="amqp://x", mongodb_url="mongodb://x", jwks_file=issuer.path, **given)
    now = int(time())
    claims = provider.claims | {"iat": now, "nbf": now, "exp": now + 3600} | changed
    return TokenVerifier(settings).verify(issuer.token("RS256", claims))


def test_every_recipe_of_the_page_is_tested() -> None:
    headings = {line.removeprefix("## ") for line in read(PAGE).splitlines() if line.startswith("## ")}
    assert headings - {"Settings"} == {provider.heading for provider in PROVIDERS}


@each_provider
def test_its_token_says_who_it_is_and_for_what(provider: Provider, issuer: Issuer) -> None:
    principal = verified(provider, issuer)
    assert principal.subject == provider.subject
    assert {scope for scope in principal.scopes if scope.startswith("orders:")} == provider.scopes
    assert principal.grant.merchants == {"acme", "bravo"}
    assert (principal.grant.orders, principal.source_type) == (None, "system")


@each_provider
def test_its_token_for_another_application_allows_nothing(provider: Provider, issuer: Issuer) -> None:
    with pytest.raises(TokenError, match=r"^iss: "):
        verified(provider, issuer, iss="https://another.example")
    if "jwt_audience" in page_settings(provider.heading):
        with pytest.raises(TokenError, match=r"^aud: is not this service\.$"):
            verified(provider, issuer, aud="another")
    else:
        principal = verified(provider, issuer, scope="openid other/write", aud="another")
        assert not {scope for scope in principal.scopes if scope.startswith("orders:")}


@each_provider
def test_the_services_start_with_its_settings(provider: Provider) -> None:
    given = page_settings(provider.heading)
    check_token_settings(Settings(amqp_url="amqp://x", mongodb_url="mongodb://x", **given))
    assert urlsplit(given["jwks_url"]).netloc == urlsplit(given["jwt_issuer"]).netloc
