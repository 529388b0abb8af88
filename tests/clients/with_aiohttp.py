"""Python's aiohttp, for HTTP and for WebSockets."""

import asyncio
import json
import os
from typing import Any

from aiohttp import ClientSession

INGEST, QUERY = os.environ["INGEST_URL"], os.environ["QUERY_URL"]
ORDER, MERCHANT = os.environ["ORDER_ID"], os.environ["MERCHANT_ID"]


async def post(session: ClientSession, path: str, key: str, body: Any) -> tuple[int, str, Any]:
    async with session.post(INGEST + path, json=body, headers={"Idempotency-Key": key}) as answer:
        return answer.status, answer.headers.get("Idempotent-Replayed", ""), await answer.json()


def create(order_id: str) -> dict[str, Any]:
    customer = {"name": "Zoë 東", "contact_ref": "crm:1"}
    return {"order_id": order_id, "merchant_id": MERCHANT, "customer": customer}


async def read(session: ClientSession) -> dict[str, Any]:
    """The order, and the list from page to page."""
    async with session.get(f"{QUERY}/v1/orders/{ORDER}") as answer:
        order = await answer.json()
    listed: list[str] = []
    pages, following = 0, f"{QUERY}/v1/orders?limit=1&merchant_id={MERCHANT}"
    while following:
        async with session.get(following) as answer:
            pages += 1
            listed += [item["order_id"] for item in (await answer.json())["items"]]
            link = answer.links.get("next")
            following = str(link["url"]) if link else ""  # made absolute by the library
    return {"name": order["customer"]["name"], "status": order["status"], "listed": listed, "pages": pages}


async def stream(session: ClientSession) -> list[str]:
    """The events of the update that is sent once the stream is live."""
    async with session.ws_connect(os.environ["STREAM_URL"]) as socket:
        await socket.send_json({"type": "subscribe", "filter": {"order_id": [ORDER]}})
        async for message in socket:
            document = message.json()
            if document["type"] == "live":
                await post(session, f"/v1/orders/{ORDER}/updates", "deliver", {"status": "delivered"})
            elif document["type"] == "events":
                return [event["id"] for event in document["events"]]
    return []


async def main() -> None:
    async with ClientSession(headers={"Authorization": f"Bearer {os.environ['TOKEN']}"}) as session:
        created, _, _ = await post(session, "/v1/orders", "create", create(ORDER))
        repeated, replayed, _ = await post(session, "/v1/orders", "create", create(ORDER))
        updated, _, _ = await post(session, f"/v1/orders/{ORDER}/updates", "pick-up", {"status": "picked_up"})
        operations = [
            {"op": "create", **create(f"{ORDER}-b")},
            {"op": "create", **create(f"{ORDER}-c")},
            {"op": "update", "order_id": ORDER, "status": "in_transit"},
        ]
        _, _, batch = await post(session, "/v1/batch", "batch", operations)
        outcomes = [result["outcome"] for result in batch["results"]]
        told = {"create": created, "repeat": repeated, "replayed": replayed, "update": updated}
        told |= {"batch": outcomes} | await read(session) | {"streamed": await stream(session)}
    print(json.dumps(told))


asyncio.run(main())
