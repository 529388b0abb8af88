"""Requests without a query string are not validated by FastAPI; no answer shows it."""

from collections.abc import AsyncIterator

import pytest
from query_stack import START, QueryClient, random_world, running_query, store, token

from answers import Answer

WORLD = random_world(orders=20, steps=3)
MERCHANT = WORLD.orders["o-1"]["merchant_id"]

# With each path, parameters that say what is the default anyway.
SAME = [
    ("/v1/orders/o-1", {"at": "2199-01-01T00:00:00Z"}),
    ("/v1/orders/o-none", {"at": "2199-01-01T00:00:00Z"}),
    ("/v1/orders/o-1/history", {"limit": 500}),
    ("/v1/orders/o-none/history", {"limit": 500}),
    ("/v1/orders", {"limit": 50}),
]

TOKENS = {
    "entitled": token(),
    "of the merchant": token(merchants=[MERCHANT]),
    "of another merchant": token(merchants=["m-other"]),
    "of the order": token(merchants=[], orders=["o-1"]),
    "without the scope": token(scope="orders:write"),
    "expired": token(exp=START.timestamp()),
    "none": None,
}


@pytest.fixture(scope="module")
async def query(mongodb_url: str) -> AsyncIterator[QueryClient]:
    async with running_query(mongodb_url) as client:
        await store(client.database, WORLD)
        yield client


def comparable(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    """All but what differs between any two answers."""
    headers = {name.lower(): value for name, value in answer.headers.items()}
    trace_id = headers.pop("trace-id")
    headers.pop("date")
    for name in [name for name in headers if name.startswith("ratelimit")]:
        del headers[name]
    return answer.status, headers, answer.body.replace(trace_id.encode(), b"")


@pytest.mark.parametrize("who", TOKENS)
@pytest.mark.parametrize(("path", "defaults"), SAME)
async def test_both_ways_give_the_same_answer(
    query: QueryClient, path: str, defaults: dict[str, str | int], who: str
) -> None:
    short = await query.get(path, token=TOKENS[who])
    general = await query.get(path, defaults, token=TOKENS[who])

    assert comparable(short) == comparable(general)
