"""What a person is told when signing in with a provider fails, and the library that it is done with."""

import hashlib
import json
from typing import Any

from console_scripts import CONSOLE, answer_of

LIBRARY_SHA256 = "72a5f6d84416e92b659c6b8fd837c5fa38d44b7f2e18f91daa1fe57da677c7ad"
"""Of build/index.js in oauth4webapi 3.8.8 of the npm registry."""

NAMES = {
    "scope": ["scope", "scp"],
    "merchants": "merchants",
    "orders": "orders",
    "all": ["orders:admin", "boss"],
}

FAULTS: list[tuple[dict[str, Any], str, bool]] = [
    ({"code": "OAUTH_AUTHORIZATION_RESPONSE_ERROR", "error": "access_denied"}, "refused or cancelled", True),
    ({"code": "OAUTH_AUTHORIZATION_RESPONSE_ERROR", "error": "login_required"}, "has ended", True),
    ({"code": "OAUTH_AUTHORIZATION_RESPONSE_ERROR", "error": "server_error"}, "cannot be reached", False),
    (
        {"code": "OAUTH_AUTHORIZATION_RESPONSE_ERROR", "error": "invalid_scope", "error_description": "no x"},
        "(invalid_scope): no x",
        True,
    ),
    ({"code": "OAUTH_RESPONSE_BODY_ERROR", "error": "invalid_grant", "status": 400}, "has ended", True),
    (
        {"code": "OAUTH_RESPONSE_BODY_ERROR", "error": "invalid_client", "status": 401},
        "(invalid_client)",
        True,
    ),
    ({"code": "OAUTH_RESPONSE_BODY_ERROR", "error": "slow_down", "status": 429}, "cannot be reached", False),
    ({"code": "OAUTH_JWT_TIMESTAMP_CHECK_FAILED"}, "clocks", True),
    ({"code": "OAUTH_JSON_ATTRIBUTE_COMPARISON_FAILED"}, "OIDC_ISSUER", True),
    ({"code": "OAUTH_INVALID_RESPONSE"}, "not the one to this sign-in", True),
    ({"message": "Failed to fetch"}, "cannot be reached", False),
    ({"code": "OAUTH_RESPONSE_IS_NOT_JSON", "cause": {"status": 429}}, "cannot be reached", False),
    (
        {
            "code": "OAUTH_RESPONSE_IS_NOT_CONFORM",
            "cause": {"status": 404, "url": "https://login.example/token"},
        },
        "https://login.example/token answered 404, so nobody can sign in there. Try again",
        True,
    ),
    (
        {"code": "OAUTH_RESPONSE_IS_NOT_JSON", "cause": {"status": 200, "url": ""}},
        "login.example did not answer as a provider does",
        True,
    ),
]

CLAIMS: list[tuple[dict[str, Any], str | None]] = [
    ({}, "JWT"),
    ({"sub": "ada"}, "no merchants"),
    ({"sub": "ada", "merchants": []}, "no merchants"),
    ({"sub": "ada", "merchants": ["acme"]}, None),
    ({"sub": "ada", "merchants": "acme bravo"}, None),
    ({"sub": "ada", "orders": ["o-1"]}, None),
    ({"sub": "ada", "scope": "orders:read orders:admin"}, None),
    ({"sub": "ada", "scp": ["boss"]}, None),
    ({"sub": "ada", "scope": "orders:read"}, "no merchants"),
]


def test_every_failure_of_a_sign_in_has_a_sentence_and_says_if_it_can_pass() -> None:
    script = """
        import { faultOf } from "./provider_words.js";
        const faults = given.map((error) => faultOf(error, "login.example"));
        console.log(JSON.stringify(faults.map(({ message, isFinal }) => [message, isFinal])));
    """
    told = answer_of(script, [error for error, _, _ in FAULTS])
    for (error, words, is_final), (message, says_final) in zip(FAULTS, told, strict=True):
        assert words in message, error
        assert says_final is is_final, error


