"""Identifiers: their alphabet, and how the system makes its own."""

import hashlib
import re
from typing import Annotated

import uuid_utils
from pydantic import StringConstraints

MAX_IDENTIFIER_CHARACTERS = 64


def identifier_pattern(most: int) -> str:
    """The regular expression of an identifier of at most so many characters."""
    return rf"^[A-Za-z0-9][A-Za-z0-9._:\-]{{0,{most - 1}}}$"


IDENTIFIER_PATTERN = identifier_pattern(MAX_IDENTIFIER_CHARACTERS)
IDENTIFIER_RULE = f"1 to {MAX_IDENTIFIER_CHARACTERS} of letters, digits and . _ : -, a letter or digit first"
_IDENTIFIER = re.compile(IDENTIFIER_PATTERN[1:-1])

Identifier = Annotated[str, StringConstraints(pattern=IDENTIFIER_PATTERN)]


def is_identifier(text: str) -> bool:
    """Whether `text` is 1 to 64 of ``A-Z a-z 0-9 . _ : -`` with a letter or digit first."""
    return _IDENTIFIER.fullmatch(text) is not None


def new_update_id() -> str:
    """A fresh UUIDv7 (RFC 9562): unique without coordination, and sorted by time."""
    return str(uuid_utils.uuid7())


def derived_order_id(subject: str, update_id: str) -> str:
    """The order id of a create that names none: the same caller and key always give the same id,
    so that a retried create finds the order that its first attempt made.
    """
    digest = hashlib.blake2b(f"{subject}\n{update_id}".encode(), digest_size=16).hexdigest()
    return f"o-{digest}"
