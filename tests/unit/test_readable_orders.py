"""The bounds of a database query are the access policy, in another form."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from tracking_shared.contracts.access import Grant, reaches, readable_orders

MERCHANTS = ["m-1", "m-2", "m-3"]
ORDERS = ["o-1", "o-2", "o-3"]


@given(
    merchants=st.frozensets(st.sampled_from([*MERCHANTS, "*"])),
    orders=st.none() | st.frozensets(st.sampled_from(ORDERS)),
    asked_merchants=st.lists(st.sampled_from(MERCHANTS)),
    asked_orders=st.lists(st.sampled_from(ORDERS)),
)
def test_the_readable_orders_are_what_the_policy_allows_and_the_caller_asks_for(
    merchants: frozenset[str],
    orders: frozenset[str] | None,
    asked_merchants: Sequence[str],
    asked_orders: Sequence[str],
) -> None:
    grant = Grant(merchants=merchants, orders=orders)
    readable = readable_orders(grant, asked_merchants or None, asked_orders or None)
    for merchant in MERCHANTS:
        for order in ORDERS:
            within = (readable.merchants is None or merchant in readable.merchants) and (
                readable.orders is None or order in readable.orders
            )
            asked = (not asked_merchants or merchant in asked_merchants) and (
                not asked_orders or order in asked_orders
            )
            assert within is (asked and reaches(grant, order, merchant))


def test_the_bounds_are_conditions_on_the_named_field() -> None:
    readable = readable_orders(Grant(merchants=frozenset({"m-2", "m-1"}), orders=frozenset({"o-1"})), ["m-1"])
    assert readable.conditions("_id") == {"_id": {"$in": ["o-1"]}, "merchant_id": {"$in": ["m-1"]}}
    assert readable_orders(Grant(merchants=frozenset({"*"}))).conditions("_id") == {}
    assert readable_orders(Grant()).conditions("_id") == {"merchant_id": {"$in": []}}
