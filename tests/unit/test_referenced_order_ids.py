"""References of merchants, and the order ids that every process derives from them alike."""

import hashlib
from base64 import b32decode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from tracking_shared.contracts.identifiers import is_identifier
from tracking_shared.contracts.references import (
    MAX_REFERENCE_CHARACTERS,
    Reference,
    is_foreign_id,
    is_reference,
    order_id_at,
    referenced_order_id,
)

KNOWN = {
    ("acme", "#1001"): "r-pb5y5tmdl2roqilkldkhl2f2le",
    ("globex", "#1001"): "r-t42ftctrbqxkvxykuzuclzmnii",
    ("acme", "WH/OUT/00012"): "r-zeyeiq3fkqdb54b6zhrvznr7ji",
    ("acme", "ORD 2024/17"): "r-ab3nxvlzjbwbhdiutyrvgxj6q4",
    ("acme", "ä/ö"): "r-3uukgaddpqhwb2yx7veurbldb4",
    ("acme", ".."): "r-xu2srhcmkz4247elv2eqlhgji4",
    ("acme", "a%2Fb"): "r-kkxz5mmdhud4lapblx4nszx3au",
}
"""Computed once, with another program: they never change."""

REFERENCES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=64).filter(
    is_reference
)


@pytest.mark.parametrize(("merchant_id", "reference"), KNOWN)
def test_a_reference_always_stands_for_the_same_order(merchant_id: str, reference: str) -> None:
    assert referenced_order_id(merchant_id, reference) == KNOWN[merchant_id, reference]
    assert order_id_at(merchant_id, reference) == KNOWN[merchant_id, reference]


@given(reference=REFERENCES)
def test_a_derived_id_is_an_identifier_that_holds_the_digest(reference: str) -> None:
    order_id = referenced_order_id("acme", reference)
    assert is_identifier(order_id)
    digest = hashlib.blake2b(b"acme\0" + reference.encode(), digest_size=16).digest()
    assert b32decode(order_id.removeprefix("r-").upper() + "======") == digest


@given(first=REFERENCES, second=REFERENCES)
def test_different_references_and_merchants_stand_for_different_orders(first: str, second: str) -> None:
    assert (referenced_order_id("acme", first) == referenced_order_id("acme", second)) is (first == second)
    assert referenced_order_id("acme", first) != referenced_order_id("acme1", first)


@pytest.mark.parametrize(
    "text", ["", " ", "\u2003", "\u200b", "a\nb", "a\0", "\x7f", "\x85", "x" * (MAX_REFERENCE_CHARACTERS + 1)]
)
def test_a_text_that_is_empty_blank_long_or_has_controls_is_no_reference(text: str) -> None:
    assert not is_reference(text)
    assert order_id_at("acme", text) is None
    with pytest.raises(ValidationError):
        TypeAdapter(Reference).validate_python(text)


@pytest.mark.parametrize(
    "text", ["x", "#1001", " 7", ".", "..", "a/b", "\U0001f4e6" * MAX_REFERENCE_CHARACTERS, "ä"]
)
def test_any_other_text_is_one_as_it_is(text: str) -> None:
    assert is_reference(text)
    assert TypeAdapter(Reference).validate_python(text) == text


@pytest.mark.parametrize("merchant_id", ["", "a/b", "-a", "a" * 65])
def test_what_is_no_merchant_id_has_no_orders(merchant_id: str) -> None:
    assert order_id_at(merchant_id, "#1001") is None


def test_an_order_id_of_the_derived_form_belongs_to_its_merchant_and_reference_alone() -> None:
    order_id = referenced_order_id("acme", "#1001")
    assert not is_foreign_id(order_id, "acme", "#1001")
    assert is_foreign_id(order_id, "acme", None)
    assert is_foreign_id(order_id, "acme", "#1002")
    assert is_foreign_id(order_id, "globex", "#1001")


@pytest.mark.parametrize(
    "order_id",
    ["r-1001", "R-pb5y5tmdl2roqilkldkhl2f2le", "r-pb5y5tmdl2roqilkldkhl2f2l", "o-1", "r-" + "1" * 26],
)
def test_an_order_id_of_another_form_is_free_for_all(order_id: str) -> None:
    assert not is_foreign_id(order_id, "acme", None)
    assert not is_foreign_id(order_id, "acme", "#1001")
