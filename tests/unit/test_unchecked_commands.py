"""Commands that are made without a check."""

from typing import Any

import pytest

from tracking_shared.contracts.access import Grant
from tracking_shared.contracts.commands import (
    CreateOrder,
    Customer,
    Source,
    UpdateOrder,
    decode_command,
    encode_command,
    unchecked,
)
from tracking_shared.contracts.timestamps import now

COMMON: dict[str, Any] = {
    "update_id": "u-1",
    "order_id": "o-1",
    "source": unchecked(Source, type="driver", id="d-1"),
    "grant": Grant(merchants=frozenset({"m-1"}), orders=None),
    "fingerprint": "f",
    "received_at": now(),
    "metadata": {"parcels": 2},
}
CUSTOMER = unchecked(Customer, name="Ada", contact_ref="crm-1")


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (UpdateOrder, COMMON | {"status": "picked_up"}),
        (UpdateOrder, COMMON | {"status": "picked_up", "expected_version": 3, "traceparent": "t"}),
        (CreateOrder, COMMON | {"merchant_id": "m-1", "customer": CUSTOMER}),
    ],
    ids=["defaults", "all fields", "a create"],
)
def test_an_unchecked_command_is_the_one_that_pydantic_makes(
    kind: type[UpdateOrder | CreateOrder], fields: dict[str, Any]
) -> None:
    made = unchecked(kind, **fields)
    assert made == kind.model_construct(**fields)
    assert made.model_fields_set == fields.keys()
    assert decode_command(encode_command(made)) == made
