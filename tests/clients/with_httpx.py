"""Python's httpx. It has no WebSockets."""

import json
import os
from typing import Any

import httpx

INGEST, QUERY = os.environ["INGEST_URL"], os.environ["QUERY_URL"]
ORDER, MERCHANT = os.environ["ORDER_ID"], os.environ["MERCHANT_ID"]

client = httpx.Client(headers={"Authorization": f"Bearer {os.environ['TOKEN']}"}, timeout=20)


def post(path: str, key: str, body: Any) -> httpx.Response:
    return client.post(INGEST + path, json=body, headers={"Idempotency-Key": key})


def create(order_id: str) -> dict[str, Any]:
    customer = {"name": "Zoë 東", "contact_ref": "crm:1"}
    return {"order_id": order_id, "merchant_id": MERCHANT, "customer": customer}


with client:
    created = post("/v1/orders", "create", create(ORDER))
    repeated = post("/v1/orders", "create", create(ORDER))
    updated = post(f"/v1/orders/{ORDER}/updates", "pick-up", {"status": "picked_up"})
    operations = [
        {"op": "create", **create(f"{ORDER}-b")},
        {"op": "create", **create(f"{ORDER}-c")},
        {"op": "update", "order_id": ORDER, "status": "in_transit"},
    ]
    batch = post("/v1/batch", "batch", operations).json()

    order = client.get(f"{QUERY}/v1/orders/{ORDER}").json()
    listed: list[str] = []
    pages, following = 0, f"/v1/orders?limit=1&merchant_id={MERCHANT}"
    while following:
        page = client.get(QUERY + following)
        pages += 1
        listed += [item["order_id"] for item in page.json()["items"]]
        following = page.links.get("next", {}).get("url", "")

told = {
    "create": created.status_code,
    "repeat": repeated.status_code,
    "replayed": repeated.headers["Idempotent-Replayed"],
    "update": updated.status_code,
    "batch": [result["outcome"] for result in batch["results"]],
    "name": order["customer"]["name"],
    "status": order["status"],
    "listed": listed,
    "pages": pages,
}
print(json.dumps(told))
