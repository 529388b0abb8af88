"""What `tracking check` says of the members of the queues."""

from typing import Any

import pytest
from aiohttp import encode_basic_auth, web

from tracking.upkeep.queue_members import NOT_ASKED, members_report, queue_members

NAMES = ["orders.commands.p0", "orders.dead"]


def queue(name: str, members: int, online: int) -> dict[str, Any]:
    nodes = [f"rabbit@{number}" for number in range(members)]
    return {"name": name, "members": nodes, "online": nodes[:online]}


@pytest.mark.parametrize(
    ("members", "online", "nodes", "expected"),
    [
        (3, 3, 3, "members of the queues: 3 or more of each, and all are up"),
        (1, 1, 1, "members of the queues: 1 or more of each, and all are up"),
        (3, 3, 5, "members of the queues: 3 or more of each, and all are up"),
        (1, 1, 3, "orders.commands.p0: too few members, 1 instead of 3"),
        (3, 2, 3, "orders.commands.p0: 2 of its 3 members are up"),
    ],
)
def test_queues_with_too_few_members_are_named(members: int, online: int, nodes: int, expected: str) -> None:
    queues = [queue("orders.commands.p0", members, online), queue("orders.dead", max(members, nodes), nodes)]
    queues[1]["online"] = queues[1]["members"]
    [line] = members_report(queues, NAMES, nodes)
    assert expected in line


def test_a_queue_that_is_not_shown_is_named() -> None:
    [line] = members_report([queue("orders.dead", 3, 3)], NAMES, 3)
    assert "orders.commands.p0: it is not among" in line


async def test_without_a_management_api_it_says_that_it_does_not_know() -> None:
    assert await queue_members("", "amqp://localhost/", NAMES) == [NOT_ASKED]
    [line] = await queue_members("http://a:secret@127.0.0.1:9", "amqp://localhost/", NAMES)
    assert "does not answer" in line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("amqp_url", "vhost"),
    [("amqp://h", "/"), ("amqp://h/", "/"), ("amqp://h/%2F", "/"), ("amqp://h/a%20b?heartbeat=1", "a b")],
)
async def test_the_management_api_is_asked_for_the_queues_of_the_virtual_host(
    amqp_url: str, vhost: str
) -> None:
    async def queues(request: web.Request) -> web.Response:
        assert request.match_info["vhost"] == vhost
        assert request.headers["Authorization"] == encode_basic_auth("monitor", "p@ss")
        return web.json_response([queue(name, 3, 3) for name in NAMES])

    async def nodes(_: web.Request) -> web.Response:
        return web.json_response([{"name": "rabbit@0"}] * 3)

    app = web.Application()
    app.add_routes([web.get("/api/queues/{vhost}", queues), web.get("/api/nodes", nodes)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        [line] = await queue_members(f"http://monitor:p%40ss@127.0.0.1:{port}/", amqp_url, NAMES)
    finally:
        await runner.cleanup()
    assert line == "members of the queues: 3 or more of each, and all are up"
