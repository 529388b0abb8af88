"""Cursors: what was encoded comes back, and nothing else is taken for one."""

from base64 import urlsafe_b64decode, urlsafe_b64encode

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tracking_shared.contracts.cursors import (
    MAX_CURSOR_CHARACTERS,
    MAX_PARTITIONS,
    NO_EPOCH,
    CursorSeal,
    InvalidCursor,
    Position,
    decode_cursor,
    encode_cursor,
    open_cursor,
)
from tracking_shared.contracts.documents import MAX_SEQ

ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

positions = st.builds(
    Position,
    epoch=st.text(ALPHABET, min_size=1, max_size=32),
    seqs=st.lists(st.integers(0, MAX_SEQ), min_size=1, max_size=50).map(tuple),
)


seqs_of_one_log = st.lists(st.integers(0, MAX_SEQ), min_size=4, max_size=4).map(tuple)

SEAL = CursorSeal("abc", bytes(range(32)), 0.0)
OTHER_SEAL = CursorSeal("abc", bytes(range(1, 33)), 0.0)
CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


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


@given(st.lists(st.integers(0, MAX_SEQ), min_size=1, max_size=50).map(tuple))
def test_a_sealed_position_comes_back(seqs: tuple[int, ...]) -> None:
    text = SEAL.seal(seqs)
    assert open_cursor(text, SEAL) == Position("abc", seqs)
    assert len(text) <= MAX_CURSOR_CHARACTERS


def test_the_largest_sealed_position_fits() -> None:
    largest = (MAX_SEQ,) * MAX_PARTITIONS
    text = SEAL.seal(largest)
    assert len(text) <= MAX_CURSOR_CHARACTERS
    assert open_cursor(text, SEAL).seqs == largest


@given(seqs_of_one_log, seqs_of_one_log)
def test_all_sealed_positions_of_a_log_are_of_one_length_and_equal_only_if_they_are(
    one: tuple[int, ...], another: tuple[int, ...]
) -> None:
    assert len(SEAL.seal(one)) == len(SEAL.seal(another))
    assert (SEAL.seal(one) == SEAL.seal(another)) == (one == another)


@given(seqs_of_one_log)
def test_a_sealed_position_shows_no_number(seqs: tuple[int, ...]) -> None:
    text = SEAL.seal(seqs)
    with pytest.raises(InvalidCursor):
        decode_cursor(text)
    content = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    assert not any(seq.to_bytes(8, "big") in content for seq in seqs)


@given(seqs_of_one_log, st.data())
def test_whatever_is_changed_in_a_sealed_position_opens_nothing(
    seqs: tuple[int, ...], data: st.DataObject
) -> None:
    text = SEAL.seal(seqs)
    place = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(st.sampled_from(CHARACTERS.replace(text[place], "")))
    for changed in (text[:place] + character + text[place + 1 :], text[:place], text[place:], text + text):
        if changed == text:
            continue
        try:
            opened = open_cursor(changed, SEAL)
        except InvalidCursor:
            continue
        assert opened == Position(NO_EPOCH, (0,))  # as a cursor of another log, from which nobody can go on


@given(seqs_of_one_log)
def test_what_another_key_has_sealed_is_a_position_of_another_log(seqs: tuple[int, ...]) -> None:
    elsewhere = Position(NO_EPOCH, (0,))
    assert open_cursor(OTHER_SEAL.seal(seqs), SEAL) == elsewhere
    assert open_cursor(SEAL.seal(seqs), None) == elsewhere


@given(positions)
@example(Position("abc", (1, 2)))
def test_a_cursor_in_the_clear_is_still_good(position: Position) -> None:
    assert open_cursor(encode_cursor(position), SEAL) == position
    assert open_cursor(encode_cursor(position), None) == position


@given(st.text() | st.binary().map(lambda data: urlsafe_b64encode(data).rstrip(b"=").decode()))
def test_any_other_text_opens_nothing(text: str) -> None:
    try:
        position = open_cursor(text, SEAL)
    except InvalidCursor:
        return
    assert position.epoch == NO_EPOCH
