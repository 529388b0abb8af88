"""What `WWW-Authenticate` says (RFC 6750, section 3)."""

import re

from hypothesis import given
from hypothesis import strategies as st

from tracking_shared.http.callers import insufficient_scope, invalid_token, no_token

_DESCRIPTION = r'"[\x20-\x21\x23-\x5b\x5d-\x7e]*"'


def test_without_a_token_no_error_is_named() -> None:
    assert no_token("Send one.").headers() == {"WWW-Authenticate": 'Bearer realm="tracking"'}


def test_a_refused_token_is_told_why() -> None:
    assert invalid_token("exp: the token has expired.").headers() == {
        "WWW-Authenticate": 'Bearer realm="tracking", error="invalid_token",'
        ' error_description="exp: the token has expired."'
    }
    assert insufficient_scope("No scope.", "orders:read").headers() == {
        "WWW-Authenticate": 'Bearer realm="tracking", error="insufficient_scope",'
        ' scope="orders:read", error_description="No scope."'
    }


@given(st.text())
def test_a_description_holds_what_it_may(detail: str) -> None:
    for problem in (invalid_token(detail), insufficient_scope(detail, "orders:read")):
        value = problem.headers()["WWW-Authenticate"]
        assert re.fullmatch(rf"Bearer .*error_description={_DESCRIPTION}", value), value
        assert problem.detail == detail
