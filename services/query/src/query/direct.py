"""Handlers of requests without a query string, in which there is nothing for FastAPI to validate."""

from collections.abc import Awaitable, Callable, Iterable
from inspect import signature
from typing import Any, get_args

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from query.parameters import Parameters
from shared.access import Principal
from shared.direct_routes import Handler

Reader = Callable[[Request], Awaitable[Principal]]


def direct_handlers(routers: Iterable[APIRouter], reader: Reader, prefix: str) -> dict[str, Handler]:
    """A handler for each path of `routers`, mounted at `prefix`. Their endpoints take `principal` (what
    `reader` gives), `parameters` (a model of the query), parts of the path as they are, and perhaps
    `request`.
    """
    return {
        prefix + route.path: _direct(route.endpoint, reader)
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute)
    }


def _direct(endpoint: Callable[..., Awaitable[Response]], reader: Reader) -> Handler:
    asked = signature(endpoint).parameters
    model: type[Parameters] = get_args(asked["parameters"].annotation)[0]
    defaults = model()

    async def direct(request: Request, **arguments: Any) -> Response:
        if "request" in asked:
            arguments["request"] = request
        return await endpoint(**arguments, principal=await reader(request), parameters=defaults)

    return direct
