"""Routes by merchant and reference: matched on the path as it was sent, answered as those of the order id."""

from typing import Annotated, Any
from urllib.parse import quote, unquote

import orjson
import pytest
from fastapi import Depends, FastAPI, Query, Request, Response
from pydantic import BaseModel
from starlette.types import Message

from tracking_shared.contracts.problems import ProblemError
from tracking_shared.contracts.references import referenced_order_id
from tracking_shared.http.described_routes import Answer, described, description_of
from tracking_shared.http.merchant_addresses import add_merchant_addresses
from tracking_shared.http.service_app import JsonResponse, install_plumbing, service_app
from tracking_shared.settings import Settings

SETTINGS = Settings(amqp_url="amqp://x", mongodb_url="mongodb://x")


class Parameters(BaseModel):
    limit: int = 7


async def caller(request: Request) -> str:
    return str(request.headers.get("authorization"))


def app() -> FastAPI:
    made = service_app("test", "Test")

    @made.get("/v1/orders/{order_id}/history", summary="Its history")
    @described(Answer(200, "The history"))
    async def get_history(
        request: Request,
        order_id: str,
        who: Annotated[str, Depends(caller)],
        parameters: Annotated[Parameters, Query()],
    ) -> Response:
        return JsonResponse({"order_id": order_id, "who": who, "limit": parameters.limit})

    @made.post("/v1/orders/{order_id}/updates", summary="Update it")
    async def update(request: Request, order_id: str) -> Response:
        raise ProblemError("order-not-found", f"There is no order {order_id}.")

    @made.get("/v1/orders/{order_id}", summary="The order")
    async def get_order(order_id: str) -> Response:
        return JsonResponse({"order_id": order_id})

    @made.get("/v1/orders", summary="Orders")
    async def list_orders() -> Response:
        return JsonResponse([])

    add_merchant_addresses(made)
    install_plumbing(made, SETTINGS, dict)
    return made


async def ask(method: str, raw_path: str, query: str = "") -> tuple[int, Any, dict[str, str], Any]:
    """Status, body, headers, and the path of the route that answered."""
    sent: list[Message] = []
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(raw_path),  # as the server has it
        "raw_path": raw_path.encode(),
        "query_string": query.encode(),
        "headers": [(b"host", b"test"), (b"authorization", b"somebody")],
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app()(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], orjson.loads(body) if body else None, headers, scope.get("route")


@pytest.mark.parametrize(
    "reference",
    [
        "WH/OUT/00012",
        "#1001",
        "ORD 2024/17",
        "ä/ö",
        "..",
        ".",
        "a%2Fb",
        "50%",
        "a?b",
        "a+b",
        "x/history",
        "/",
        "&=;",
    ],
)
async def test_every_reference_reaches_its_order(reference: str) -> None:
    address = f"/v1/merchants/acme/orders/{quote(reference, safe='')}"
    order_id = referenced_order_id("acme", reference)
    assert (await ask("GET", address))[:2] == (200, {"order_id": order_id})
    status, body, *_ = await ask("GET", f"{address}/history")
    assert (status, body) == (200, {"order_id": order_id, "who": "somebody", "limit": 7})


@pytest.mark.parametrize("sent", ["%2e%2e", "%2E%2E", ".."])
async def test_dots_are_a_reference_however_they_are_sent(sent: str) -> None:
    status, body, *_ = await ask("GET", f"/v1/merchants/acme/orders/{sent}")
    assert (status, body) == (200, {"order_id": referenced_order_id("acme", "..")})


async def test_a_part_is_decoded_once() -> None:
    _, body, *_ = await ask("GET", "/v1/merchants/acme/orders/a%252Fb")
    assert body == {"order_id": referenced_order_id("acme", "a%2Fb")}


async def test_parameters_and_the_caller_are_those_of_the_order() -> None:
    status, body, *_ = await ask("GET", "/v1/merchants/acme/orders/%231001/history", "limit=3")
    assert (status, body["limit"], body["who"]) == (200, 3, "somebody")
    assert (await ask("GET", "/v1/merchants/acme/orders/%231001/history", "limit=many"))[0] == 422


async def test_a_problem_names_the_path_as_it_was_sent() -> None:
    path = "/v1/merchants/acme/orders/WH%2FOUT%2F00012/updates"
    status, body, _, route = await ask("POST", path)
    assert (status, body["instance"]) == (404, path)
    assert body["detail"] == f"There is no order {referenced_order_id('acme', 'WH/OUT/00012')}."
    assert route is None or route.path == "/v1/merchants/{merchant_id}/orders/{reference}/updates"


@pytest.mark.parametrize(
    "address",
    ["acme/orders/%0A", "acme/orders/%FF", "acme/orders/%20", "a%2Fb/orders/1", "acme/orders/" + "x" * 65],
    ids=["a control", "no UTF-8", "a blank", "no merchant id", "too long"],
)
async def test_what_can_be_no_reference_is_no_id_of_an_order(address: str) -> None:
    status, body, *_ = await ask("GET", f"/v1/merchants/{address}")
    assert status == 200  # this endpoint takes whatever it gets
    assert "/" in body["order_id"]  # which no identifier has


@pytest.mark.parametrize(
    "path",
    [
        "/v1/merchants/acme/orders",
        "/v1/merchants/acme/orders/",
        "/v1/merchants/acme/orders/WH/OUT/00012",
        "/v1/merchants/acme/orders/1/2",
        "/v1/merchants/acme/orders/1/history/",
        "/v1/merchants/acme/orders%2F1",
        "/v1/merchants//orders/1",
    ],
)
async def test_other_paths_lead_nowhere(path: str) -> None:
    status, body, *_ = await ask("GET", path)
    assert (status, body["type"]) == (404, "/problems/not-found")


async def test_another_method_is_refused_with_those_that_there_are() -> None:
    status, _, headers, _ = await ask("POST", "/v1/merchants/acme/orders/1")
    assert (status, headers["allow"]) == (405, "GET, HEAD")
    assert (await ask("HEAD", "/v1/merchants/acme/orders/1"))[0] == 200


def test_each_route_of_an_order_has_such_an_address_with_a_description_of_its_own() -> None:
    paths = {getattr(route, "path", ""): route for route in app().routes}
    prefix = "/v1/merchants/{merchant_id}/orders/{reference}"
    assert {path for path in paths if path.startswith("/v1/merchants")} == {
        prefix,
        f"{prefix}/updates",
        f"{prefix}/history",
    }
    operation = description_of(paths[f"{prefix}/history"].endpoint)  # type: ignore[attr-defined]  # it is a route
    assert operation is not None
    assert operation.name == "get_history_by_reference"
