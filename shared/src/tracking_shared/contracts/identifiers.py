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
_CONTENT_UPDATE_ID = re.compile(r"load-[0-9a-f]{32}")

Identifier = Annotated[str, StringConstraints(pattern=IDENTIFIER_PATTERN)]

MAX_SUBJECT_CHARACTERS = 255
"""As much as issuers give (OpenID Connect Core, section 2)."""

SUBJECT_RULE = f"1 to {MAX_SUBJECT_CHARACTERS} characters without controls"
SUBJECT_PATTERN = rf"^[^\x00-\x1f\x7f-\x9f]{{1,{MAX_SUBJECT_CHARACTERS}}}$"
_SUBJECT = re.compile(rf"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{{1,{MAX_SUBJECT_CHARACTERS}}}")

Subject = Annotated[str, StringConstraints(pattern=SUBJECT_PATTERN)]
"""The subject of a token, and so the source of a change: any StringOrURI of RFC 7519, such as `auth0|5f7c`,
a mail address or a UUID. Compared character by character.
"""


def is_identifier(text: str) -> bool:
    """True if `text` is 1 to 64 of ``A-Z a-z 0-9 . _ : -`` with a letter or digit first."""
    return _IDENTIFIER.fullmatch(text) is not None


def is_subject(text: str) -> bool:
    """True if `text` can be a subject: 1 to 255 characters without controls."""
    return _SUBJECT.fullmatch(text) is not None


def new_update_id() -> str:
    """A fresh UUIDv7 (RFC 9562): unique without coordination, and sorted by time."""
    return str(uuid_utils.uuid7())


def content_update_id(content: bytes) -> str:
    """The update id of a row or line of a file that names none: the same content always gives the same id."""
    return f"load-{hashlib.blake2b(content, digest_size=16).hexdigest()}"


def is_content_update_id(update_id: str) -> bool:
    """True if it was derived from content. It names what happened, not one attempt to report it: whoever made
    it cannot choose another one once the order stands where the update can follow.
    """
    return _CONTENT_UPDATE_ID.fullmatch(update_id) is not None


def derived_order_id(subject: str, update_id: str) -> str:
    """The order id of a create that names none: the same caller and key always give the same id,
    so that a retried create finds the order that its first attempt made.
    """
    digest = hashlib.blake2b(f"{subject}\n{update_id}".encode(), digest_size=16).hexdigest()
    return f"o-{digest}"


# Which partition an order belongs to. The answer never changes for a given partition count.


def partition_of(order_id: str, partitions: int) -> int:
    """The partition of an order, 0 to `partitions` - 1.

    Computed here and not by a broker plugin, so that it is the same in every process, in every
    release and after every restart. BLAKE2b (RFC 7693) spreads even ids that differ in one digit.
    """
    digest = hashlib.blake2b(order_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % partitions
