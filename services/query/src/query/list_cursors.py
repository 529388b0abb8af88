"""Cursors of lists: where the next page starts, sealed together with the filter that they belong to."""

import hashlib
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from shared.cursors import InvalidCursor

MAX_CURSOR_CHARACTERS = 160
"""The seal, a time and the longest order id in base64 take 124."""

_SEAL_BYTES = 12
_BASE64URL = re.compile(r"[0-9A-Za-z_-]+")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a sorted list: the last order of a page."""

    time: datetime
    """Of the field that the list is sorted by."""

    order_id: str
    """Decides between equal times."""


def cursor_key(secret: str) -> bytes:
    """The key of the seals. Replicas with the same secret take each other's cursors."""
    return hashlib.blake2b(secret.encode(), digest_size=32, person=b"list-cursors").digest()


def encode_place(place: Place, binding: bytes, key: bytes) -> str:
    """The place as opaque text, for lists with this `binding` (filter and sort) only."""
    content = f"{(place.time - _EPOCH) // _MILLISECOND}/{place.order_id}".encode()
    return urlsafe_b64encode(_seal(content, binding, key) + content).rstrip(b"=").decode("ascii")


def decode_place(text: str, binding: bytes, key: bytes) -> Place:
    """The place that `encode_place` wrote.

    Raises:
        InvalidCursor: not one of ours, or of a list with another filter or sort.
    """
    if len(text) > MAX_CURSOR_CHARACTERS or len(text) % 4 == 1 or not _BASE64URL.fullmatch(text):
        raise InvalidCursor("not base64url text of a cursor's length")
    sealed = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    seal, content = sealed[:_SEAL_BYTES], sealed[_SEAL_BYTES:]
    if not hmac.compare_digest(seal, _seal(content, binding, key)):
        raise InvalidCursor("the seal does not match")
    milliseconds, _, order_id = content.decode().partition("/")
    return Place(_EPOCH + int(milliseconds) * _MILLISECOND, order_id)


def _seal(content: bytes, binding: bytes, key: bytes) -> bytes:
    bound = hashlib.blake2b(binding, digest_size=32).digest()
    return hashlib.blake2b(bound + content, digest_size=_SEAL_BYTES, key=key).digest()
