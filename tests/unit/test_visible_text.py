"""Texts that people are to read: whether there is something to see, and in which form they are compared."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking_shared.contracts.texts import canonical_form, canonical_forms, shows_something

UNSEEN = [
    *" \u00a0\u2003\u3000\u2028\u2029\u00ad\u034f\u061c\u115f\u1160\u17b4\u180e\u180f\u200b\u200d\u200e",
    *"\u202e\u2060\u2069\u2800\u3164\ufe0f\ufeff\uffa0\U0001d159\U0001d173\U000e0020\U000e0100\U000e0fff",
]


@given(st.text(st.sampled_from(UNSEEN)))
def test_text_of_unseen_characters_shows_nothing(text: str) -> None:
    assert not shows_something(text)


@given(
    st.text(),
    st.characters(categories=["Lu", "Ll", "Lo", "Nd", "Po", "Sm"], exclude_characters=UNSEEN),
    st.text(),
)
def test_one_character_that_can_be_seen_is_enough(before: str, seen: str, after: str) -> None:
    assert shows_something(before + seen + after) or 0x115F <= ord(seen) <= 0xFFF8


@pytest.mark.parametrize(
    "text", ["7", ".", "é", "e\u0301", "李", "\u0627", "👩\u200d🚀", "한", "\u0301a", "⠁", "\U0001fae8"]
)
def test_names_of_all_scripts_show_something(text: str) -> None:
    assert shows_something(text)


@given(st.text())
def test_a_text_is_found_in_whichever_form_it_was_stored(text: str) -> None:
    for sent in ("NFC", "NFD"):
        forms = canonical_forms(unicodedata.normalize(sent, text))
        assert forms[0] == canonical_form(text)
        assert {unicodedata.normalize(stored, text) for stored in ("NFC", "NFD")} <= set(forms)
    assert text in canonical_forms(text)


def test_a_text_with_one_form_is_asked_for_once() -> None:
    assert canonical_forms("crm:17") == ["crm:17"]
