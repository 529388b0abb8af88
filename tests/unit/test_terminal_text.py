"""Text that a terminal would act on, or not show, is written as escapes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking.terminal_text import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Jürgen Groß 東京 🚚", "Jürgen Groß 東京 🚚"),
        ("\x1b[31m\x07\x9b", "\\u001b[31m\\u0007\\u009b"),
        ("a\u202eb\u2066c\u200fd\u061ce", "a\\u202eb\\u2066c\\u200fd\\u061ce"),
        ("a\r\nb\u2028c\u2029", "a\\u000d\\u000ab\\u2028c\\u2029"),
        ("\ud800", "\\ud800"),
        ("\u200b\u3164\u2800\u00ad\ufeff", "\\u200b\\u3164\\u2800\\u00ad\\ufeff"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_hidden_characters_become_escapes_and_all_others_stay(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_what_is_shown_is_shown_again_as_it_is(text: str) -> None:
    assert printable(printable(text)) == printable(text)
