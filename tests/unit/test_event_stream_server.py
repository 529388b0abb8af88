"""The server's event streams, by HTTP: what begins, what is refused, what ends, and what they cost."""

import asyncio

import httpx
import orjson
import pytest
from prometheus_client import REGISTRY
from stream_world import ServerEvent, StreamWorld, bearer, stream_world

from raw_http import RawConnection
from tracking_shared.contracts.cursors import NO_EPOCH, Position, encode_cursor, open_cursor

DESK = "https://desk.example"
LIVE = b"event: live"
ACCEPT = {"Accept": "text/event-stream"}


def connections() -> float:
    return REGISTRY.get_sample_value("tracking_stream_connections") or 0.0


def ids(events: list[ServerEvent]) -> list[str]:
    """Ids of the orders' events in these messages."""
    return [event["id"] for message in events for event in message.data.get("events", ())]


def request(query: str = "") -> bytes:
    """The bytes of a request for a stream."""
    lines = [
        f"GET /v1/stream{query} HTTP/1.1",
        "Host: notifier",
        "Accept: text/event-stream",
        f"Authorization: Bearer {bearer()}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


async def received(connection: RawConnection, lives: int) -> bytes:
    """All that comes up to so many `live` events."""
    data, at = bytearray(), -1
    for _ in range(lives):
        start = at + 1
        while (at := data.find(LIVE, start)) < 0:
            start = max(start, len(data) - len(LIVE))
            data += await connection.read()
    return bytes(data)


async def until_connections(count: float) -> None:
    async with asyncio.timeout(10):
        while connections() != count:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)


