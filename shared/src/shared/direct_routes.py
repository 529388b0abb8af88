"""Routes that are answered before FastAPI's own layers, for what is asked most often.

Those layers serve what these routes do not use, and cost more than the rest of a short request: three
wrappers around the application, a search in each router, a walk through the tree of dependencies.
"""

from collections.abc import Awaitable, Callable, Mapping
from re import Pattern

from fastapi import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.http import problems_answered

Handler = Callable[..., Awaitable[Response]]
"""Called with the request, and with the parameters of the path by their names."""


class DirectRoutes:
    """A layer of an application. It passes on whatever is not for its routes, another method included; the
    application has them too, to describe them and to refuse other methods.
    """

    def __init__(
        self, app: ASGIApp, method: str, handlers: Mapping[str, Handler], *, with_query: bool = True
    ) -> None:
        """`handlers`: by path, with parameters in braces. Without `with_query`, requests that have a query
        string are passed on, too.
        """
        self._app = app
        self._method = method
        self._with_query = with_query
        self._routes: list[tuple[Pattern[str], ASGIApp]] = [
            (compile_path(path)[0], problems_answered(handler)) for path, handler in handlers.items()
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._choose(scope)(scope, receive, send)

    def _choose(self, scope: Scope) -> ASGIApp:
        if scope["type"] != "http" or scope["method"] != self._method:
            return self._app
        if scope["query_string"] and not self._with_query:
            return self._app
        for pattern, route in self._routes:
            found = pattern.match(scope["path"])
            if found is not None:
                scope["path_params"] = found.groupdict()
                return route
        return self._app
