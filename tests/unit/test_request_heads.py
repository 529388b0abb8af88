"""The head of a request: which hosts are taken, and which forms of its target."""

import pytest

from tracking_shared.http.request_parser import host_fault, origin_form


@pytest.mark.parametrize("host", ["a.example", "a.example:8001", "[::1]:8001", "127.0.0.1", "", "localhost:"])
def test_one_host_is_taken(host: str) -> None:
    assert host_fault("1.1", [host]) is None


@pytest.mark.parametrize("host", ["a b", "a/b", "user@host", "a:b", "a?b", "[::1", "a\tb", "http://a"])
def test_what_is_no_host_is_refused(host: str) -> None:
    assert host_fault("1.1", [host]) == "The Host field is not a host."
    assert host_fault("1.0", [host]) == "The Host field is not a host."


def test_http_1_1_needs_exactly_one_host_and_1_0_none() -> None:
    assert host_fault("1.1", []) == "HTTP/1.1 needs a Host field."
    assert host_fault("1.0", []) is None
    assert host_fault("1.1", ["a", "a"]) == "Send one Host field."
    assert host_fault("1.0", ["a", "b"]) == "Send one Host field."


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/v1/stream?a=1", "/v1/stream?a=1"),
        ("http://notifier.example:8003/v1/stream?a=1", "/v1/stream?a=1"),
        ("HTTPS://notifier.example/healthz", "/healthz"),
        ("http://notifier.example", "/"),
        ("http://notifier.example?a=1", "/?a=1"),
        ("*", "*"),
        ("//evil.example/v1/stream", "//evil.example/v1/stream"),
    ],
)
def test_a_target_in_the_absolute_form_is_that_of_its_path(target: str, path: str) -> None:
    assert origin_form(target) == path
