"""Routes: descriptions of their answers, made beside the endpoints, and those that bypass FastAPI."""

from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from inspect import get_annotations, signature
from typing import Any, TypeVar, get_args, get_origin

from fastapi import HTTPException, Request, Response
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.params import Depends, Query
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from tracking_shared.contracts.problems import ProblemError, validation_problem

JSON = "application/json"

READ, WRITE, CORRECT = "orders:read", "orders:write", "orders:correct"
"""Scopes of tokens."""

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

_ATTRIBUTE = "__described__"


@dataclass(frozen=True, slots=True)
class Content:
    """A body in one media type."""

    shape: Any
    """A type, or a JSON Schema."""
    example: Any
    """None: it cannot be shown as text."""
    media_type: str = JSON


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer. Of its headers, some are `always` there."""

    status: int
    description: str
    contents: Sequence[Content] = ()
    always: Sequence[str] = ()
    sometimes: Sequence[str] = ()
    links: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteDescription:
    """The description of an endpoint."""

    name: str
    answers: Sequence[Answer]
    problems: Sequence[str] = ()
    """Slugs, beside those of every route."""
    headers: Sequence[str] = ()
    """Request headers, beside those of every request."""
    bodies: Sequence[Content] = ()
    """Of the request."""
    scope: str | None = None
    """The token must have it; None: no token is needed."""
    other_scope: str | None = None
    """For some callers it is enough in its place."""


def described(*answers: Answer, name: str | None = None, **members: Any) -> Callable[[Endpoint], Endpoint]:
    """Decorates an endpoint with its description: a `RouteDescription` with these members, and the endpoint's
    name unless it has another.
    """

    def decorate(endpoint: Endpoint) -> Endpoint:
        described_as(endpoint, RouteDescription(name=name or endpoint.__name__, answers=answers, **members))
        return endpoint

    return decorate


def described_as(endpoint: Callable[..., Any], description: RouteDescription) -> None:
    """Gives an endpoint its description."""
    setattr(endpoint, _ATTRIBUTE, description)


def description_of(endpoint: Callable[..., Any]) -> RouteDescription | None:
    """The description that the endpoint was decorated with, if it was."""
    description: RouteDescription | None = getattr(endpoint, _ATTRIBUTE, None)
    return description


Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class FastRoute(APIRoute):
    """A route whose endpoint gives a `Response`, and takes nothing but: the `request`; parts of the path, as
    text; `Annotated[…, Depends(…)]` on coroutine functions of the request alone; and one
    `Annotated[Model, Query()]`.

    A request without a query string gets the defaults of the model. The others go FastAPI's way, which
    validates them; a second value of a parameter that is no list is refused (`validation-failed`), where
    FastAPI takes the last one.
    """

    def get_route_handler(self) -> Handler:
        """Called by FastAPI once for each route."""
        marks = [
            (name, *get_args(hint)[:2])
            for name, hint in get_annotations(self.endpoint, eval_str=True).items()
            if len(get_args(hint)) > 1
        ]
        models = {name: kind for name, kind, mark in marks if isinstance(mark, Query)}
        plain = _plain_handler(
            self.endpoint,
            {name: mark.dependency for name, _, mark in marks if isinstance(mark, Depends)},
            {name: model() for name, model in models.items()},
        )
        self._plain = plain
        self._has_parameters = bool(models)
        if not models:
            return plain
        validating = super().get_route_handler()
        lists = {name for model in models.values() for name in _lists(model)}

        async def handle(request: Request) -> Response:
            if not request.scope["query_string"]:
                return await plain(request)
            _refuse_repeated(request, lists)
            return await validating(request)

        return handle

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the router, for a request to this path. Raises `HTTPException` (405) with all methods of
        the path, which may have a route for each.
        """
        if scope["method"] not in (self.methods or ()):
            raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": self._allowed(scope)})
        if self._has_parameters and scope["query_string"]:
            await AsyncExitStackMiddleware(super().handle)(scope, receive, send)
            return
        request = Request(scope, receive, send)
        await (await self._plain(request))(scope, receive, send)

    def _allowed(self, scope: Scope) -> str:
        same = [route for route in scope["router"].routes if getattr(route, "path", None) == self.path]
        return ", ".join(sorted({method for route in same for method in route.methods}))


def _plain_handler(
    endpoint: Callable[..., Awaitable[Response]],
    dependencies: Mapping[str, Callable[..., Any] | None],
    defaults: Mapping[str, BaseModel],
) -> Handler:
    takes_request = "request" in signature(endpoint).parameters

    async def handle(request: Request) -> Response:
        arguments: dict[str, Any] = {**request.path_params, **defaults}
        if takes_request:
            arguments["request"] = request
        for name, dependency in dependencies.items():
            if dependency is not None:
                arguments[name] = await dependency(request)
        return await endpoint(**arguments)

    return handle


def _lists(model: type[BaseModel]) -> list[str]:
    fields = model.model_fields.items()
    return [name for name, field in fields if get_origin(field.annotation) is list]


def _refuse_repeated(request: Request, lists: Collection[str]) -> None:
    seen: set[str] = set()
    for name, _ in request.query_params.multi_items():
        if name in seen and name not in lists:
            errors = [{"pointer": f"/query/{name}", "message": "must be given once"}]
            raise ProblemError.of(validation_problem(errors))
        seen.add(name)
