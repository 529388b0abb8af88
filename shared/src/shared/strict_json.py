"""What may not be in a JSON text that comes from outside, and that parsers commonly let pass.

Everything else (syntax, UTF-8, half surrogates, a byte order mark, depth, digits) the parser of
pydantic refuses by itself; so these functions are for texts that it has read already.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

_SPACE = re.compile(r"[ \t\n\r]*")
_GAP = re.compile(r"[ \t\n\r,]*")


class NotStrict(ValueError):
    """The text says something that readers could take in two ways. The message is for its sender."""


def refuse_ambiguous(text: bytes) -> None:
    """Refuses repeated names in an object (RFC 8259 leaves open which one counts; a checker and a doer who
    choose differently can be played against each other), and NaN and Infinity, which are no JSON.

    Costs about 2 µs for a usual body.

    Raises:
        NotStrict: there is one.
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


_STRICT = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_number)
_PLAIN = json.JSONDecoder()
