"""Cursors: a position in the event log as opaque text that callers keep and hand back. Pure.

A position shows the number of all events, which must stay hidden from those who see only some of them. So
it is sealed: base64url without padding over one byte for the form, four that name the key, and the positions,
all of one width, encrypted with AES-SIV (RFC 5297). Equal positions give equal texts, which reveals nothing.

The clear form is base64url over compact JSON ``{"e": epoch, "s": [seq of partition 0, …]}``. It is written
where there is no key yet. It needs no signature: a forged one gives nobody more than their token does.
"""

import binascii
import hashlib
import re
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Literal

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from tracking_shared.contracts.documents import MAX_SEQ

MAX_PARTITIONS = 1024

MAX_CURSOR_CHARACTERS = 20_000
"""The longest one within the bounds above: 1,024 numbers of 13 digits, and a third for base64."""

CURSOR_KEY_BYTES = 32
"""Two keys of AES-128: one for the synthetic nonce, one for the text."""

NO_EPOCH = "?"
"""The epoch of no log: that of a position which another log's key has sealed."""

_SEALED = 1
_NAME_BYTES = 4
_SEAL_BYTES = 16
_SEQ_BYTES = 8
_CONTENT_AT = 1 + _NAME_BYTES

_EPOCH = re.compile(r"[0-9A-Za-z]{1,32}")
_BASE64URL = re.compile(r"[0-9A-Za-z_-]+")


class InvalidCursor(ValueError):
    """The text is not a cursor of ours. The message holds no part of it."""


@dataclass(frozen=True, slots=True)
class Position:
    """The position of a reader in the log: everything up to `seqs[p]` of each partition p has been seen."""

    epoch: str
    """Names the log itself: positions of another epoch cannot be compared with these."""

    seqs: tuple[int, ...]
    """By partition; 0 = nothing yet."""

    first_partitions: int = field(default=0, compare=False)
    """Of the end of a log: the partitions that it had at its start, where that is known."""


def resync_reason(position: Position, end: Position) -> Literal["epoch-changed", "position-unknown"] | None:
    """The reason why the log that ends at `end` cannot be read on from `position`; None if it can.

    A position beyond the end is one of a log that was set back, or was never given out by us. One of fewer
    partitions is from before their number was changed, if it has as many as there were at the start: nothing
    of the new ones was read.
    """
    if position.epoch != end.epoch or not end.first_partitions <= len(position.seqs) <= len(end.seqs):
        return "epoch-changed"
    if any(seq > last for seq, last in zip(position.seqs, end.seqs, strict=False)):
        return "position-unknown"
    return None


def is_before(position: Position, start: Position) -> bool:
    """True if the log that begins behind `start` lacks events that follow `position`. Both are of one log."""
    return any(seq < first for seq, first in zip_longest(position.seqs, start.seqs, fillvalue=0))


class CursorSeal:
    """Seals the positions of one log, and opens them again."""

    __slots__ = ("_bound", "_cipher", "_head", "epoch", "sealed_from")

    def __init__(self, epoch: str, key: bytes, sealed_from: float) -> None:
        """`sealed_from`: since when every reader of the log can open what is sealed, seconds since 1970."""
        self.epoch = epoch
        self.sealed_from = sealed_from
        self._cipher = AESSIV(key)
        name = hashlib.blake2b(key, digest_size=_NAME_BYTES, person=b"cursor-key").digest()
        self._head = bytes([_SEALED]) + name
        self._bound = [self._head, epoch.encode()]

    def seal(self, seqs: Sequence[int]) -> str:
        """The position of the log with these `seqs` as text."""
        content = self._cipher.encrypt(struct.pack(f">{len(seqs)}Q", *seqs), self._bound)
        return _text_of(self._head + content)

    def has_sealed(self, content: bytes) -> bool:
        """True if this names this key as that of its seal."""
        return content.startswith(self._head)

    def open(self, content: bytes) -> Position:
        """The position of the log that was sealed.

        Raises:
            InvalidCursor: the seal does not hold.
        """
        try:
            packed = self._cipher.decrypt(content[_CONTENT_AT:], self._bound)
        except (InvalidTag, ValueError):
            raise InvalidCursor("not sealed by us") from None
        return Position(self.epoch, struct.unpack(f">{len(packed) // _SEQ_BYTES}Q", packed))


def cursor_content(text: str) -> bytes:
    """The bytes that the text of a cursor stands for.

    Raises:
        InvalidCursor: it is no text of a cursor.
    """
    if len(text) > MAX_CURSOR_CHARACTERS or not _BASE64URL.fullmatch(text):
        raise InvalidCursor("not base64url text of a cursor's length")
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise InvalidCursor("not base64url text") from error


def is_sealed(content: bytes) -> bool:
    """True if this has the form of a sealed position."""
    length = len(content) - _CONTENT_AT - _SEAL_BYTES
    return content[0] == _SEALED and length > 0 and length % _SEQ_BYTES == 0


def open_cursor(text: str, seal: CursorSeal | None) -> Position:
    """The position that was sealed, given the seal of the log, or written in the clear. What another key has
    sealed is a position of another log: of the epoch `NO_EPOCH`.

    Raises:
        InvalidCursor: anything else; whether the position exists in the log is not checked.
    """
    content = cursor_content(text)
    if not is_sealed(content):
        return decode_cursor(text)
    if _text_of(content) != text:
        raise InvalidCursor("not base64url text as it is written")
    if seal is None or not seal.has_sealed(content):
        return Position(NO_EPOCH, (0,))
    return seal.open(content)


def encode_cursor(position: Position) -> str:
    """The position as text, in the clear."""
    return _text_of(orjson.dumps({"e": position.epoch, "s": position.seqs}))


def _text_of(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


RESYNC_CURSOR = _text_of(bytes([_SEALED]) + bytes(_NAME_BYTES + _SEAL_BYTES + _SEQ_BYTES))
"""A cursor of no log: a reader that continues from it is told to begin anew."""


def decode_cursor(text: str) -> Position:
    """The position that `encode_cursor` wrote.

    Raises:
        InvalidCursor: anything else; whether the position exists in the log is not checked.
    """
    try:
        document = orjson.loads(cursor_content(text))
    except orjson.JSONDecodeError as error:
        raise InvalidCursor("not JSON inside") from error
    if not isinstance(document, dict) or set(document) != {"e", "s"}:
        raise InvalidCursor("not a position inside")
    return Position(_checked_epoch(document["e"]), _checked_seqs(document["s"]))


def _checked_epoch(epoch: object) -> str:
    if not isinstance(epoch, str) or not _EPOCH.fullmatch(epoch):
        raise InvalidCursor("not an epoch inside")
    return epoch


def _checked_seqs(seqs: object) -> tuple[int, ...]:
    if not isinstance(seqs, list) or not 1 <= len(seqs) <= MAX_PARTITIONS:
        raise InvalidCursor("not a list of positions inside")
    if not all(type(seq) is int and 0 <= seq <= MAX_SEQ for seq in seqs):
        raise InvalidCursor("a position inside is not a number within bounds")
    return tuple(seqs)
