"""JSON that two readers could take in two ways is refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.strict_json import NotStrict, refuse_ambiguous, split_array

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def encoded(value: Any) -> bytes:
    # Half surrogates never get here: the parser before has refused them.
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":2}',
        b'[{"b":{"a":1,"a":2}}]',
        b'{"a":NaN}',
        b"[Infinity]",
        b"-Infinity",
    ],
)
def test_what_is_ambiguous_is_refused(text: bytes) -> None:
    with pytest.raises(NotStrict):
        refuse_ambiguous(text)


@given(values)
def test_everything_else_passes(value: Any) -> None:
    refuse_ambiguous(encoded(value))


@given(st.lists(values, max_size=6), st.sampled_from(["", " ", "\n\t "]))
def test_the_items_of_an_array_are_its_items(items: list[Any], space: str) -> None:
    inner = f"{space},{space}".join(json.dumps(item) for item in items)
    text = f"{space}[{space}{inner}{space}]{space}".encode()
    assert [json.loads(item) for item in split_array(text)] == items
