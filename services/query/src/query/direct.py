"""Requests without a query string, answered before FastAPI looks for a route and for arguments.

That takes longer than all else that the service does to show an order: layers that serve what these reads
do not use, a search in each router, a walk through the tree of dependencies, a model to validate. Without a
query string there is nothing to validate.
"""

from collections.abc import Awaitable, Callable, Iterable
from inspect import signature
from re import Pattern
from typing import Any, get_args

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from query.parameters import Parameters
from shared.access import Principal
from shared.http import problems_answered

Reader = Callable[[Request], Awaitable[Principal]]
Handler = Callable[[Request], Awaitable[Response]]


class DirectReads:
    """The layer in front of FastAPI's own. Whatever else is asked is passed on to them."""

    def __init__(self, app: ASGIApp, routers: Iterable[APIRouter], reader: Reader, prefix: str) -> None:
        """Answers for the routes of `routers`, mounted at `prefix`. Their endpoints take `principal` (what
        `reader` gives), `parameters` (a model of the query), parts of the path as they are, and perhaps
        `request`.
        """
        self._app = app
        self._reads: list[tuple[Pattern[str], ASGIApp]] = [
            (compile_path(prefix + route.path)[0], problems_answered(_direct(route.endpoint, reader)))
            for router in routers
            for route in router.routes
            if isinstance(route, APIRoute)
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._choose(scope)(scope, receive, send)

    def _choose(self, scope: Scope) -> ASGIApp:
        if scope["type"] != "http" or scope["method"] != "GET" or scope["query_string"]:
            return self._app
        for pattern, read in self._reads:
            found = pattern.match(scope["path"])
            if found is not None:
                scope["path_params"] = found.groupdict()
                return read
        return self._app


def _direct(endpoint: Callable[..., Awaitable[Response]], reader: Reader) -> Handler:
    asked = signature(endpoint).parameters
    model: type[Parameters] = get_args(asked["parameters"].annotation)[0]
    defaults = model()

    async def direct(request: Request) -> Response:
        arguments: dict[str, Any] = request.path_params
        if "request" in asked:
            arguments = arguments | {"request": request}
        return await endpoint(**arguments, principal=await reader(request), parameters=defaults)

    return direct
