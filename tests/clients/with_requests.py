"""Python's requests. It has no WebSockets."""

import json
import os
from typing import Any

import requests

INGEST, QUERY = os.environ["INGEST_URL"], os.environ["QUERY_URL"]
ORDER, MERCHANT = os.environ["ORDER_ID"], os.environ["MERCHANT_ID"]

session = requests.Session()
session.headers["Authorization"] = f"Bearer {os.environ['TOKEN']}"


def post(path: str, key: str, body: Any) -> requests.Response:
    return session.post(INGEST + path, json=body, headers={"Idempotency-Key": key}, timeout=20)


def create(order_id: str) -> dict[str, Any]:
    customer = {"name": "Zoë 東", "contact_ref": "crm:1"}
    return {"order_id": order_id, "merchant_id": MERCHANT, "customer": customer}


created = post("/v1/orders", "create", create(ORDER))
repeated = post("/v1/orders", "create", create(ORDER))
updated = session.post(
    f"{INGEST}/v1/orders/{ORDER}/updates",
    data=iter([b'{"status": ', b'"picked_up"}']),  # its length is not known: it is sent in chunks
    headers={"Content-Type": "application/json", "Idempotency-Key": "pick-up"},
    timeout=20,
)
operations = [
    {"op": "create", **create(f"{ORDER}-b")},
    {"op": "create", **create(f"{ORDER}-c")},
    {"op": "update", "order_id": ORDER, "status": "in_transit"},
]
batch = post("/v1/batch", "batch", operations).json()

order = session.get(f"{QUERY}/v1/orders/{ORDER}", timeout=20).json()
listed: list[str] = []
pages, following = 0, f"/v1/orders?limit=1&merchant_id={MERCHANT}"
while following:
    page = session.get(QUERY + following, timeout=20)
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
