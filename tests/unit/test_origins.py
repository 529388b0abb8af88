"""Which pages may call from a browser, and what their browsers are told."""

import pytest

from tracking_shared.policy.origins import (
    BadOrigin,
    cross_origin_headers,
    is_foreign,
    parse_origins,
    preflight_headers,
)

DESK = "https://desk.example"


def test_a_list_is_read_as_browsers_write_origins() -> None:
    text = " https://Desk.example , http://localhost:8080,https://desk.example:443,http://[::1]:5173,"
    assert parse_origins(text) == {DESK, "http://localhost:8080", "http://[::1]:5173"}
    assert parse_origins("") == frozenset()


@pytest.mark.parametrize(
    "origin",
    [
        *("capacitor://localhost", "ionic://localhost", "tauri://localhost", "https://tauri.localhost"),
        *("http://localhost", "my-app+x.1://App.Example", "tauri://localhost:1420"),
    ],
)
def test_the_pages_of_hybrid_apps_have_origins(origin: str) -> None:
    origins = parse_origins(f"{DESK},{origin}")
    assert origins == {DESK, origin}
    assert not is_foreign(origins, [origin])
    assert (b"access-control-allow-origin", origin.encode()) in cross_origin_headers(origins, origin)


@pytest.mark.parametrize(
    "text",
    [
        "file://",
        "file://x",
        "data://x",
        "ws://desk.example",
        "capacitor://",
        "capacitor:localhost",
        "*",
        "null",
        "desk.example",
        "https://",
        f"{DESK}/",
        f"{DESK}/x",
        "https://*.example",
        "ftp://a",
        "a b",
    ],
)
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(BadOrigin):
        parse_origins(text)


def test_the_list_is_bounded() -> None:
    with pytest.raises(BadOrigin):
        parse_origins(",".join(f"https://a{n}.example" for n in range(101)))


def test_programs_send_no_origin_and_are_not_foreign() -> None:
    assert not is_foreign(frozenset(), [])
    assert is_foreign(frozenset(), [DESK])
    assert not is_foreign(frozenset({DESK}), [DESK])
    assert is_foreign(frozenset({DESK}), ["https://evil.example"])
    assert is_foreign(frozenset({DESK}), [DESK, DESK])
    assert is_foreign(frozenset({DESK}), ["null"])


def test_an_answer_names_the_origin_only_if_it_is_allowed() -> None:
    allowed = dict(cross_origin_headers(frozenset({DESK}), DESK))
    assert allowed[b"access-control-allow-origin"] == DESK.encode()
    assert allowed[b"vary"] == b"Origin"
    assert dict(cross_origin_headers(frozenset({DESK}), "https://evil.example")) == {b"vary": b"Origin"}
    assert dict(cross_origin_headers(frozenset({DESK}), None)) == {b"vary": b"Origin"}
    assert cross_origin_headers(frozenset(), DESK) == []


def test_credentials_are_never_allowed() -> None:
    answered = preflight_headers(frozenset({DESK}), DESK, "POST") or []
    assert b"access-control-allow-credentials" not in dict(answered)


def test_only_an_allowed_page_is_told_what_it_may_send() -> None:
    origins = frozenset({DESK})
    answered = dict(preflight_headers(origins, DESK, "POST") or [])
    assert b"Idempotency-Key" in answered[b"access-control-allow-headers"]
    assert b"Authorization" in answered[b"access-control-allow-headers"]
    assert preflight_headers(origins, "https://evil.example", "POST") is None
    assert preflight_headers(origins, None, "POST") is None
    assert preflight_headers(origins, DESK, None) is None
    assert preflight_headers(frozenset(), DESK, "POST") is None