def test_a_provider_that_is_slow_or_away_ends_no_session() -> None:
    script = """
        globalThis.isSecureContext = true;
        const { Provider } = await import("./provider.js");
        const settings = { issuer: "https://login.example", client_id: "c", scope: "openid" };
        const broken = new ReadableStream({ start: (controller) => controller.error(new TypeError("lost")) });
        const json = { headers: { "Content-Type": "application/json" } };
        const outcomes = {
          refused: () => { throw new TypeError("Failed to fetch"); },
          late: () => { throw new DOMException("too late", "TimeoutError"); },
          gateway: () => new Response("<p>Bad gateway", { status: 502 }),
          busy: () => new Response("{}", { status: 503, ...json }),
          lost: () => new Response(broken, json),
          other: () => new Response("{", json),
          missing: () => new Response("", { status: 404 }),
        };
        const seen = {};
        for (const [name, outcome] of Object.entries(outcomes)) {
          globalThis.fetch = async () => outcome();
          await new Provider(settings, 0).begin().catch(({ isFinal }) => (seen[name] = isFinal));
        }
        console.log(JSON.stringify(seen));
    """
    passing = dict.fromkeys(("refused", "late", "gateway", "busy", "lost"), False)
    assert answer_of(script, None) == passing | {"other": True, "missing": True}


def test_the_address_that_failed_is_named() -> None:
    script = """
        globalThis.isSecureContext = true;
        const { Provider } = await import("./provider.js");
        const told = [];
        const away = () => { throw new TypeError("Failed to fetch"); };
        for (const answer of [() => new Response("", { status: 404 }), away]) {
          globalThis.fetch = async () => answer();
          const settings = { issuer: "https://login.example/realms/a/", client_id: "c", scope: "openid" };
          await new Provider(settings, 0).begin().catch(({ message }) => told.push(message));
        }
        console.log(JSON.stringify(told));
    """
    missing, away = answer_of(script, None)
    address = "https://login.example/realms/a/.well-known/openid-configuration"
    assert missing.startswith(f"{address} answered 404")
    assert away.startswith(f"{address} cannot be reached")
    assert all("tell your administrator" in told for told in (missing, away))


def test_a_token_of_no_use_is_recognised() -> None:
    script = """
        import { uselessBecause } from "./provider_words.js";
        const reasons = given.claims.map((claims) => uselessBecause(claims, given.names, "login.example"));
        console.log(JSON.stringify(reasons));
    """
    told = answer_of(script, {"claims": [claims for claims, _ in CLAIMS], "names": NAMES})
    for (claims, words), reason in zip(CLAIMS, told, strict=True):
        assert (reason is None) is (words is None), claims
        assert words is None or words in reason, claims


def test_a_callback_is_told_from_the_addresses_of_the_console() -> None:
    script = """
        import { isCallback } from "./arrival.js";
        console.log(JSON.stringify(given.map((address) => isCallback(new URLSearchParams(address)))));
    """
    asked = ["code=a&state=b", "error=a&state=b", "status=created", "order=o-1", "state=b", "code=a", ""]
    assert answer_of(script, asked) == [True, True, False, False, False, False, False]


def test_the_library_is_the_one_of_the_registry() -> None:
    text = (CONSOLE / "oauth4webapi.js").read_text()
    licence, library = text.split(" */\n", 1)
    assert "The MIT License" in licence
    assert "oauth4webapi 3.8.8" in licence
    assert hashlib.sha256(library.encode()).hexdigest() == LIBRARY_SHA256


def test_the_provider_of_the_tests_is_pinned_with_hashes_and_names_no_host() -> None:
    lock = json.loads((CONSOLE.parents[1] / "tests/provider/package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert packages["node_modules/oidc-provider"]["version"] == "9.13.3"
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    assert all("resolved" not in entry for entry in packages.values())
