"""The notifier behind the real ingest and order-state: what is posted arrives in the stream."""

from typing import Any

import jwt
from aiohttp import ClientSession
from notifier_stack import StartService, Watcher, eventually, ids, new_order, watching

from tracking_client.order_view import order_after

STATUSES = ("picked_up", "in_transit", "in_transit", "delivered")


async def test_what_is_posted_arrives_in_the_stream(
    start_service: StartService, service_environment: dict[str, str]
) -> None:
    services = {name: await start_service(name) for name in ("order_state", "ingest", "notifier")}
    claims = {"sub": "t", "scope": "orders:read orders:write", "merchants": ["acme"], "exp": 2**32}
    token = jwt.encode(claims, service_environment["JWT_SECRET"], "HS256")
    order = new_order()
    watcher = Watcher(services["notifier"].stream_url, lambda: token)
    headers = {"Authorization": f"Bearer {token}"}
    async with watching(watcher), ClientSession(services["ingest"].url, headers=headers) as ingest:
        body: dict[str, Any] = {"order_id": order, "merchant_id": "acme", "metadata": {"weight": 3}}
        body["customer"] = {"name": "Jane Roe", "contact_ref": "+31 6 1234"}
        posted = [await result(ingest, "/v1/orders", body)]
        for status in STATUSES:
            update = {"status": status, "metadata": {"seen": status}}
            posted.append(await result(ingest, f"/v1/orders/{order}/updates", update))
        await eventually(lambda: len(watcher.events) == 5)
    assert ids(watcher.events) == [f"{order}:{version}" for version in range(1, 6)]
    assert [order_after(event) for event in watcher.events] == posted
    assert watcher.live.orders == {}


async def result(ingest: ClientSession, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The order after what was posted."""
    async with ingest.post(path, json=body) as response:
        assert response.status in (200, 201), await response.text()
        order: dict[str, Any] = (await response.json())["order"]
        return order
