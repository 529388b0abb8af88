"""Requests without a query string, answered before FastAPI looks for a route and for arguments.

That takes longer than all else that the service does to show an order: a search in each router, a walk
through the tree of dependencies, a model to validate. Without a query string there is nothing to validate.
"""

from collections.abc import Awaitable, Callable, Coroutine, Iterator, MutableMapping
from inspect import signature
from typing import Any, get_args

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.routing import Match, Route

from query.parameters import Parameters
from shared.access import Principal

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def direct_routes(
    router: APIRouter, reader: Callable[[Request], Awaitable[Principal]], prefix: str
) -> Iterator[Route]:
    """A route for each of `router`, to stand before it; OpenAPI does not see them.

    The endpoints take `principal` (what `reader` gives), `parameters` (a model of the query), parts of the
    path as they are, and perhaps `request`.
    """
    for route in router.routes:
        if isinstance(route, APIRoute):
            handler = _direct(route.endpoint, reader)
            yield _DirectRoute(prefix + route.path, handler, methods=["GET"], include_in_schema=False)


class _DirectRoute(Route):
    """Whatever else is asked of the path is for FastAPI's route."""

    def matches(self, scope: MutableMapping[str, Any]) -> tuple[Match, dict[str, Any]]:
        if scope["type"] != "http" or scope["method"] != "GET" or scope["query_string"]:
            return Match.NONE, {}
        match, child_scope = super().matches(scope)
        return match, dict(child_scope)


def _direct(endpoint: Callable[..., Any], reader: Callable[[Request], Awaitable[Principal]]) -> Handler:
    asked = signature(endpoint).parameters
    model: type[Parameters] = get_args(asked["parameters"].annotation)[0]
    defaults = model()

    async def direct(request: Request) -> Response:
        arguments: dict[str, Any] = request.path_params
        if "request" in asked:
            arguments = arguments | {"request": request}
        answer: Response = await endpoint(**arguments, principal=await reader(request), parameters=defaults)
        return answer

    return direct
