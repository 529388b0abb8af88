"""Nothing is lost and nothing comes twice: lost messages, resumes, restarts, dead brokers and databases."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from secrets import token_hex

import pytest
from aiohttp import ClientSession
from notifier_stack import (
    Document,
    Stage,
    StartService,
    Watcher,
    eventually,
    ids,
    new_order,
    notifier_stage,
    order_state_stub,
    raw_client,
    subscribed,
    watching,
)

from forked_services import ForkedService
from servers import Broker
from tracking.devstack.broker_node import BrokerNode
from tracking.devstack.database_node import DatabaseNode
from tracking.devstack.service_process import ServiceProcess

STATUSES = ("created", "picked_up", "in_transit", "in_transit", "in_transit", "delivered")


@pytest.fixture
async def stage(start_service: StartService, service_environment: dict[str, str]) -> AsyncIterator[Stage]:
    async with notifier_stage(start_service, service_environment) as stage:
        yield stage


def assert_whole(watcher: Watcher) -> None:
    """Each order's events came once, in version order, without a hole."""
    assert watcher.live.gaps == 0
    versions: dict[str, int] = {}
    for event in watcher.events:
        order, version = event["subject"], event["data"]["version"]
        assert version == versions.get(order, version - 1) + 1, event["id"]
        versions[order] = version


async def test_a_lost_message_is_found_by_the_next_one(stage: Stage) -> None:
    order = new_order()
    async with subscribed(stage.url, stage.token()) as client:
        await stage.stub.commit((order, "acme", "created"))
        await stage.stub.commit((order, "acme", "picked_up"), announce=False)
        await stage.stub.commit((order, "acme", "in_transit"))
        assert ids(await client.events(3)) == [f"{order}:{version}" for version in (1, 2, 3)]


async def test_a_lost_message_is_found_without_a_next_one(stage: Stage) -> None:
    order = new_order()
    async with subscribed(stage.url, stage.token()) as client:
        await stage.stub.commit((order, "acme", "created"), announce=False)
        assert ids(await client.events(1)) == [f"{order}:1"]


async def test_repeated_and_unreadable_messages_are_dropped(stage: Stage) -> None:
    order = new_order()
    async with subscribed(stage.url, stage.token()) as client:
        first = await stage.stub.commit((order, "acme", "created"))
        await stage.stub.announce(first)
        for body in (b"", b"{", b"[1]", b'[{"data":{}}]', b"{}", b"[]"):
            await stage.stub.publish(body)
        invented = await stage.stub.commit((new_order(), "acme", "created"), announce=False)
        await stage.stub.announce([{**invented[0], "seq": 2**39}])
        await stage.stub.announce([{**invented[0], "partition": 99}])
        await stage.stub.announce(first)
        await stage.stub.commit((order, "acme", "picked_up"))
        found = ids(await client.events(3))
        assert sorted(found) == sorted([f"{order}:1", f"{order}:2", f"{invented[0]['order_id']}:1"])


@pytest.mark.parametrize("window_bytes", ["0", "67108864"])
async def test_resuming_brings_exactly_what_was_missed(
    start_service: StartService, service_environment: dict[str, str], window_bytes: str
) -> None:
    mine, other = new_order(), new_order()
    async with notifier_stage(
        start_service, service_environment, NOTIFIER_WINDOW_BYTES=window_bytes
    ) as stage:
        async with subscribed(stage.url, stage.token(), filter={"merchant_id": ["acme"]}) as client:
            await stage.stub.commit((mine, "acme", "created"))
            cursor = (await client.receive())["cursor"]
        for status in STATUSES[1:]:
            await stage.stub.commit((mine, "acme", status), (other, "zeta", status))
        bulk = [(f"bulk-{token_hex(4)}-{number}", "acme", "created") for number in range(1500)]
        await stage.stub.commit(*bulk)
        async with raw_client(stage.url) as client:
            request = {"token": stage.token(), "filter": {"merchant_id": ["acme"]}, "after": cursor}
            await client.send(type="subscribe", **request)
            *missed, _ = await client.until("live")
            assert {message["type"] for message in missed} == {"events"}
            found = ids([event for message in missed for event in message["events"]])
            assert [name for name in found if name.startswith(mine)] == [
                f"{mine}:{version}" for version in range(2, 7)
            ]
            assert sorted(found) == sorted(
                [f"{mine}:{version}" for version in range(2, 7)] + [f"{order}:1" for order, _, _ in bulk]
            )
            next_order = new_order()
            await stage.stub.commit((next_order, "acme", "created"))
            assert ids(await client.events(1)) == [f"{next_order}:1"]


