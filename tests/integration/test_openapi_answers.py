"""Each answer that the OpenAPI documents promise is given, and what is given is as they say.

The clients of the other tests check every answer that they get. Here the examples of the documents are sent,
and everything is refused for every reason.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any

import orjson
from aiohttp import ClientSession

from callers import token
from fixtures import Spine, StartService
from openapi_checks import SERVICES, Service, check_answer, document_of, resolved
from tracking_shared.contracts.problems import PROBLEM_MEDIA_TYPE

BEYOND = frozenset(
    {
        "malformed-request",
        "request-timeout",
        "headers-too-large",
        "overloaded",
        "keys-unavailable",
        "too-many-requests",
        "cursor-expired",
        "internal-error",
        "broker-unavailable",
        "database-unavailable",
        "order-archived",
        "archive-unavailable",
    }
)
"""What takes an outage, an archive, a crowd or a broken client to be seen. Other tests check them, too."""

JSON = {"Content-Type": "application/json"}
BATCH = "/v1/batch"
ORDER = "/v1/orders/{order_id}"
ORDERS = "/v1/orders"
BY_REFERENCE = "/v1/merchants/{merchant_id}/orders/{reference}"
CUSTOMER = "/v1/customers/{contact_ref}"
WEBHOOKS = "/v1/webhooks"
MERCHANT = "m-1"
UPDATES = "/v1/orders/{order_id}/updates"
CHECKPOINTS = "/v1/orders/{order_id}/checkpoints"
CORRECTIONS = "/v1/orders/{order_id}/corrections"


@dataclass(frozen=True)
class Request:
    """One request to a path of a document."""

    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    order_id: str = "seen"
    bearer: str | None = None
    """Without it: a token for everything. Empty: none."""
    method: str = ""
    """Without it: the path's own."""


def post(path: str, body: Any, *, key: str = "", **fields: Any) -> Request:
    headers = JSON | ({"Idempotency-Key": key} if key else {}) | fields.pop("headers", {})
    sent = body if isinstance(body, bytes) else orjson.dumps(body)
    return Request(path, headers=headers, body=sent, **fields)


def paths_of(service: Service) -> Iterator[tuple[str, Any]]:
    """The paths of the document, without those by reference: `by_reference` makes them of the others. Those
    of webhooks have several methods each, and are asked in `test_webhook_answers`.
    """
    for path, methods in document_of(service)["paths"].items():
        if not path.startswith((BY_REFERENCE, WEBHOOKS)):
            yield path, methods


def refused_everywhere(service: Service) -> Iterator[Request]:
    for path, methods in paths_of(service):
        yield Request(path, method="PATCH" if "delete" in methods else "DELETE")
        [operation] = methods.values()
        if operation["security"]:
            yield Request(path, bearer="")
            yield Request(path, bearer=token(scope="orders:nothing"))
        if "{" in path:
            yield Request(path, order_id="a%2Fb")


def asked_of_query() -> Iterator[Request]:
    for path, methods in paths_of("query"):
        [operation] = methods.values()
        if not operation["security"]:
            yield Request(path)
            continue
        content = operation["responses"]["200"].get("content", {})
        for media_type in content:
            yield Request(path, headers={"Accept": media_type})
        yield Request(path, "?strange=1")
        yield Request(path, headers={"Accept": "image/png"})
        yield Request(path, order_id="unseen")
        parameters = {parameter["name"] for parameter in operation["parameters"]}
        yield from (Request(path, f"?{name}=x") for name in parameters & {"cursor", "after"})
    yield Request(ORDER, headers={"If-None-Match": "*"})
    yield Request(ORDER, headers={"If-Match": '"1-0123456789ab"'})
    yield Request(ORDERS, "?limit=1")
    yield Request(ORDERS, headers={"Accept": "text/csv", "Accept-Encoding": "gzip"})
    yield Request(ORDER + "/history", "?limit=1")


