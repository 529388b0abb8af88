"""Requests without a query string, answered without FastAPI's general way to find arguments.

That way takes longer than all else that the service does to show an order: it walks the tree of
dependencies and validates a model for each request. Without a query string there is nothing to validate.
"""

from collections.abc import Awaitable, Callable, Coroutine
from inspect import signature
from typing import Any, get_args

from fastapi import Request, Response
from fastapi.routing import APIRoute

from query.parameters import Parameters
from shared.access import Principal

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def direct_route(reader: Callable[[Request], Awaitable[Principal]]) -> type[APIRoute]:
    """The class of routes whose endpoints take `principal` (what `reader` gives), `parameters` (a model of
    the query), parts of the path as they are, and perhaps `request`.

    OpenAPI and requests with a query string see no difference.
    """

    class DirectRoute(APIRoute):
        def get_route_handler(self) -> Handler:
            general = super().get_route_handler()
            direct = _direct(self.endpoint, reader)

            async def handle(request: Request) -> Response:
                return await (general if request.scope["query_string"] else direct)(request)

            return handle

    return DirectRoute


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
