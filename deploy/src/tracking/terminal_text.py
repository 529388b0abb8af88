"""Text from outside, made safe to show on a terminal. Pure."""

import unicodedata

_ESCAPED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Controls, formatting (bidirectional or of no width), surrogates, unassigned ones, line separators."""

_BLANK_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and symbols that show nothing."""


def printable(text: str) -> str:
    """The text, with each character that a terminal would act on or not show as an escape (``\\u202e``)."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(character) if _is_hidden(character) else character for character in text)


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _ESCAPED_CATEGORIES or character in _BLANK_LETTERS


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
