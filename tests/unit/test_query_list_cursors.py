"""Cursors of lists: sealed with their filter."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking_query.api.page_cursors import (
    MAX_LIST_CURSOR_CHARACTERS,
    KeysetPosition,
    cursor_key,
    decode_position,
    encode_position,
    unseal,
)
from tracking_query.orders.list_query import ListParameters
from tracking_shared.contracts.cursors import InvalidCursor

KEY = cursor_key("s" * 32)
POSITION = KeysetPosition(datetime(2026, 3, 1, 8, 0, 0, 123000, tzinfo=UTC), "o-1")
TIMES = st.integers(-(2**41), 2**42).map(
    lambda milliseconds: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
)


@given(time=TIMES, order_id=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:\-]{0,63}", fullmatch=True))
def test_a_place_survives_its_text(time: datetime, order_id: str) -> None:
    text = encode_position(KeysetPosition(time, order_id), b"filter", KEY)
    assert len(text) <= MAX_LIST_CURSOR_CHARACTERS
    assert decode_position(text, b"filter", KEY) == KeysetPosition(time, order_id)


ORDER_IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:\-]{0,63}", fullmatch=True)


@given(time=TIMES, order_id=ORDER_IDS, as_of=TIMES)
def test_a_cursor_keeps_the_horizon_of_the_first_page(time: datetime, order_id: str, as_of: datetime) -> None:
    text = encode_position(KeysetPosition(time, order_id, as_of), b"filter", KEY)
    assert len(text) <= MAX_LIST_CURSOR_CHARACTERS
    assert decode_position(text, b"filter", KEY) == KeysetPosition(time, order_id, as_of)


@given(order_id=ORDER_IDS, others=st.lists(ORDER_IDS))
def test_the_release_before_finds_the_same_next_page_by_a_cursor_with_a_horizon(
    order_id: str, others: list[str]
) -> None:
    text = encode_position(KeysetPosition(POSITION.time, order_id, POSITION.time), b"filter", KEY)
    taken_for_the_id = unseal(text, b"filter", KEY).decode().partition("/")[2]
    for other in others:
        assert (other > taken_for_the_id) == (other > order_id)
    assert order_id < taken_for_the_id


@given(text=st.text(max_size=200))
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        decode_position(text, b"filter", KEY)


def test_a_cursor_is_refused_with_another_filter_or_key() -> None:
    text = encode_position(POSITION, b"filter", KEY)
    with pytest.raises(InvalidCursor):
        decode_position(text, b"other", KEY)
    with pytest.raises(InvalidCursor):
        decode_position(text, b"filter", cursor_key("t" * 32))


def test_the_binding_is_the_filter_and_not_the_page() -> None:
    def binding(**parameters: object) -> bytes:
        return ListParameters.model_validate(parameters).binding

    assert binding() == binding(limit="7", cursor="x", sort="-created_at")
    assert binding(status=["delivered", "created"]) == binding(status=["created", "delivered", "created"])
    different = [
        binding(),
        binding(status=["created"]),
        binding(merchant_id=["created"]),
        binding(active="true"),
        binding(active="false"),
        binding(sort="created_at"),
        binding(customer_ref="created"),
        binding(created_from="2026-01-01T00:00:00Z"),
        binding(created_to="2026-01-01T00:00:00Z"),
        binding(updated_from="2026-01-01T00:00:00Z"),
        binding(closed_from="2026-01-01T00:00:00Z"),
        binding(closed_to="2026-01-01T00:00:00Z"),
    ]
    assert len(set(different)) == len(different)