def asked_of_ingest() -> Iterator[Request]:
    for path, methods in paths_of("ingest"):
        if "get" in methods:
            yield Request(path)
            if methods["get"]["security"]:
                yield Request(path, "?strange=1")
                yield Request(path, order_id="unseen")
            continue
        for media_type, content in methods["post"]["requestBody"]["content"].items():
            example = content["example"]
            body = example.encode() if isinstance(example, str) else orjson.dumps(example)
            yield Request(path, headers={"Content-Type": media_type}, body=body)
        yield post(path, b"{")
        yield post(path, {"strange": 1})
        yield post(path, b" " * 2_000_000)
        yield post(path, b"x", headers={"Content-Type": "text/plain"})
    yield Request(ORDER, headers={"If-None-Match": "*"})
    yield Request(ORDER, headers={"If-Match": '"1-0123456789ab"'})
    created = document_of("ingest")["paths"][ORDERS]["post"]["requestBody"]["content"]["application/json"]
    again = created["example"] | {"order_id": "again"}
    yield post(ORDERS, again, key="k", headers={"Prefer": "respond-async"})
    yield post(ORDERS, again, key="k", headers={"Prefer": "wait=10"})
    yield post(ORDERS, again | {"merchant_id": "other"}, key="k")
    yield post(ORDERS, again, key="another")
    yield post(UPDATES, {"status": "in_transit"}, key="a")
    yield post(UPDATES, {"status": "in_transit"}, key="a")
    yield post(UPDATES, {"status": "cancelled"}, key="a")
    yield post(UPDATES, {"status": "in_transit"}, headers={"Prefer": "respond-async"})
    yield post(UPDATES, {"status": "picked_up"}, key="b")
    yield post(UPDATES, {"status": "picked_up"}, key="b")
    yield post(UPDATES, {"status": "cancelled", "expected_version": 1})
    yield post(UPDATES, {"status": "cancelled"}, headers={"If-Match": '"1-0123456789ab"'})
    yield post(UPDATES, {"status": "cancelled"}, order_id="unseen")
    for path, body in ((CHECKPOINTS, {"kind": "note"}), (CORRECTIONS, {"status": "created", "reason": "r"})):
        yield post(path, body, key=f"{path[-6:]}-1")
        yield post(path, body, key=f"{path[-6:]}-1")
        yield post(path, body, headers={"Prefer": "respond-async"})
        yield post(path, body | {"expected_version": 99}, key=f"{path[-6:]}-2")
        yield post(path, body | {"expected_version": 99}, key=f"{path[-6:]}-2")
        yield post(path, body | {"metadata": {"other": 1}}, key=f"{path[-6:]}-1")
        yield post(path, body, headers={"If-Match": '"99-0123456789ab"'})
        yield post(path, body, order_id="unseen")
    yield post(CORRECTIONS, {"status": "created", "reason": "there already"})
    yield post(BATCH, [{"op": "update", "order_id": "unseen", "status": "cancelled"}, 7])


def by_reference(request: Request) -> Iterator[Request]:
    """The same for the order that has the id as its reference, if it is about an order."""
    below = request.path.removeprefix(ORDER)
    if below != request.path:
        # A reference may hold a slash, but for another path it must not be encoded.
        reference = "a/b" if request.order_id == "a%2Fb" else request.order_id
        yield replace(request, path=BY_REFERENCE + below, order_id=reference)


def promised(service: Service) -> set[str]:
    """Every answer of the document that can be had by asking."""
    found = set()
    for path, methods in document_of(service)["paths"].items():
        if path.startswith(WEBHOOKS):
            continue
        for operation in methods.values():
            for status, reference in operation["responses"].items():
                content = resolved(service, reference).get("content", {"": {}})
                for media_type, shown in content.items():
                    kinds = shown["examples"] if media_type == PROBLEM_MEDIA_TYPE else [media_type]
                    found |= {f"{path} {status} {kind.partition(';')[0]}" for kind in kinds}
    unready = {"/readyz 503 application/json", f"{CUSTOMER} 202 application/json"}
    return {answer for answer in found if answer.rpartition(" ")[2] not in BEYOND} - unready


