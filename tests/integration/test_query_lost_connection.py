"""A connection to the database that ends under a read: the read is repeated, its caller does not notice."""

import pytest
from query_stack import random_world, running_query, store, token

from wire_tap import tap_database


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("/v1/orders/o-0", {"find": "orders"}),
        ("/v1/orders/o-none", {"find": "orders"}),
        ("/v1/orders/o-0/history", {"find": "order_events"}),
        ("/v1/orders", {"find": "orders"}),
    ],
    ids=["order", "no order", "history", "list"],
)
async def test_a_read_whose_connection_is_lost_is_repeated(
    mongodb_url: str, path: str, command: dict[str, str]
) -> None:
    async with tap_database(mongodb_url) as tap, running_query(tap.url) as query:
        await store(query.database, random_world(orders=1, steps=0))
        before = await query.get(path, token=token())
        tap.cut_at = command
        after = await query.get(path, token=token())
        assert tap.cut_at is None
        assert (after.status, after.json.get("order_id")) == (before.status, before.json.get("order_id"))
