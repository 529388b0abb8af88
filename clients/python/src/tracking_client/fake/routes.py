"""The HTTP routes of ingest and query that the fake server has."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import uuid4

from aiohttp import web

from tracking_client.fake.access import Caller, caller_of
from tracking_client.fake.faults import Faults
from tracking_client.fake.filters import matches_order
from tracking_client.fake.order_book import (
    Decision,
    Document,
    OrderBook,
    history_item,
    order_id_of,
    visible_event,
    visible_order,
)
from tracking_client.fake.problems import Refusal, invalid
from tracking_client.fake.queries import check_parameters, cursor_at, flag, number, position_of
from tracking_client.fake.validation import check_identifier, check_words, checked_operation
from tracking_client.json_text import decode, encode

MAX_BATCH_BYTES = 1024 * 1024
MAX_OPERATIONS = 1000

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Routes:
    """Handlers over one book of orders."""

    def __init__(self, book: OrderBook, faults: Faults, secret: str, on_change: Callable[[], None]) -> None:
        self._book = book
        self._faults = faults
        self._secret = secret
        self._on_change = on_change

    def application(self, stream: Handler) -> web.Application:
        """An application with all routes; `stream` serves the WebSocket."""
        app = web.Application(client_max_size=MAX_BATCH_BYTES, middlewares=[_answer_refusals])
        app.router.add_post("/v1/orders", self._create)
        for path, op in (("updates", "update"), ("checkpoints", "checkpoint"), ("corrections", "correct")):
            app.router.add_post(f"/v1/orders/{{order_id}}/{path}", self._change(op))
        app.router.add_post("/v1/batch", self._batch)
        app.router.add_get("/v1/orders", self._list)
        app.router.add_get("/v1/orders/{order_id}", self._order)
        app.router.add_get("/v1/orders/{order_id}/history", self._history)
        app.router.add_get("/v1/updates/{order_id}/{update_id}", self._outcome)
        app.router.add_get("/v1/events", self._events)
        app.router.add_get("/v1/stream", stream)
        app.router.add_get("/healthz", _healthy)
        app.router.add_get("/readyz", _healthy)
        app.router.add_route("*", "/{path:.*}", _not_in_the_fake)
        return app

    async def _create(self, request: web.Request) -> web.StreamResponse:
        return await self._one(request, "create", {})

    def _change(self, op: str) -> Handler:
        async def change(request: web.Request) -> web.StreamResponse:
            return await self._one(request, op, {"order_id": request.match_info["order_id"]})

        return change

    async def _one(self, request: web.Request, op: str, named: Mapping[str, Any]) -> web.StreamResponse:
        caller = self._caller(request)
        update_id = _key_of(request) or uuid4().hex
        try:
            body = await _json_object(request)
            if not body.keys().isdisjoint(("op", "update_id", *named)):
                raise invalid("", "names what the address and the headers say")
            self._faults.refuse()
            operation = checked_operation({"op": op, "update_id": update_id, **body, **named})
            decision = self._decide(operation, caller)
        except Refusal as refusal:
            return _problem(request, refusal, update_id=update_id)
        if self._faults.loses_answer():
            return _cut(request)
        if self._faults.accepts(decision) or _prefers_async(request):
            return _accepted(request, decision)
        return _result(request, decision, caller, created=op == "create")

    async def _batch(self, request: web.Request) -> web.StreamResponse:
        caller = self._caller(request)
        caller.require("orders:write", "orders:correct")
        key = _key_of(request)
        operations = await _operations(request)
        self._faults.refuse()
        lines = [self._line(index, each, key, caller, request) for index, each in enumerate(operations)]
        if self._faults.loses_answer():
            return _cut(request)
        preference = {"Preference-Applied": "respond-async"} if _prefers_async(request) else {}
        return _json({"results": lines}, headers=preference)

    def _line(
        self, index: int, operation: object, key: str | None, caller: Caller, request: web.Request
    ) -> Document:
        try:
            checked = checked_operation(operation)
        except Refusal as refusal:
            return _unread_line(index, operation, refusal, request)
        update_id = checked.setdefault("update_id", f"{key}:{index}" if key else uuid4().hex)
        order_id = order_id_of(checked, update_id, caller)
        line: Document = {"index": index, "update_id": update_id, "order_id": order_id}
        try:
            decision = self._decide(checked, caller)
        except Refusal as refusal:
            problem = refusal.document(request.path, update_id=update_id)
            return line | {"outcome": "rejected", "problem": problem}
        if self._faults.accepts(decision) or _prefers_async(request):
            return line | {"outcome": "accepted"}
        if decision.refusal is None:
            outcome = "duplicate" if decision.is_replayed else "applied"
            return line | {"outcome": outcome, "version": decision.version}
        problem = decision.refusal.document(request.path, update_id=update_id)
        replayed = {"replayed": True} if decision.is_replayed else {}
        return line | {"outcome": "rejected", "problem": problem} | replayed

    def _decide(self, operation: Mapping[str, Any], caller: Caller) -> Decision:
        check_words(operation)
        decision = self._book.decide(operation, caller)
        self._on_change()
        return decision

    async def _order(self, request: web.Request) -> web.StreamResponse:
        caller = self._reader(request)
        check_parameters(request.query, ())
        order = self._book.order_of(request.match_info["order_id"], caller)
        return _json(visible_order(order, caller))

    async def _history(self, request: web.Request) -> web.StreamResponse:
        caller = self._reader(request)
        check_parameters(request.query, ())
        order_id = request.match_info["order_id"]
        self._book.order_of(order_id, caller)
        events = [event for event in self._book.log if event["subject"] == order_id]
        return _json({"order_id": order_id, "items": [history_item(event, caller) for event in events]})

    async def _outcome(self, request: web.Request) -> web.StreamResponse:
        caller = self._caller(request)
        caller.require("orders:read", "orders:write", "orders:correct")
        decision = self._book.outcome_of(
            request.match_info["order_id"], request.match_info["update_id"], caller
        )
        document: Document = {"update_id": decision.update_id, "order_id": decision.order_id}
        document |= {"outcome": "rejected" if decision.refusal else "applied", "version": decision.version}
        if decision.refusal:
            problem = decision.refusal.document(request.path, update_id=decision.update_id)
            document["problem"] = problem
        return _json(document | {"recorded_at": decision.recorded_at})

    async def _list(self, request: web.Request) -> web.StreamResponse:
        caller = self._reader(request)
        query = request.query
        check_parameters(query, ("status", "merchant_id", "active", "limit", "cursor"))
        wanted: Document = {name: query.getall(name) for name in ("status", "merchant_id") if name in query}
        wanted["active"] = flag("active", query["active"]) if "active" in query else None
        limit = number("limit", query.get("limit", "50"), 500)
        start = position_of(query.get("cursor"), len(self._book.orders))
        found = [
            visible_order(order, caller)
            for order in reversed(self._book.orders.values())
            if caller.reaches(order["order_id"], order["merchant_id"]) and _is_listed(wanted, order)
        ]
        rest = found[start + limit :]
        next_cursor = cursor_at(start + limit) if rest else None
        return _json({"items": found[start : start + limit], "next_cursor": next_cursor})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        caller = self._reader(request)
        query = request.query
        check_parameters(query, ("after", "limit", "status", "merchant_id", "order_id"))
        names = ("status", "merchant_id", "order_id")
        wanted = {name: query.getall(name) for name in names if name in query}
        limit = number("limit", query.get("limit", "100"), 1000)
        position = position_of(query.get("after"), len(self._book.log))
        events: list[Document] = []
        while position < len(self._book.log) and len(events) < limit:
            event = self._book.log[position]
            position += 1
            data = event["data"]
            if caller.reaches(data["order_id"], data["merchant_id"]) and all(
                data[name] in values for name, values in wanted.items()
            ):
                events.append(visible_event(event, caller))
        has_more = position < len(self._book.log)
        return _json({"events": events, "cursor": cursor_at(position), "has_more": has_more})

    def _reader(self, request: web.Request) -> Caller:
        caller = self._caller(request)
        caller.require("orders:read")
        return caller

    def _caller(self, request: web.Request) -> Caller:
        return caller_of(self._secret, bearer_of(request))


def _unread_line(index: int, operation: object, refusal: Refusal, request: web.Request) -> Document:
    """The line of an operation that breaks a rule: no id is made for it."""
    members = operation if isinstance(operation, dict) else {}
    ids = {name: members.get(name) for name in ("update_id", "order_id")}
    named = {} if ids["update_id"] is None else {"update_id": ids["update_id"]}
    problem = refusal.document(request.path, **named)
    return {"index": index, **ids, "outcome": "rejected", "problem": problem}


def bearer_of(request: web.Request) -> str:
    """The token in the `Authorization` header, or ""."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


