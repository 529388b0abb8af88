"""References: a merchant's own numbers for its orders, and the order ids that are derived from them. Pure."""

import hashlib
import re
from base64 import b32encode
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

from tracking_shared.contracts.identifiers import is_identifier
from tracking_shared.contracts.texts import CONTROL_FREE_PATTERN, shows_something

MAX_REFERENCE_CHARACTERS = 64

_DERIVED_ID = re.compile(r"r-[a-z2-7]{26}")
_CONTROL_FREE = re.compile(CONTROL_FREE_PATTERN[1:-1])


def _visible(reference: str) -> str:
    if not shows_something(reference):
        raise ValueError("must have a character that can be seen")
    return reference


Reference = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_REFERENCE_CHARACTERS, pattern=CONTROL_FREE_PATTERN),
    AfterValidator(_visible),
]
"""The number that a merchant gives its order, such as `WH/OUT/00012` or `#1001`. Two merchants may have the
same. Compared character by character: neither case nor Unicode form is changed.
"""


def is_reference(text: str) -> bool:
    """True if `text` can be a reference: 1 to 64 characters without controls, one of which can be seen."""
    return (
        0 < len(text) <= MAX_REFERENCE_CHARACTERS
        and _CONTROL_FREE.fullmatch(text) is not None
        and shows_something(text)
    )


def referenced_order_id(merchant_id: str, reference: str) -> str:
    """The id of the order that a merchant created with this reference and without an order id of its own.

    Any process can compute it without a look-up, so the same reference of a merchant is always the same
    order: ``referenced_order_id("acme", "#1001")`` is ``r-pb5y5tmdl2roqilkldkhl2f2le``. The two are joined by
    a NUL, which neither can contain.
    """
    digest = hashlib.blake2b(f"{merchant_id}\0{reference}".encode(), digest_size=16).digest()
    return f"r-{b32encode(digest).decode().rstrip('=').lower()}"


def order_id_at(merchant_id: str, reference: str) -> str | None:
    """`referenced_order_id` of texts from outside; None if there cannot be such an order."""
    if is_identifier(merchant_id) and is_reference(reference):
        return referenced_order_id(merchant_id, reference)
    return None


def is_foreign_id(order_id: str, merchant_id: str, reference: str | None) -> bool:
    """True if an order id has the form of those that are derived, and belongs to another merchant or
    reference. Nobody may choose such an id: it would take the place of the order to which it belongs.
    """
    if not _DERIVED_ID.fullmatch(order_id):
        return False
    return reference is None or referenced_order_id(merchant_id, reference) != order_id
