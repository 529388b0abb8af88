"""The stream on a real broker and a real database: snapshots, live events, filters, entitlement."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from notifier_stack import (
    RawClient,
    Stage,
    StartService,
    eventually,
    ids,
    new_merchant,
    new_order,
    notifier_stage,
    raw_client,
    settled,
    subscribed,
)

STATUSES = ("created", "picked_up", "in_transit", "delivered")


@pytest.fixture(scope="module")
async def shared_stage(
    start_shared: StartService, module_environment: dict[str, str]
) -> AsyncIterator[Stage]:
    async with notifier_stage(start_shared, module_environment) as stage:
        yield stage


@pytest.fixture
async def stage(shared_stage: Stage) -> Stage:
    return await settled(shared_stage)


async def walk(stage: Stage, order: str, merchant: str, *statuses: str) -> None:
    for status in statuses:
        await stage.stub.commit((order, merchant, status))


async def test_live_events_arrive_in_version_order_with_a_cursor(stage: Stage) -> None:
    order = new_order()
    async with subscribed(stage.url, stage.token()) as client:
        await walk(stage, order, "acme", *STATUSES)
        events = await client.events(4)
        assert ids(events) == [f"{order}:{version}" for version in (1, 2, 3, 4)]
        assert events[0]["type"] == "order.created"
        assert events[1]["data"]["previous_status"] == "created"
        assert events[1]["data"]["customer"]["name"] == f"Name of {order}"


async def test_events_that_arrive_together_travel_together(stage: Stage) -> None:
    order = new_order()
    async with subscribed(stage.url, stage.token()) as client:
        await stage.stub.commit(*((order, "acme", status) for status in STATUSES))
        message = await client.receive()
        assert ids(message["events"]) == [f"{order}:{version}" for version in (1, 2, 3, 4)]


async def test_a_snapshot_holds_the_active_orders_and_the_tail_goes_on_from_there(stage: Stage) -> None:
    active, done, merchant = new_order(), new_order(), new_merchant()
    await walk(stage, active, merchant, "created", "picked_up")
    await walk(stage, done, merchant, *STATUSES)
    async with raw_client(stage.url) as client:
        await client.send(type="subscribe", token=stage.token(merchants=[merchant]))
        snapshot, *_, live = await client.until("live")
        assert snapshot["type"] == "snapshot"
        assert snapshot["more"] is False
        assert [(o["order_id"], o["version"]) for o in snapshot["orders"]] == [(active, 2)]
        assert snapshot["orders"][0]["allowed_next"] == ["in_transit", "cancelled"]
        assert live["cursor"]
        await walk(stage, active, merchant, "in_transit")
        assert ids(await client.events(1)) == [f"{active}:3"]


async def test_filters_and_the_event_that_leaves_them(stage: Stage) -> None:
    mine, other = new_order(), new_order()
    wanted: dict[str, dict[str, Any]] = {
        "by order": {"order_id": [mine]},
        "by status": {"status": ["created"]},
        "by merchant": {"merchant_id": ["acme"]},
        "inactive": {"active": False},
        "everything": {"status": list(STATUSES), "merchant_id": ["acme", "zeta"]},
    }
    expected = {
        "by order": [f"{mine}:{version}" for version in (1, 2, 3, 4)],
        "by status": [f"{mine}:1", f"{other}:1", f"{mine}:2", f"{other}:2"],
        "by merchant": [f"{mine}:{version}" for version in (1, 2, 3, 4)],
        "inactive": [f"{mine}:4", f"{other}:4"],
        "everything": [f"{order}:{version}" for version in (1, 2, 3, 4) for order in (mine, other)],
    }
    async with asyncio.TaskGroup() as group:

        async def watch(name: str, ready: asyncio.Event) -> None:
            async with subscribed(stage.url, stage.token(), filter=wanted[name]) as client:
                ready.set()
                found = await client.events(len(expected[name]))
                assert sorted(ids(found)) == sorted(expected[name]), name

        ready = {name: asyncio.Event() for name in wanted}
        for name, event in ready.items():
            group.create_task(watch(name, event))
        for event in ready.values():
            await event.wait()
        for status in STATUSES:
            await walk(stage, mine, "acme", status)
            await walk(stage, other, "zeta", status)


async def test_only_those_entitled_see_an_order_and_its_customer(stage: Stage) -> None:
    order, foreign = new_order(), new_order()
    mine, others = new_merchant(), new_merchant()
    await walk(stage, order, mine, "created")
    await walk(stage, foreign, others, "created")
    of_mine = stage.token(merchants=[mine])
    tracking_link = stage.token(merchants=[], orders=[order])
    async with raw_client(stage.url) as of_merchant, raw_client(stage.url) as of_link:
        await of_merchant.send(type="subscribe", token=of_mine, filter={"merchant_id": [mine, others]})
        await of_link.send(type="subscribe", token=tracking_link)
        shown = [(await client.until("live"))[0]["orders"] for client in (of_merchant, of_link)]
        assert [[o["order_id"] for o in orders] for orders in shown] == [[order], [order]]
        assert shown[0][0]["customer"]["contact_ref"] == "+31 6 1234"
        assert "customer" not in shown[1][0]
        await walk(stage, foreign, others, "picked_up")
        await walk(stage, order, mine, "picked_up")
        seen = [await client.events(1) for client in (of_merchant, of_link)]
        assert [ids(events) for events in seen] == [[f"{order}:2"], [f"{order}:2"]]
        assert "customer" in seen[0][0]["data"]
        assert "customer" not in seen[1][0]["data"]
        assert "Name of" not in str(seen[1])


async def test_subscribing_again_replaces_the_filter(stage: Stage) -> None:
    first, second = new_order(), new_order()
    async with subscribed(stage.url, stage.token(), filter={"order_id": [first]}) as client:
        await client.send(type="subscribe", filter={"order_id": [second]})
        await client.until("live")
        await walk(stage, first, "acme", "created")
        await walk(stage, second, "acme", "created")
        assert ids(await client.events(1)) == [f"{second}:1"]


async def test_without_a_snapshot_only_the_tail_comes(stage: Stage) -> None:
    order = new_order()
    async with raw_client(stage.url) as watcher, raw_client(stage.url) as client:
        await watcher.send(type="subscribe", token=stage.token(), filter={"order_id": [order]})
        await watcher.until("live")
        await walk(stage, order, "acme", "created")
        assert ids(await watcher.events(1)) == [f"{order}:1"]  # it is the past for the notifier, too
        await client.send(type="subscribe", token=stage.token(), snapshot=False)
        assert [message["type"] for message in await client.until("live")] == ["live"]
        await walk(stage, order, "acme", "picked_up")
        assert ids(await client.events(1)) == [f"{order}:2"]


async def test_the_token_may_come_with_the_handshake(stage: Stage) -> None:
    order = new_order()
    ways: list[dict[str, Any]] = [
        {"additional_headers": {"Authorization": f"Bearer {stage.token()}"}},
        {"subprotocols": ["tracking.v1", f"bearer.{stage.token()}"]},
    ]
    for way in ways:
        async with raw_client(stage.url, **way) as client:
            assert client.socket.subprotocol == ("tracking.v1" if "subprotocols" in way else None)
            await client.send(type="subscribe", filter={"order_id": [order]})
            await client.until("live")


async def test_a_snapshot_in_many_pages_is_whole(stage: Stage) -> None:
    orders, merchant = [new_order() for _ in range(1500)], new_merchant()
    for start in range(0, len(orders), 500):
        changes = [(order, merchant, "created") for order in orders[start : start + 500]]
        await stage.stub.commit(*changes, announce=False)
    async with raw_client(stage.url) as client:
        await client.send(type="subscribe", token=stage.token(merchants=[merchant]))
        pages = [m for m in await client.until("live") if m["type"] == "snapshot"]
    assert [page["more"] for page in pages] == [True] * (len(pages) - 1) + [False]
    assert len(pages) > 1
    assert sorted(o["order_id"] for page in pages for o in page["orders"]) == sorted(orders)


async def test_a_fresh_token_prolongs_the_stream_and_a_narrower_one_narrows_it(stage: Stage) -> None:
    order, foreign = new_order(), new_order()
    async with subscribed(stage.url, stage.token(ttl=4)) as client:
        await client.send(type="refresh", token=stage.token())
        await client.send(type="refresh", token="nonsense")
        assert (await client.receive())["problem"]["type"] == "/problems/unauthenticated"
        await client.send(type="refresh", token=stage.token(sub="somebody-else"))
        assert (await client.receive())["problem"]["type"] == "/problems/forbidden"
        await client.send(type="refresh", token=stage.token(merchants=["acme"]))
        resync, *_ = await client.until("live")
        assert (resync["type"], resync["reason"]) == ("resync", "entitlement-changed")
        await walk(stage, foreign, "zeta", "created")
        await walk(stage, order, "acme", "created")
        assert ids(await client.events(1)) == [f"{order}:1"]
        await assert_open_after(client, seconds=4)


async def assert_open_after(client: RawClient, *, seconds: float) -> None:
    with pytest.raises(TimeoutError):
        await client.receive(seconds)
    assert client.socket.close_code is None


async def test_an_expired_token_ends_the_stream_in_time(stage: Stage) -> None:
    async with subscribed(stage.url, stage.token(ttl=3)) as client:
        code, _, messages = await client.closed(seconds=15)
    assert code == 4401
    assert messages[-1]["problem"]["type"] == "/problems/unauthenticated"


async def test_connections_are_counted_and_forgotten(stage: Stage) -> None:
    async with subscribed(stage.url, stage.token()):
        assert await stage.metric("tracking_stream_connections") == 1

    async def none_left() -> bool:
        return await stage.metric("tracking_stream_connections") == 0

    await eventually(none_left)
