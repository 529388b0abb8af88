"""Cursors: what was encoded comes back, and nothing else is taken for one."""

from base64 import urlsafe_b64encode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cursors import (
    MAX_CURSOR_CHARACTERS,
    MAX_PARTITIONS,
    MAX_SEQ,
    InvalidCursor,
    Position,
    decode_cursor,
    encode_cursor,
)

ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

positions = st.builds(
    Position,
    epoch=st.text(ALPHABET, min_size=1, max_size=32),
    seqs=st.lists(st.integers(0, MAX_SEQ), min_size=1, max_size=50).map(tuple),
)


def encoded(document: object) -> str:
    return urlsafe_b64encode(orjson.dumps(document)).rstrip(b"=").decode()


@given(positions)
def test_a_position_comes_back(position: Position) -> None:
    assert decode_cursor(encode_cursor(position)) == position


def test_the_largest_position_fits() -> None:
    largest = Position("z" * 32, (MAX_SEQ,) * MAX_PARTITIONS)
    assert len(encode_cursor(largest)) <= MAX_CURSOR_CHARACTERS
    assert decode_cursor(encode_cursor(largest)) == largest


def test_a_cursor_is_compact_and_safe_in_urls() -> None:
    assert encode_cursor(Position("abc", (1, 2))) == encoded({"e": "abc", "s": [1, 2]})
    assert "=" not in encode_cursor(Position("a", (1,)))


@given(st.text() | st.binary().map(lambda data: urlsafe_b64encode(data).decode()))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("esx"), inner),
    max_leaves=10,
)


@given(json_values)
def test_any_other_document_is_refused(document: object) -> None:
    try:
        position = decode_cursor(encoded(document))
    except InvalidCursor:
        return
    assert document == {"e": position.epoch, "s": list(position.seqs)}


@pytest.mark.parametrize(
    "document",
    [
        {"e": "a", "s": []},
        {"e": "a", "s": [-1]},
        {"e": "a", "s": [MAX_SEQ + 1]},
        {"e": "a", "s": [True]},
        {"e": "a", "s": [1.0]},
        {"e": "a", "s": ["1"]},
        {"e": "a", "s": {"0": 1}},
        {"e": "a", "s": [0] * (MAX_PARTITIONS + 1)},
        {"e": "", "s": [1]},
        {"e": "a" * 33, "s": [1]},
        {"e": "a-b", "s": [1]},
        {"e": "a\n", "s": [1]},
        {"e": 1, "s": [1]},
        {"e": "a", "s": [1], "x": 1},
        {"e": "a"},
        [],
        None,
    ],
)
def test_positions_out_of_bounds_are_refused(document: object) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(encoded(document))