async def answer(world: StreamWorld, method: str = "GET", query: str = "", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx.AsyncClient(timeout=20) as client:
        return await client.request(method, world.url + query, headers=ACCEPT | named)


async def test_a_stream_has_a_snapshot_then_events_each_with_its_cursor() -> None:
    async with stream_world() as world:
        world.happens("o-1")
        async with world.streaming() as stream:
            first = await stream.until("live")
            world.happens("o-1", "delivered")
            last = await stream.next()
    assert [event.type for event in first] == ["snapshot", "live"]
    assert [order["order_id"] for order in first[0].data["orders"]] == ["o-1"]
    assert ids([last]) == ["o-1:2"]
    for event in [*first, last]:
        assert event.data["type"] == event.type
        assert event.id == event.data.get("cursor")


async def test_proxies_and_caches_are_told_to_keep_nothing_back() -> None:
    async with stream_world() as world, world.streaming(traceparent=f"00-{'a' * 32}-{'b' * 16}-01") as stream:
        headers = stream.response.headers
        assert headers["content-type"] == "text/event-stream"
        assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-store", "no")
        assert headers["trace-id"] == "a" * 32
        assert headers["x-content-type-options"] == "nosniff"
        assert "content-length" not in headers


async def test_after_an_interruption_the_missed_events_come_and_no_snapshot() -> None:
    async with stream_world() as world:
        world.happens("o-1")
        async with world.streaming("?snapshot=true") as stream:
            cursor = (await stream.until("live"))[-1].id
        world.happens("o-1")
        world.happens("o-2")
        assert cursor is not None
        for query, headers in (
            ("?snapshot=true", {"Last_Event_ID": cursor}),
            (f"?after={encode_cursor(Position('abc', (0, 0)))}", {"Last_Event_ID": cursor}),
            (f"?after={cursor}", {}),
        ):
            async with world.streaming(query, **headers) as stream:
                assert sorted(ids(await stream.until("live"))) == ["o-1:2", "o-2:1"]


async def test_an_interrupted_resync_is_begun_again() -> None:
    async with stream_world() as world:
        world.happens("o-1")
        foreign = encode_cursor(Position("fff", (0, 0)))
        async with world.streaming(Last_Event_ID=foreign) as stream:
            resync = await stream.next()
        assert (resync.type, resync.id) == ("resync", resync.data["cursor"])
        assert open_cursor(str(resync.id), None).epoch == NO_EPOCH
        async with world.streaming(Last_Event_ID=str(resync.id)) as stream:
            again = await stream.until("live")
    assert [event.type for event in again] == ["resync", "snapshot", "live"]


async def test_a_filter_narrows_and_a_token_limits() -> None:
    async with stream_world() as world:
        for order_id in ("o-0", "o-1", "o-2"):
            world.happens(order_id)
        async with world.streaming("?merchant_id=beta&status=in_transit") as stream:
            snapshot = await stream.next()
            assert [order["order_id"] for order in snapshot.data["orders"]] == ["o-1"]
        async with world.streaming(token=bearer(merchants=["zeta"])) as stream:
            await stream.until("live")
            world.happens("o-1")
            world.happens("o-2")
            assert ids([await stream.next()]) == ["o-2:2"]


@pytest.mark.parametrize(
    ("query", "claims", "status", "slug"),
    [
        ("?colour=red", {}, 422, "validation-failed"),
        ("?status=lost", {}, 422, "validation-failed"),
        ("?after=nonsense", {}, 400, "invalid-cursor"),
        ("", {"ttl": -60}, 401, "unauthenticated"),
        ("", {"scope": "orders:write"}, 403, "forbidden"),
    ],
)
async def test_a_refusal_has_its_status_before_the_stream_begins(
    query: str, claims: dict[str, object], status: int, slug: str
) -> None:
    async with stream_world() as world:
        token = bearer(**claims)  # type: ignore[arg-type]
        response = await answer(world, query=query, Authorization=f"Bearer {token}")
        assert response.headers["content-type"] == "application/problem+json"
        problem = response.json()
        assert (response.status_code, problem["type"]) == (status, f"/problems/{slug}")
        assert all(error["pointer"].startswith("/query/") for error in problem.get("errors", ()))
        await until_connections(0)


async def test_a_request_without_a_token_is_told_where_it_belongs() -> None:
    async with stream_world() as world:
        for headers in ({}, {"Authorization": "Basic YTpi"}):
            response = await answer(world, **headers)
            assert response.status_code == 401
            assert response.headers["www-authenticate"].startswith("Bearer")
            assert "Authorization" in response.json()["detail"]


async def test_a_replica_that_gets_no_events_sends_clients_to_others() -> None:
    async with stream_world() as world:
        world.is_live = False
        response = await answer(world, Authorization=f"Bearer {bearer()}")
        assert (response.status_code, response.json()["type"]) == (503, "/problems/database-unavailable")
        assert "retry-after" in response.headers


async def test_connections_are_limited_and_counted_until_the_client_has_left() -> None:
    async with stream_world(max_connections=2) as world:  # of which one principal may have one
        async with world.streaming() as stream:
            await stream.until("live")
            for subject, status in (("tester", 429), ("another", 200), ("tester", 429)):
                response = await answer(world, "HEAD", Authorization=f"Bearer {bearer(sub=subject)}")
                assert response.status_code == status
            assert connections() == 1
        await until_connections(0)
        async with world.streaming() as stream:
            await stream.until("live")
        await until_connections(0)


async def test_other_methods_than_get_and_head_are_refused() -> None:
    async with stream_world() as world:
        token = f"Bearer {bearer()}"
        head = await answer(world, "HEAD", Authorization=token)
        assert (head.status_code, head.headers["content-type"], head.content) == (
            200,
            "text/event-stream",
            b"",
        )
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            response = await answer(world, method, Authorization=token)
            assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")


async def test_pages_of_allowed_origins_may_read_and_others_are_refused() -> None:
    async with stream_world(origins=frozenset({DESK})) as world:
        asked = {
            "Origin": DESK,
            "Access_Control_Request_Method": "GET",
            "Access_Control_Request_Headers": "authorization, last-event-id",
        }
        preflight = await answer(world, "OPTIONS", **asked)
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == DESK
        allowed = preflight.headers["access-control-allow-headers"].lower()
        assert {"authorization", "last-event-id"} <= set(allowed.split(", "))
        async with world.streaming(Origin=DESK) as stream:
            assert stream.response.headers["access-control-allow-origin"] == DESK
        refused = await answer(world, Origin=DESK)
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, DESK)
        foreign = await answer(world, Origin="https://evil.example", Authorization=f"Bearer {bearer()}")
        assert foreign.status_code == 403
        assert "access-control-allow-origin" not in foreign.headers


