"""Addresses of orders by merchant and reference, beside those by order id.

What is at `/v1/orders/{order_id}` and below it is also at `/v1/merchants/{merchant_id}/orders/{reference}`,
for the order id that is derived from the two. A reference is percent-encoded in the path: `WH%2FOUT%2F00012`.
So these routes are matched on the path as it was sent, where `%2F` is no separator yet.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import wraps
from inspect import Parameter, signature
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import FastAPI, Response
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope

from tracking_shared.contracts.references import order_id_at
from tracking_shared.http.described_routes import FastRoute, described_as, description_of
from tracking_shared.http.request_parser import path_as_sent

BY_ID = "/v1/orders/{order_id}"
BY_REFERENCE = "/v1/merchants/{merchant_id}/orders/{reference}"

Endpoint = Callable[..., Awaitable[Response]]

_PATH_PARTS = ("merchant_id", "reference")


class SentPathRoute(FastRoute):
    """A route that is matched on the path as it was sent. Its parts are decoded one by one; one that is no
    UTF-8 is empty.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Called by the router for each request that no route before has taken."""
        found = self.path_regex.match(path_as_sent(scope)) if scope["type"] == "http" else None
        if found is None:
            return Match.NONE, {}
        parts = {name: _decoded(part) for name, part in found.groupdict().items()}
        child: Scope = {"endpoint": self.endpoint, "path_params": parts, "route": self}
        return Match.FULL if scope["method"] in (self.methods or ()) else Match.PARTIAL, child


def _decoded(part: str) -> str:
    try:
        return unquote_to_bytes(part).decode()
    except UnicodeDecodeError:
        return ""


def add_merchant_addresses(app: FastAPI) -> None:
    """Adds the addresses by reference of all routes of an order that the application has so far."""
    for route in list(app.routes):
        if isinstance(route, APIRoute) and f"{route.path}/".startswith(f"{BY_ID}/"):
            app.router.add_api_route(
                BY_REFERENCE + route.path.removeprefix(BY_ID),
                _by_reference(route.endpoint),
                methods=list(route.methods or ()),
                summary=f"{route.summary}, by the merchant's reference",
                description=route.description,
                tags=route.tags,
                route_class_override=SentPathRoute,
            )


def _by_reference(endpoint: Endpoint) -> Endpoint:
    """The endpoint of an order, for its merchant and reference."""

    @wraps(endpoint)
    async def answer(merchant_id: str, reference: str, **arguments: Any) -> Response:
        # What can be none is no identifier either, and is answered like an order that does not exist.
        order_id = order_id_at(merchant_id, reference) or f"{merchant_id}/{reference}"
        return await endpoint(order_id=order_id, **arguments)

    given = signature(endpoint, eval_str=True)
    parts = [Parameter(name, Parameter.KEYWORD_ONLY, annotation=str) for name in _PATH_PARTS]
    others = [
        parameter.replace(kind=Parameter.KEYWORD_ONLY)
        for parameter in given.parameters.values()
        if parameter.name != "order_id"
    ]
    answer.__signature__ = given.replace(parameters=[*parts, *others])  # type: ignore[attr-defined]  # inspect reads it
    answer.__annotations__ = {parameter.name: parameter.annotation for parameter in [*parts, *others]}
    operation = description_of(endpoint)
    if operation is not None:
        described_as(answer, replace(operation, name=f"{operation.name}_by_reference"))
    return answer
