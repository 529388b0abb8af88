"""Cursors sealed together with what they belong to: nobody makes one up, or uses it elsewhere. Pure."""

import hashlib
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

from shared.cursors import InvalidCursor

MAX_CURSOR_CHARACTERS = 160
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
    if len(text) > MAX_CURSOR_CHARACTERS or len(text) % 4 == 1 or not _BASE64URL.fullmatch(text):
        raise InvalidCursor("not base64url text of a cursor's length")
    sealed = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    found, content = sealed[:_SEAL_BYTES], sealed[_SEAL_BYTES:]
    if not hmac.compare_digest(found, _seal(content, binding, key)):
        raise InvalidCursor("the seal does not match")
    return content


def _seal(content: bytes, binding: bytes, key: bytes) -> bytes:
    bound = hashlib.blake2b(binding, digest_size=32).digest()
    return hashlib.blake2b(bound + content, digest_size=_SEAL_BYTES, key=key).digest()
