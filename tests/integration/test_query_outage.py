"""The database away: every route says so and when to come again, and is well again without a restart."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime

import pytest
from query_stack import START, QueryClient, random_world, running_query, store, store_update, token
from query_surface import routes_of

from answers import Answer
from callers import eventually
from tracking.devstack.database_node import DatabaseNode
from tracking_query.orders.export_forms import EXPORTED_TYPES
from tracking_shared.contracts.documents import ErasureDocument
from tracking_shared.contracts.references import referenced_order_id

Request = tuple[str, Mapping[str, str]]

ADMIN = token(scope="orders:admin")
"""Whoever may read everything that there is."""

END = datetime(2099, 1, 1, tzinfo=UTC)

REPORTS_AT_ONCE = 2
"""As many as one caller may have."""

PUT_OFF_SECONDS = 30
"""All of them together, whatever their number: nobody waits in a queue for a database that is away."""


@pytest.fixture
async def node(start_database: Callable[[], Awaitable[DatabaseNode]]) -> DatabaseNode:
    return await start_database()


@pytest.fixture
async def query(node: DatabaseNode) -> AsyncIterator[QueryClient]:
    async with running_query(node.url, keep=True) as client:
        world = random_world(orders=20, steps=2)
        customer = {"name": "n", "contact_ref": "c"}
        referenced = {"merchant_id": "o-1", "reference": "o-1", "customer": customer}  # as the routes name it
        world.apply(referenced_order_id("o-1", "o-1"), "created", START, referenced)
        await store(client.database, world)
        await store_update(client.database, "o-1", "u-1")
        erasure = ErasureDocument(
            _id="o-1", merchant_id=None, accepted_at=START, orders=0, events=0, done_at=START, expires_at=END
        )
        await client.database.erasures.insert_one(erasure)
        yield client


async def requests(query: QueryClient) -> list[Request]:
    """One to each route, and one to each way in which some of them read."""
    plain = [route.url(update_id="u-1") for route in await routes_of(query)]
    return [
        *((path, {}) for path in plain),
        *(("/v1/orders", {"Accept": media_type}) for media_type in EXPORTED_TYPES),
        ("/v1/orders/o-1?at=2030-01-01T00:00:00Z", {}),
        ("/v1/orders?merchant_id=m-1", {}),
        ("/v1/events?order_id=o-1", {}),
        ("/v1/events?wait=1&limit=1", {}),
    ]


async def ask_all(query: QueryClient, requests: list[Request]) -> dict[str, Answer]:
    places = asyncio.Semaphore(REPORTS_AT_ONCE)

    async def ask(path: str, headers: Mapping[str, str]) -> tuple[str, Answer]:
        async with places if "/reports/" in path else nullcontext():
            return f"{path} {headers}", await query.get(path, token=ADMIN, headers=headers)

    return dict(await asyncio.gather(*(ask(path, headers) for path, headers in requests)))


def statuses(answers: Mapping[str, Answer]) -> dict[str, int]:
    return {request: answer.status for request, answer in answers.items()}


def _expected(request: str) -> int:
    return 404 if request.startswith("/v1/webhooks/o-1") else 200  # which is no webhook


async def every_one_is_put_off(query: QueryClient, requests: list[Request]) -> None:
    async with asyncio.timeout(PUT_OFF_SECONDS):
        answers = await ask_all(query, requests)
    for request, answer in answers.items():
        assert (answer.status, answer.slug) == (503, "database-unavailable"), request
        assert int(answer.headers["retry-after"]) >= 1, request


async def test_every_route_says_that_the_database_is_away_and_is_well_again_by_itself(
    query: QueryClient, node: DatabaseNode
) -> None:
    asked = await requests(query)

    async def is_well() -> bool:
        # On a busy machine, the first ones at once may take longer than their time.
        found = statuses(await ask_all(query, asked))
        wrong = {request: status for request, status in found.items() if status != _expected(request)}
        assert set(wrong.values()) <= {503}, wrong
        return not wrong

    await eventually(is_well)

    await node.kill()
    await every_one_is_put_off(query, asked)  # among them those that are let in and read in vain
    crowd = [request for request in asked if "/reports/" not in request[0]] * 5
    await every_one_is_put_off(query, crowd)  # nobody can be told any more whether the token still holds

    await node.start()

    async def is_ready() -> bool:
        return (await query.get("/readyz")).status == 200

    await eventually(is_ready)
    await eventually(is_well)