@web.middleware
async def _answer_refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refusal as refusal:
        return _problem(request, refusal)


async def _healthy(_: web.Request) -> web.StreamResponse:
    return _json({"status": "ok"})


async def _not_in_the_fake(request: web.Request) -> web.StreamResponse:
    raise Refusal("not-in-the-fake", f"The fake server does not have {request.method} {request.path}.")


def _is_listed(wanted: Document, order: Document) -> bool:
    # A list shows final orders unless it is asked not to; a stream does not.
    active = order["active"] if wanted["active"] is None else wanted["active"]
    return matches_order(wanted | {"active": active}, order)


def _key_of(request: web.Request) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    key = key.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    check_identifier("/headers/idempotency-key", key)
    return key


def _prefers_async(request: web.Request) -> bool:
    return "respond-async" in request.headers.get("Prefer", "")


async def _json_object(request: web.Request) -> dict[str, Any]:
    body = _decoded(await request.read())
    if not isinstance(body, dict):
        raise invalid("", "must be an object")
    return body


async def _operations(request: web.Request) -> list[Any]:
    body = await request.read()
    if request.content_type == "application/x-ndjson":
        operations = [_decoded(line) for line in body.splitlines() if line.strip()]
    else:
        operations = _decoded(body)
    if not isinstance(operations, list) or not 1 <= len(operations) <= MAX_OPERATIONS:
        raise invalid("", f"must be a list of 1 to {MAX_OPERATIONS} operations")
    return operations