async def test_every_cursor_on_the_way_resumes_exactly_there(stage: Stage) -> None:
    orders = [new_order() for _ in range(5)]
    seen: list[tuple[str, int]] = []
    names: list[str] = []
    async with subscribed(stage.url, stage.token()) as client:
        for status in STATUSES[:-1]:
            await stage.stub.commit(*((order, "acme", status) for order in orders))
        while len(names) < len(orders) * (len(STATUSES) - 1):
            message = await client.receive()
            names += ids(message["events"])
            seen.append((message["cursor"], len(names)))
    for cursor, count in seen:
        async with raw_client(stage.url) as client:
            await client.send(type="subscribe", token=stage.token(), after=cursor)
            *missed, _ = await client.until("live")
            assert sorted(ids([e for m in missed for e in m["events"]])) == sorted(names[count:])


async def test_snapshot_and_tail_are_one_under_concurrent_writes(stage: Stage) -> None:
    orders = [(new_order(), f"m-{number % 4}") for number in range(120)]
    filters: list[Document] = [
        {},
        {"merchant_id": ["m-1", "m-2"]},
        {"status": ["in_transit", "created"]},
        {"active": False},
        {"order_id": [order for order, _ in orders[:40]]},
    ]
    watchers = [(Watcher(stage.url, stage.token, wanted), wanted) for _ in range(3) for wanted in filters]
    async with asyncio.TaskGroup() as group:
        writing = group.create_task(write(stage, orders))
        running = []
        for watcher, _ in watchers:  # each subscribes at another moment of the writing
            running.append(group.create_task(watcher.run()))
            await asyncio.sleep(0.05)
        await writing
        fresh = [await snapshot(stage, wanted) for _, wanted in watchers]
        for (watcher, _), expected in zip(watchers, fresh, strict=True):
            await eventually(lambda w=watcher, e=expected: w.live.orders == e)  # type: ignore[misc]
        for task in running:
            task.cancel()
    assert sum(map(len, fresh)) > 0
    assert [watcher.live.gaps for watcher, _ in watchers] == [0] * len(watchers)


