"""Cursors: a position in the event log as opaque text that callers keep and hand back.

The text is base64url without padding over compact JSON ``{"e": epoch, "s": [seq of partition 0, …]}``.
It holds no secret and needs no signature: a forged one gives nobody more than their token does.
"""

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass

import orjson

MAX_PARTITIONS = 1024

MAX_SEQ = 2**40 - 1
"""Ten thousand events a second for three years, per partition."""

MAX_CURSOR_CHARACTERS = 20_000
"""The longest one within the bounds above: 1,024 numbers of 13 digits, and a third for base64."""

_EPOCH = re.compile(r"[0-9A-Za-z]{1,32}")
_BASE64URL = re.compile(r"[0-9A-Za-z_-]+")


class InvalidCursor(ValueError):
    """The text is not a cursor of ours. The message holds no part of it."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a reader stands in the log: everything up to `seqs[p]` of each partition p has been seen."""

    epoch: str
    """Names the log itself: positions of another epoch cannot be compared with these."""

    seqs: tuple[int, ...]
    """By partition; 0 = nothing yet."""


def encode_cursor(position: Position) -> str:
    """The position as text."""
    document = orjson.dumps({"e": position.epoch, "s": position.seqs})
    return urlsafe_b64encode(document).rstrip(b"=").decode("ascii")


def decode_cursor(text: str) -> Position:
    """The position that `encode_cursor` wrote.

    Raises:
        InvalidCursor: anything else; whether the position exists in the log is not checked.
    """
    if len(text) > MAX_CURSOR_CHARACTERS or not _BASE64URL.fullmatch(text):
        raise InvalidCursor("not base64url text of a cursor's length")
    try:
        document = orjson.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, orjson.JSONDecodeError) as error:
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