def _decoded(body: bytes) -> Any:
    try:
        return decode(body)
    except ValueError as error:
        raise Refusal("malformed-json", f"Invalid JSON: {error}.") from None


def _json(document: Document, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status, body=encode(document), content_type="application/json", headers=headers
    )


def _problem(request: web.Request, refusal: Refusal, **members: Any) -> web.Response:
    headers = dict(refusal.headers)
    if refusal.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="tracking"'
    return web.Response(
        status=refusal.status,
        body=encode(refusal.document(request.path, **members)),
        content_type="application/problem+json",
        headers=headers,
    )


def _accepted(request: web.Request, decision: Decision) -> web.Response:
    headers = {"Location": f"/v1/updates/{decision.order_id}/{decision.update_id}"}
    if _prefers_async(request):
        headers["Preference-Applied"] = "respond-async"
    document = {"update_id": decision.update_id, "order_id": decision.order_id, "outcome": "accepted"}
    return _json(document, 202, headers)


def _result(request: web.Request, decision: Decision, caller: Caller, *, created: bool) -> web.Response:
    replayed = {"Idempotent-Replayed": "true"} if decision.is_replayed else {}
    if decision.refusal:
        response = _problem(request, decision.refusal, update_id=decision.update_id)
        response.headers.update(replayed)
        return response
    assert decision.order is not None  # noqa: S101 - an applied decision has its order
    document = {
        "update_id": decision.update_id,
        "order_id": decision.order_id,
        "outcome": "duplicate" if decision.is_replayed else "applied",
        "version": decision.version,
        "order": visible_order(decision.order, caller),
    }
    location = {"Location": f"/v1/orders/{decision.order_id}"} if created else {}
    return _json(document, 201 if created else 200, location | replayed)


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)