async def write(stage: Stage, orders: list[tuple[str, str]]) -> None:
    """Every order goes through all statuses; every fifth message is lost."""
    for number, status in enumerate(STATUSES):
        for start in range(0, len(orders), 20):
            changes = [(order, merchant, status) for order, merchant in orders[start : start + 20]]
            await stage.stub.commit(*changes, announce=(start // 20 + number) % 5 != 0)


async def snapshot(stage: Stage, wanted: Document) -> dict[str, Document]:
    async with raw_client(stage.url) as client:
        await client.send(type="subscribe", token=stage.token(), filter=wanted)
        pages = await client.until("live")
    return {order["order_id"]: order for page in pages for order in page.get("orders", ())}


async def test_a_lost_broker_connection_is_not_noticed(
    stage: Stage, broker_node: BrokerNode, fresh_vhost_url: str, service_environment: dict[str, str]
) -> None:
    order = new_order()
    async with subscribed(stage.url, stage.token()) as client:
        await stage.stub.commit((order, "acme", "created"))
        vhost = fresh_vhost_url.rpartition("/")[2]
        await broker_node.control("close_all_connections", "--vhost", vhost, "test")
        await stage.stub.commit((order, "acme", "picked_up"), announce=False)
        assert ids(await client.events(2)) == [f"{order}:1", f"{order}:2"]
        await eventually(stage.notifier.is_ready)
        async with order_state_stub(service_environment) as again:
            event = (await stage.stub.commit((order, "acme", "in_transit"), announce=False))[0]
            await again.announce([event])
            assert ids(await client.events(1)) == [f"{order}:3"]


async def test_a_deleted_queue_is_not_noticed_and_replaced(
    stage: Stage, broker_node: Broker, fresh_vhost_url: str
) -> None:
    order = new_order()
    async with subscribed(stage.url, stage.token()) as client:
        await stage.stub.commit((order, "acme", "created"))
        assert ids(await client.events(1)) == [f"{order}:1"]
        vhost = fresh_vhost_url.rpartition("/")[2]
        for queue in await private_queues(broker_node, vhost):
            await broker_node.control("delete_queue", "--vhost", vhost, queue)
        await stage.stub.commit((order, "acme", "picked_up"))
        assert ids(await client.events(1)) == [f"{order}:2"]
        from_broker = await taken_from_broker(stage)

        async def comes_from_the_broker() -> bool:
            event = await stage.stub.commit((order, "acme", "in_transit"))
            assert ids(await client.events(1)) == [f"{order}:{event[0]['version']}"]
            return await taken_from_broker(stage) > from_broker

        await eventually(comes_from_the_broker)
        await eventually(stage.notifier.is_ready)


async def private_queues(broker: Broker, vhost: str) -> list[str]:
    """Those that their connections made for themselves; a notifier has one."""
    listed = await broker.control("list_queues", "--vhost", vhost, "--no-table-headers", "name")
    return [name for name in listed.split() if name.startswith("amq.gen-")]


async def taken_from_broker(stage: Stage) -> float:
    return await stage.metric('tracking_feed_events_total{source="broker"}')


async def test_a_broker_restart_is_not_noticed(
    start_broker: Callable[[], Awaitable[BrokerNode]],
    start_service: StartService,
    service_environment: dict[str, str],
) -> None:
    broker = await start_broker()
    environment = service_environment | {"AMQP_URL": broker.url}
    order = new_order()
    async with notifier_stage(start_service, environment, AMQP_URL=broker.url) as stage:
        watcher = Watcher(stage.url, stage.token)
        async with watching(watcher):
            await stage.stub.commit((order, "acme", "created"))
            await broker.kill()
            await eventually(lambda: not_ready(stage.notifier))
            event = (await stage.stub.commit((order, "acme", "picked_up"), announce=False))[0]
            await broker.start()
            await eventually(lambda: watcher.saw(event))
            await eventually(stage.notifier.is_ready)
            async with order_state_stub(environment) as again:
                event = (await stage.stub.commit((order, "acme", "in_transit"), announce=False))[0]
                await again.announce([event])
                await eventually(lambda: watcher.saw(event))
        assert ids(watcher.events) == [f"{order}:{version}" for version in (1, 2, 3)]
        assert watcher.live.connections == 1


async def not_ready(service: ServiceProcess) -> bool:
    return not await service.is_ready()


@pytest.mark.parametrize("how", ["kill", "stop", "pause"])
async def test_clients_survive_a_notifier_that_dies_stops_or_freezes(stage: Stage, how: str) -> None:
    orders = [new_order() for _ in range(20)]
    watchers = [Watcher(stage.url, stage.token), Watcher(stage.url, stage.token, {"order_id": orders[:5]})]
    async with watching(*watchers):
        await stage.stub.commit(*((order, "acme", "created") for order in orders))
        await interrupt(stage.notifier, how)
        await stage.stub.commit(*((order, "acme", "picked_up") for order in orders))
        if how == "pause":
            stage.notifier.resume()
        else:
            await stage.notifier.start()
        await stage.stub.commit(*((order, "acme", "in_transit") for order in orders))
        await eventually(lambda: [len(w.events) for w in watchers] == [60, 15])
    for watcher in watchers:
        assert_whole(watcher)


async def interrupt(service: ServiceProcess, how: str) -> None:
    if how == "pause":
        service.pause()
    elif how == "kill":
        await service.kill()
    else:
        await service.stop()


@pytest.mark.slow
async def test_clients_survive_a_notifier_that_is_frozen_for_longer_than_the_broker_waits(
    stage: Stage,
) -> None:
    orders = [new_order() for _ in range(20)]
    watcher = Watcher(stage.url, stage.token)
    async with watching(watcher):
        await stage.stub.commit(*((order, "acme", "created") for order in orders))
        stage.notifier.pause()
        try:
            for status in STATUSES[1:]:
                await asyncio.sleep(FROZEN_SECONDS / len(STATUSES[1:]))
                await stage.stub.commit(*((order, "acme", status) for order in orders))
        finally:
            stage.notifier.resume()
        await eventually(lambda: len(watcher.events) == len(orders) * len(STATUSES), seconds=20)
        await eventually(stage.notifier.is_ready)
    assert_whole(watcher)


FROZEN_SECONDS = 20
"""The broker gives a silent peer up after two to three heartbeats of 3 seconds."""


async def test_a_stop_sends_clients_away_within_its_time(stage: Stage) -> None:
    loop = asyncio.get_running_loop()
    closed_at: list[float] = []

    async def watch(ready: asyncio.Event) -> None:
        async with subscribed(stage.url, stage.token()) as client:
            ready.set()
            code, _, _ = await client.closed()
            assert code == 1012
            closed_at.append(loop.time())

    async with asyncio.TaskGroup() as group:
        readies = [asyncio.Event() for _ in range(20)]
        for ready in readies:
            group.create_task(watch(ready))
        for ready in readies:
            await ready.wait()
        stage.notifier.process.signal(signal.SIGTERM)
        assert await stage.notifier.process.wait() == 0
    assert 1.0 < max(closed_at) - min(closed_at) < 4.0


async def test_a_replaced_database_starts_every_client_anew(
    stage: Stage, service_environment: dict[str, str]
) -> None:
    old, new = new_order(), new_order()
    watcher = Watcher(stage.url, stage.token)
    async with watching(watcher):
        await stage.stub.commit((old, "acme", "created"))
        await eventually(lambda: set(watcher.live.orders) == {old})
        await stage.stub.database.client.drop_database(service_environment["MONGODB_DATABASE"])
        async with order_state_stub(service_environment) as stub:
            await stub.commit((new, "acme", "created"))
            await eventually(lambda: set(watcher.live.orders) == {new})
            await stub.commit((new, "acme", "picked_up"))
            await eventually(lambda: watcher.live.orders[new]["version"] == 2)


async def test_a_hole_in_the_log_is_said_and_nothing_is_skipped(stage: Stage) -> None:
    order = new_order()
    async with subscribed(stage.url, stage.token()) as client:
        first = (await stage.stub.commit((order, "acme", "created"), announce=False))[0]
        events = stage.stub.database.order_events
        await events.delete_one({"_id": first["_id"]})
        await stage.stub.commit((order, "acme", "picked_up"))
        await eventually(lambda: not_ready(stage.notifier))
        async with ClientSession() as session, session.get(f"{stage.notifier.url}/readyz") as response:
            assert (await response.json())["failing"] == {"log": "LogIncomplete"}
        await events.insert_one(first)
        assert ids(await client.events(2)) == [f"{order}:1", f"{order}:2"]
        await eventually(stage.notifier.is_ready)


async def test_the_database_may_go_and_come_back(
    start_database: Callable[[], Awaitable[DatabaseNode]],
    start_service: StartService,
    service_environment: dict[str, str],
) -> None:
    database = await start_database()
    environment = service_environment | {"MONGODB_URL": database.url}
    order = new_order()
    async with notifier_stage(start_service, environment, MONGODB_URL=database.url) as stage:
        async with subscribed(stage.url, stage.token()) as client:
            await stage.stub.commit((order, "acme", "created"))
            await database.kill()
            async with raw_client(stage.url) as newcomer:
                await newcomer.send(type="subscribe", token=stage.token())
                code, _, messages = await newcomer.closed()
                assert code == 1013
                assert messages[-1]["problem"]["type"] == "/problems/database-unavailable"
            assert await not_ready(stage.notifier)
            await database.start()
            await stage.stub.commit((order, "acme", "picked_up"), announce=False)
            assert ids(await client.events(2)) == [f"{order}:1", f"{order}:2"]
        await eventually(stage.notifier.is_ready)


async def test_it_starts_without_its_dependencies_and_says_what_is_missing(
    start_service: StartService, service_environment: dict[str, str]
) -> None:
    notifier = await start_service(
        "notifier",
        wait=False,
        AMQP_URL="amqp://guest:guest@127.0.0.1:1/",
        MONGODB_URL="mongodb://127.0.0.1:1/?directConnection=true&serverSelectionTimeoutMS=500",
    )
    failing: Document = {}

    async def answers() -> bool:
        try:
            async with ClientSession() as session, session.get(f"{notifier.url}/readyz") as response:
                failing.update(await response.json())
                return response.status == 503
        except OSError:
            return False

    await eventually(answers)
    assert set(failing["failing"]) == {"broker", "database", "log"}
    async with raw_client(notifier.stream_url) as client:
        secret = service_environment["JWT_SECRET"]
        await client.send(type="subscribe", token=Stage(notifier, None, secret).token())  # type: ignore[arg-type]
        assert (await client.closed())[0] == 1013


async def test_it_does_not_start_with_a_wrong_configuration(
    start_service: StartService, service_environment: dict[str, str]
) -> None:
    async with order_state_stub(service_environment):
        for code, word, environment in (
            (78, "PARTITIONS", {"PARTITIONS": "5"}),
            (78, "JWT_SECRET", {"JWT_SECRET": "short"}),
            (78, "NOTIFIER_QUEUE_BYTES", {"NOTIFIER_QUEUE_BYTES": "plenty"}),
        ):
            notifier = await start_service("notifier", wait=False, **environment)
            async with asyncio.timeout(20):
                assert await notifier.process.wait() == code, environment
            assert notifier.process.last_line().startswith(f"notifier: {word}")


async def test_a_busy_port_is_said_in_one_line(
    stage: Stage, start_service: StartService, service_environment: dict[str, str]
) -> None:
    port = stage.notifier.url.rpartition(":")[2]
    second = ForkedService(
        "notifier",
        environment=service_environment | {"PARTITIONS": "4"},
        logs=stage.notifier.log_path.parent,
        port=int(port),
        name="second",
    )
    second.launch()
    try:
        async with asyncio.timeout(20):
            assert await second.process.wait() == 69
        assert "cannot listen" in second.process.last_line()
    finally:
        await second.kill()