async def erased(session: ClientSession, url: str) -> str:
    """The id of an erasure."""
    headers = {"Authorization": f"Bearer {token(scope='orders:admin')}"}
    async with session.delete(f"{url}/v1/customers/nobody", headers=headers) as response:
        return str((await response.json())["erasure_id"])


async def ask(session: ClientSession, url: str, service: Service, request: Request, erasure_id: str) -> str:
    """Sends it, checks the answer, and says which of those that are promised it is."""
    [own] = document_of(service)["paths"][request.path]
    method = request.method or own.upper()
    path = request.path.replace("{order_id}", request.order_id).replace("{update_id}", "seen.create")
    path = path.replace("{merchant_id}", MERCHANT).replace("{reference}", request.order_id)
    path = path.replace("{contact_ref}", request.order_id.replace("%2F", "/"))
    path = path.replace("{erasure_id}", erasure_id if request.order_id == "seen" else request.order_id)
    everything = token(scope="orders:read orders:write orders:admin")
    bearer = everything if request.bearer is None else request.bearer
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    data = None if request.body is None else BytesIO(request.body)
    async with session.request(
        method, url + path + request.query, data=data, headers=headers | dict(request.headers)
    ) as response:
        body = await response.read()
    check_answer(service, method, path, status=response.status, headers=response.headers, body=body)
    kind = response.headers.get("Content-Type", "").partition(";")[0]
    if kind == PROBLEM_MEDIA_TYPE:
        kind = orjson.loads(body)["type"].rpartition("/")[2]
    return f"{request.path} {response.status} {kind}"


async def check_pages(session: ClientSession, url: str, service: Service) -> None:
    """Fails unless the document is served, and a page of it that needs nothing from outside."""
    async with session.get(f"{url}/openapi.json") as response:
        served = await response.json()
    assert served["components"] == document_of(service)["components"]
    assert served["paths"] == document_of(service)["paths"]
    async with session.get(f"{url}/docs") as response:
        page, policy = await response.text(), response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "http" not in page
    assert "<script>" not in page
    parts = re.findall(r'(?:src|href)="(docs/[^"]+)"', page)
    assert len(parts) == 3
    for part in parts:
        async with session.get(f"{url}/{part}") as response:
            kind = "text/css" if part.endswith("css") else "text/javascript"
            assert response.headers["Content-Type"].startswith(kind)
            assert len(await response.read()) > 100
    async with session.get(f"{url}/docs/core.py") as response:
        assert response.status == 404


async def test_the_documents_are_served_and_every_answer_that_they_describe_is_given(
    spine: Spine, start_service: StartService
) -> None:
    query = await start_service("query")
    urls: dict[Service, str] = {"ingest": spine.ingest.url, "query": query.url}
    await spine.caller.live("seen", ("picked_up",))
    customer = {"name": "Ada", "contact_ref": "crm-1"}
    await spine.caller.post(ORDERS, {"merchant_id": MERCHANT, "reference": "seen", "customer": customer})
    await spine.caller.post(f"/v1/merchants/{MERCHANT}/orders/seen/updates", {"status": "picked_up"})
    asked = {"ingest": list(asked_of_ingest()), "query": list(asked_of_query())}
    async with ClientSession() as session:
        erasure_id = await erased(session, urls["query"])
        for service in SERVICES:
            await check_pages(session, urls[service], service)
            by_id = [*asked[service], *refused_everywhere(service)]
            requests = [*by_id, *(other for request in by_id for other in by_reference(request))]
            seen = {await ask(session, urls[service], service, request, erasure_id) for request in requests}
            assert seen >= promised(service), sorted(promised(service) - seen)
