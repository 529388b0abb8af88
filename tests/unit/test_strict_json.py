"""JSON that two readers could take in two ways is refused."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking_shared.contracts.strict_json import (
    InexactNumber,
    NotStrict,
    refuse_ambiguous,
    split_array,
    without_byte_order_mark,
)

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


@pytest.mark.parametrize(
    "number",
    [
        *(
            "1e-400",
            "123456789012345678.9",
            "-123456789012345678.9",
            "9007199254740992.125",
            "1e-99999999999999999999",
        ),
        *("3.14159265358979323846264338", "2e-324", "0." + "1" * 60_000),
    ],
)
def test_a_number_that_would_be_kept_as_another_one_is_refused(number: str) -> None:
    with pytest.raises(InexactNumber, match="cannot be kept as it is written") as refused:
        refuse_ambiguous(f'{{"a":[1.5,{number}]}}'.encode())
    assert len(str(refused.value)) < 120


@pytest.mark.parametrize(
    "number",
    [
        *(
            "0.1",
            "-0.0",
            "0e99999999999999999999",
            "1.50",
            "1e3",
            "1E-7",
            "5e-324",
            "1.7976931348623157e308",
            "1e23",
        ),
        *("0.30000000000000004", "9007199254740992.0", "0.10000000000000001", "52.520006599999998"),
        f"{0.1:.20f}",
        f"{0.1:.60f}",
    ],
)
def test_a_number_that_a_double_has_with_these_digits_passes(number: str) -> None:
    refuse_ambiguous(f'{{"a":{number}}}'.encode())


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(16, 40))
def test_every_double_passes_however_it_is_printed(value: float, digits: int) -> None:
    for text in (json.dumps(value), f"{value:.{digits}e}", f"{value:.{digits}g}"):
        refuse_ambiguous(text.encode())


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**14), max_value=10**14, places=1))
def test_what_has_15_digits_passes(value: Decimal) -> None:
    refuse_ambiguous(str(value).encode())


def test_one_byte_order_mark_at_the_beginning_is_ignored() -> None:
    assert without_byte_order_mark(b"\xef\xbb\xbf{}") == b"{}"
    assert without_byte_order_mark(b"\xef\xbb\xbf\xef\xbb\xbf{}") == b"\xef\xbb\xbf{}"
    assert without_byte_order_mark(b"{}") == b"{}"
