"""Refuses what may not be in a JSON text that comes from outside, and that parsers commonly let pass.

Everything else (syntax, UTF-8, half surrogates, depth, digits) the parser of pydantic refuses by itself; so
these functions are for texts that it has read already.
"""

import json
import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from decimal import Decimal
from math import isfinite
from typing import Any

MAX_NUMBER_CHARACTERS = 1100
"""More than a double needs that is written down to its last digit."""

DOUBLE_DIGITS = 17
"""With so many, programs write doubles so that each is read back as itself."""

_SPACE = re.compile(r"[ \t\n\r]*")
_GAP = re.compile(r"[ \t\n\r,]*")


class NotStrict(ValueError):
    """The text says something that readers could take in two ways. The message is for its sender."""


class InexactNumber(NotStrict):
    """A number that would be kept as another one. The message is for its sender."""

    def __init__(self, number: str) -> None:
        super().__init__(f"{number[:40]} is a number that cannot be kept as it is written; send it as a text")


def without_byte_order_mark(text: bytes) -> bytes:
    """The text without the mark that some programs put at its beginning (RFC 8259, 8.1)."""
    return text.removeprefix(BOM_UTF8)


def refuse_ambiguous(text: bytes) -> None:
    """Refuses repeated names in an object (RFC 8259 leaves open which one counts; a checker and a doer who
    choose differently can be played against each other), NaN and Infinity, which are no JSON, and numbers
    that would be kept as others.

    Costs about 2 µs for a usual body.

    Raises:
        NotStrict: there is one; `InexactNumber`, if it is a number and nothing else.
    """
    _STRICT.decode(text.decode())


def split_array(text: bytes) -> Iterator[bytes]:
    """The texts of the items of a JSON array that has been read already."""
    characters = text.decode()
    place = _SPACE.match(characters, characters.index("[") + 1).end()  # type: ignore[union-attr]  # may be empty
    while characters[place] != "]":
        _, end = _PLAIN.raw_decode(characters, place)
        yield characters[place:end].encode()
        place = _GAP.match(characters, end).end()  # type: ignore[union-attr]  # may be empty


def _once(pairs: list[tuple[str, Any]]) -> None:
    names = {name for name, _ in pairs}
    if len(names) < len(pairs):
        raise NotStrict("an object has the same name twice")


def _no_number(text: str) -> None:
    raise NotStrict(f"{text} is no JSON")


def _exact(text: str) -> None:
    if len(text) > DOUBLE_DIGITS or "e" in text or "E" in text:
        _compare(text)


def _compare(text: str) -> None:
    """Raises `InexactNumber` for what is not 0 and would be kept as 0, and for more than 17 digits unless
    they are those of the double (so the output of `printf` is valid, whatever its format).
    """
    if len(text) > MAX_NUMBER_CHARACTERS:
        raise InexactNumber(text)
    digits = text.lower().partition("e")[0].replace("-", "").replace(".", "").strip("0")
    value = float(text)
    if not isfinite(value):  # refused elsewhere
        return
    if digits and value == 0:
        raise InexactNumber(text)
    if len(digits) > DOUBLE_DIGITS and Decimal(f"{value:.{len(digits) - 1}e}") != Decimal(text):
        raise InexactNumber(text)


_STRICT = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_number, parse_float=_exact)
_PLAIN = json.JSONDecoder()
