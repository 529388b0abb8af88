"""Challenges: what `WWW-Authenticate` says where a request is refused (RFC 6750, section 3). Pure."""

import re

from shared.problems import CHALLENGE, Problem

_NOT_ALLOWED = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")
"""What a description must not hold (RFC 6750, section 3)."""


def no_token(detail: str) -> Problem:
    """401 for a request without a token: no error is named then."""
    return Problem("unauthenticated", detail)


def invalid_token(detail: str) -> Problem:
    """401 for a token that is refused, and why."""
    challenge = f'{CHALLENGE}, error="invalid_token", error_description="{_described(detail)}"'
    return Problem("unauthenticated", detail, own_headers={"WWW-Authenticate": challenge})


def insufficient_scope(detail: str, scope: str) -> Problem:
    """403 for a token that is good and does not allow this. `scope`: what the resource asks for."""
    challenge = (
        f'{CHALLENGE}, error="insufficient_scope", scope="{scope}", error_description="{_described(detail)}"'
    )
    return Problem("forbidden", detail, own_headers={"WWW-Authenticate": challenge})


def _described(detail: str) -> str:
    return _NOT_ALLOWED.sub("'", detail)
