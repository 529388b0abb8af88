"""Texts that people read and search: without controls, with something to see, and as words. Pure."""

import re
import unicodedata
from collections.abc import Iterator

from tracking_shared.contracts.documents import EventDocument

CONTROL_FREE_PATTERN = r"^[^\x00-\x1f\x7f-\x9f]*$"
CONTROL_FREE_RULE = "a text without control characters"

MAX_CONTACT_CHARACTERS = 128
"""Of `customer.contact_ref`."""

NOTE_PATTERN = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$"
"""A text of several lines: of the controls it may have tabs and ends of lines."""

FORMULA_STARTS = frozenset("=+-@\t\r\n＝＋－＠")  # noqa: RUF001 - the wide ones are formulas in some locales
"""First characters that make a spreadsheet take a text for a formula (OWASP, CSV injection). An apostrophe in
front of it prevents that."""

_UNSEEN_CATEGORIES = frozenset({"Zs", "Zl", "Zp", "Cc", "Cf", "Cs"})

_DEFAULT_IGNORABLE = (
    (0x034F, 0x034F),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x2060, 0x206F),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFF8),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),
)
"""First and last of each run of `Default_Ignorable_Code_Point` (Unicode, DerivedCoreProperties), those of an
unseen category aside. The Hangul fillers are among them.
"""

_BLANK_SYMBOLS = frozenset("\u2800\U0001d159")
"""The braille pattern without dots, and the note without a head."""


def shows_something(text: str) -> bool:
    """True if there is a character in the text that can be seen."""
    return any(map(_is_seen, text))


def _is_seen(character: str) -> bool:
    if character.isascii():
        return "!" <= character <= "~"
    code = ord(character)
    return (
        unicodedata.category(character) not in _UNSEEN_CATEGORIES
        and character not in _BLANK_SYMBOLS
        and not any(first <= code <= last for first, last in _DEFAULT_IGNORABLE)
    )


def canonical_form(text: str) -> str:
    """The text in NFC: what looks the same and means the same is then equal, however it was typed."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def canonical_forms(text: str) -> list[str]:
    """The ways in which the text may have been written down: in NFC first, as it is, and in NFD."""
    return list(dict.fromkeys((canonical_form(text), text, unicodedata.normalize("NFD", text))))


MAX_WORDS = 32
"""Of one order: up to ten come from what every order has, up to eight from the reference, the others from the
name: first its words, then their parts. A longer name is found by its first words."""

MAX_REFERENCE_WORDS = 8

MAX_WORD_CHARACTERS = 64
"""As long as an order id. What is longer is found by its beginning."""

MAX_SEARCHED_WORDS = 8

_LAST = "\U0010ffff"
"""Behind every text that begins with what stands before it."""

_BASE_LETTERS = str.maketrans(
    {
        "ß": "ss",
        "æ": "ae",
        "œ": "oe",
        "ø": "o",
        "ł": "l",
        "đ": "d",
        "ð": "d",
        "þ": "th",
        "\N{LATIN SMALL LETTER DOTLESS I}": "i",
    }
)
"""Letters that Unicode does not take apart, and that people type without their stroke."""

_PARTS = re.compile(r"[^\w@+]+|_")


def fold(text: str) -> str:
    """Without case and accents, ligatures and wide forms taken apart: `Łódź` is `lodz`."""
    decomposed = unicodedata.normalize("NFKD", text)
    return (
        "".join(each for each in decomposed if unicodedata.category(each)[0] != "M")
        .lower()
        .translate(_BASE_LETTERS)
    )


def words_of_event(event: EventDocument) -> list[str]:
    """The words of an order as it stands after `event`: at most `MAX_WORDS`, none twice."""
    found: dict[str, None] = {}
    for word in _words(event):
        found[word[:MAX_WORD_CHARACTERS]] = None
        if len(found) == MAX_WORDS:
            break
    return list(found)


def _words(event: EventDocument) -> Iterator[str]:
    customer = event["customer"]
    yield fold(event["order_id"])
    yield fold(event["merchant_id"])
    yield from _reference_words(event.get("reference"))
    contact_refs = [customer["contact_ref"]] if customer else []
    for text in (*contact_refs, event["source"]["id"]):
        words = fold(text).split()
        yield from words[:3]
        if len(words) > 1:
            yield "".join(words)
    name = fold(customer["name"]).split() if customer else []
    yield from name
    for word in name:
        yield from filter(None, _PARTS.split(word))


def _reference_words(reference: str | None) -> list[str]:
    """The reference itself, and each of its parts: `WH/OUT/00012` is found by `wh/out` and by `00012`."""
    words = fold(reference or "").split()
    if len(words) > 1:
        words.append("".join(words))
    parts = [part for word in words for part in _PARTS.split(word) if part]
    return list(dict.fromkeys(words + parts))[:MAX_REFERENCE_WORDS]


def searched_words(text: str) -> list[str]:
    """The beginnings that a search asks for, the longest first: it leaves the fewest orders. None: it asks
    for nothing.
    """
    words = dict.fromkeys(word[:MAX_WORD_CHARACTERS] for word in fold(text).split())
    return sorted(words, key=len, reverse=True)[:MAX_SEARCHED_WORDS]


def begins_with(word: str) -> dict[str, str]:
    """The condition that a text begins with `word`: a range, since UTF-8 is in the order of code points."""
    return {"$gte": word, "$lt": word + _LAST}
