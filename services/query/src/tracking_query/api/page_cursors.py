"""Cursors of lists: the start of the next page, sealed together with the filter that it belongs to, so that
nobody makes one up or uses it elsewhere. Pure.
"""

import hashlib
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta

from tracking_shared.contracts.cursors import InvalidCursor
from tracking_shared.contracts.timestamps import UNIX_EPOCH

MAX_LIST_CURSOR_CHARACTERS = 160
"""The seal, two times and the longest order id in base64 take 139."""

_SEAL_BYTES = 12
_BASE64URL = re.compile(r"[0-9A-Za-z_-]+")


def cursor_key(secret: str) -> bytes:
    """The key of the seals. Replicas with the same secret take each other's cursors."""
    return hashlib.blake2b(secret.encode(), digest_size=32, person=b"list-cursors").digest()


def seal(content: bytes, binding: bytes, key: bytes) -> str:
    """`content` as opaque text that opens only with the same `binding`."""
    return urlsafe_b64encode(_seal(content, binding, key) + content).rstrip(b"=").decode("ascii")


def unseal(text: str, binding: bytes, key: bytes) -> bytes:
    """The content that `seal` was given.

    Raises:
        InvalidCursor: not one of ours, or sealed with another binding.
    """
    if len(text) > MAX_LIST_CURSOR_CHARACTERS or len(text) % 4 == 1 or not _BASE64URL.fullmatch(text):
        raise InvalidCursor("not base64url text of a cursor's length")
    sealed = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    found, content = sealed[:_SEAL_BYTES], sealed[_SEAL_BYTES:]
    if not hmac.compare_digest(found, _seal(content, binding, key)):
        raise InvalidCursor("the seal does not match")
    return content


def _seal(content: bytes, binding: bytes, key: bytes) -> bytes:
    bound = hashlib.blake2b(binding, digest_size=32).digest()
    return hashlib.blake2b(bound + content, digest_size=_SEAL_BYTES, key=key).digest()


_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class KeysetPosition:
    """A position in a sorted list: the key of the last order of a page."""

    time: datetime
    """Of the field that the list is sorted by."""

    order_id: str
    """Decides between equal times."""

    as_of: datetime | None = None
    """The horizon when the first page was read. A later one would not do for the list as a whole: an order
    that is changed meanwhile can move from a page that is still to come to one that is past."""


def encode_position(position: KeysetPosition, binding: bytes, key: bytes) -> str:
    """The position as opaque text, for lists with this `binding` (filter and sort) only."""
    # The horizon stands behind a NUL, which sorts before all that an id can go on with: the release before,
    # which takes it for a part of the id, finds the same next page (or the last order once more).
    as_of = "" if position.as_of is None else f"\0{_milliseconds(position.as_of)}"
    return seal(f"{_milliseconds(position.time)}/{position.order_id}{as_of}".encode(), binding, key)


def decode_position(text: str, binding: bytes, key: bytes) -> KeysetPosition:
    """The position that `encode_position` wrote.

    Raises:
        InvalidCursor: not one of ours, or of a list with another filter or sort.
    """
    milliseconds, _, rest = unseal(text, binding, key).decode().partition("/")
    order_id, _, as_of = rest.partition("\0")
    return KeysetPosition(_time(milliseconds), order_id, _time(as_of) if as_of else None)


def _milliseconds(time: datetime) -> int:
    return (time - UNIX_EPOCH) // _MILLISECOND


def _time(milliseconds: str) -> datetime:
    return UNIX_EPOCH + int(milliseconds) * _MILLISECOND
