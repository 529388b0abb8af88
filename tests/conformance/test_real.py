"""Both clients on a real notifier: live orders under load and through restarts end as the API lists them."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from aiohttp import ClientSession

from callers import Caller, eventually, many_lives, token
from clients import CLIENTS, OVER_HTTP, ClientProcess, Document, following
from fixtures import Spine, StartService
from tracking.devstack.service_process import ServiceProcess

ORDERS = 20
UNFINISHED = ("picked_up", "delivered", "in_transit", "in_transit")
"""As `callers.LIFE`, with an illegal step, but it stays under way."""

FILTERS: list[Document] = [{}, {"merchant_id": ["m-1", "m-2"]}, {"status": ["created", "in_transit"]}]
OVERDUE: Document = {"overdue": True}


@pytest.fixture(scope="module")
async def spine(module_spine: Spine) -> Spine:
    return module_spine


@pytest.fixture(scope="module")
async def notifier(spine: Spine, start_shared: StartService) -> ServiceProcess:
    return await start_shared("notifier")


@pytest.fixture(scope="module")
async def query(spine: Spine, start_shared: StartService) -> AsyncIterator[ClientSession]:
    """Asks query as somebody who may read everything."""
    service = await start_shared("query")
    headers = {"Authorization": f"Bearer {token()}"}
    async with ClientSession(service.url, headers=headers) as session:
        yield session


async def listed(query: ClientSession, wanted: Document) -> dict[str, Document]:
    """The orders that the API lists for the filter of a stream."""
    filters = wanted if {"status", "active"} & wanted.keys() else wanted | {"active": "true"}
    parameters = [
        (name, str(value).lower() if isinstance(value, bool) else value)
        for name, values in filters.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    async with query.get("/v1/orders", params=[*parameters, ("limit", "500")]) as response:
        assert response.status == 200, await response.text()
        page = await response.json()
    assert page["next_cursor"] is None
    return {order["order_id"]: order for order in page["items"]}


async def load_until(done: asyncio.Event, caller: Caller) -> None:
    """Orders that are delivered, and some that stay under way."""
    async with asyncio.TaskGroup() as group:
        for number in range(ORDERS):
            group.create_task(caller.live(f"under-way-{number}", UNFINISHED))
        while not done.is_set():
            await many_lives(caller, ORDERS)


def assert_in_turn(client: ClientProcess) -> None:
    """No event came twice, and none out of its turn."""
    newest: dict[str, int] = {}
    for name in client.events:
        order_id, _, version = name.rpartition(":")
        assert int(version) > newest.get(order_id, 0), name
        newest[order_id] = int(version)


@asynccontextmanager
async def following_in_all(
    notifier: ServiceProcess, bearer: str | list[str | None], filters: Sequence[Document] = ({},)
) -> AsyncIterator[list[ClientProcess]]:
    """For each filter a client of each language, in this order."""
    async with AsyncExitStack() as opened:
        yield [
            await opened.enter_async_context(following(language, notifier.stream_url, bearer, wanted))
            for wanted in filters
            for language in CLIENTS
        ]


async def test_live_orders_end_as_the_api_lists_them_after_restarts_under_load(
    spine: Spine, notifier: ServiceProcess, query: ClientSession
) -> None:
    restarted = asyncio.Event()

    async def restart(clients: list[ClientProcess]) -> None:
        await notifier.kill()
        await notifier.start()
        for client in clients:
            await client.until_state("live", 2)
        await notifier.restart()
        for client in clients:
            await client.until_state("live", 3)
        restarted.set()

    async with following_in_all(notifier, token(), FILTERS) as clients:
        for client in clients:
            await client.until_state("live")
        async with asyncio.TaskGroup() as group:
            group.create_task(load_until(restarted, spine.caller))
            group.create_task(restart(clients))
        for number, client in enumerate(clients):
            wanted, language = FILTERS[number // len(CLIENTS)], CLIENTS[number % len(CLIENTS)]
            await eventually(lambda c=client, w=wanted: agrees(c, query, w))  # type: ignore[misc]
            assert (await client.report())["gaps"] == 0, (language, wanted)
            assert_in_turn(client)
        for language, everything in zip(CLIENTS, clients, strict=False):
            held = (await everything.report())["orders"].keys()
            under_way = {order_id for order_id in held if order_id.startswith("under-way-")}
            assert under_way == {f"under-way-{n}" for n in range(ORDERS)}, language
            assert len(set(everything.events)) > 200, language


async def test_overdue_orders_enter_and_leave_as_the_api_lists_them(
    spine: Spine, notifier: ServiceProcess, query: ClientSession
) -> None:
    ids = [f"due-{number}" for number in range(6)]
    async with following_in_all(notifier, token(), [OVERDUE]) as clients:
        for client in clients:
            await client.until_state("live")
        for order_id in ids:
            body = {
                "order_id": order_id,
                "merchant_id": "m-1",
                "customer": {"name": "Ada", "contact_ref": "crm-1"},
                "due_at": "2026-01-01T00:00:00Z",
            }
            await spine.caller.insist("/v1/orders", body, f"{order_id}.create", order_id)

        async def have(expected: set[str]) -> bool:
            return all([(await client.report())["orders"].keys() == expected for client in clients])

        await eventually(lambda: have(set(ids)))
        for order_id in ids[:3]:
            path = f"/v1/orders/{order_id}/updates"
            await spine.caller.insist(path, {"status": "cancelled"}, f"{order_id}.end", order_id)
        await eventually(lambda: have(set(ids[3:])))
        for language, client in zip(CLIENTS, clients, strict=True):
            assert await agrees(client, query, OVERDUE), language
            assert (await client.report())["gaps"] == 0, language
            assert_in_turn(client)
            assert len(client.events) == 9, language  # with which they enter, and with which they leave


async def agrees(client: ClientProcess, query: ClientSession, wanted: Document) -> bool:
    """Whether it holds what the API lists, which takes a moment after the last update."""
    report = await client.report()
    return bool(report["orders"] == await listed(query, wanted))


async def test_a_real_notifier_takes_a_refresh_and_ends_an_expired_token(
    spine: Spine, notifier: ServiceProcess
) -> None:
    brief, longer = token(exp=time.time() + 12), token()
    async with (
        following_in_all(notifier, [brief, longer]) as all_refreshing,
        following_in_all(notifier, brief) as all_expiring,
    ):
        for refreshing in all_refreshing:
            await refreshing.until_state("live")
        for expiring in all_expiring:
            refused = await expiring.until_state("refused")
            assert (refused["code"], refused["problem"]) == (4401, "/problems/unauthenticated")
        await spine.caller.live("after-the-end", ("picked_up",))
        for language, refreshing in zip(CLIENTS, all_refreshing, strict=True):
            await refreshing.until(lambda client: client.events[-1:] == ["after-the-end:2"])
            # An event stream has to be replaced, and goes on from its cursor.
            connections = 2 if language == OVER_HTTP else 1
            assert refreshing.states == ["connecting", "catching-up", "live"] * connections, language
