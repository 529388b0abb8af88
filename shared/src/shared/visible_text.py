"""Texts that people are to read: without controls, and with something to see. Pure."""

import unicodedata

CONTROL_FREE_PATTERN = r"^[^\x00-\x1f\x7f-\x9f]*$"
CONTROL_FREE_RULE = "a text without control characters"

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
    """Whether there is a character in the text that can be seen."""
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