async def test_an_offer_of_another_protocol_is_not_taken() -> None:
    async with stream_world() as world:
        offer = {
            "Connection": "Upgrade, HTTP2-Settings",
            "Upgrade": "h2c",
            "HTTP2_Settings": "AAMAAABkAAQAAP__",
        }
        async with world.streaming(**offer) as stream:
            await stream.until("live")


async def test_an_expired_token_ends_the_stream_with_a_problem() -> None:
    async with stream_world() as world, world.streaming(token=bearer(ttl=1)) as stream:
        last = (await stream.rest())[-1]
        assert (last.type, last.data["problem"]["status"]) == ("problem", 401)


async def test_a_revoked_token_ends_the_stream_with_a_problem() -> None:
    async with (
        stream_world() as world,
        world.streaming() as stream,
        world.streaming(token=bearer(sub="another")) as other,
    ):
        await stream.until("live")
        await other.until("live")
        world.revoke("tester")
        assert [event.data["problem"]["status"] for event in await stream.rest()] == [401]
        world.happens("o-1")
        assert ids([await other.next()]) == ["o-1:1"]


async def test_comments_come_while_nothing_happens_and_heartbeats_if_asked_for() -> None:
    async with stream_world(heartbeat_seconds=0.5) as world, world.streaming("?heartbeat=true") as stream:
        await stream.until("live")
        beat = await stream.next()
        assert (beat.type, beat.data["events"]) == ("events", [])
        assert stream.comments >= 1


async def test_streams_end_when_the_replica_stops() -> None:
    async with stream_world() as world, world.streaming() as stream:
        await stream.until("live")
        world.stop.set()
        assert await stream.rest() == []
        await until_connections(0)


async def test_a_client_that_falls_behind_is_resynchronised_and_bounded() -> None:
    async with stream_world(queue_bytes=64 * 1024, padding_bytes=64 * 1024) as world:
        connection = await RawConnection.open(world.url)
        await connection.send(request("?order_id=o-1"))
        await received(connection, lives=1)  # not before: what happens earlier is in its snapshot
        connection.pause()
        for _ in range(300):  # more than the buffers of both sockets take
            world.happens("o-1")
            await asyncio.sleep(0)
        async with world.streaming("?order_id=o-1") as stream:
            await stream.until("live")
        connection.resume()
        data = await received(connection, lives=1)
        connection.close()
    _, _, after = data.partition(b"event: resync")
    kinds = [line for line in after.split(b"\n") if line.startswith(b"event: ")]
    assert kinds == [b"event: snapshot", b"event: live"]
    snapshot = next(line for line in after.split(b"\n") if line.startswith(b'data: {"type":"snapshot"'))
    assert orjson.loads(snapshot.removeprefix(b"data: "))["orders"][0]["version"] == 300


async def test_a_client_that_takes_nothing_is_cut() -> None:
    async with stream_world(heartbeat_seconds=0.5, padding_bytes=64 * 1024) as world:
        connection = await RawConnection.open(world.url)
        await connection.send(request())
        await until_connections(1)
        connection.pause()
        for _ in range(300):
            world.happens("o-1")
            await asyncio.sleep(0)
        await until_connections(0)
        connection.close()


async def test_what_a_client_sends_on_its_stream_is_ignored() -> None:
    async with stream_world() as world:
        connection = await RawConnection.open(world.url)
        await connection.send(request())
        await received(connection, lives=1)
        await connection.send(b"GET /healthz HTTP/1.1\r\nHost: notifier\r\n\r\n")
        await connection.send(b"\x81\x85" + b"x" * 1024 * 1024)
        world.happens("o-1")
        data = await connection.read()
        assert data.startswith(b"event: events\n")
        assert connections() == 1
        connection.close()
        await until_connections(0)


async def test_clients_that_leave_in_the_middle_leave_nothing_behind() -> None:
    async with stream_world(max_connections=1000) as world:
        for number in range(50):
            connection = await RawConnection.open(world.url)
            await connection.send(request()[: None if number % 2 else 40 + number])
            if number % 3 == 0:
                await asyncio.sleep(0)
            connection.close()
        await until_connections(0)
        async with world.streaming() as stream:
            await stream.until("live")
