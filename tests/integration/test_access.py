"""Who gets what: every role on every route, and a crowd of whom nobody may receive anything too much."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import jwt
import orjson
import pytest
from docs.access_matrix import CELLS, ROLES, ROUTES, Outcome, Role, Route
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from access_scene import PARQUET, REFERRED, STATUSES, Marks, Scene, Truth, Viewer, marks, running_scene
from answers import Answer
from callers import JWT_SECRET, eventually
from corrected_histories import corrected_steps
from plain_policy import Claims, is_operator, is_shown_people, may, owns
from servers import Broker, new_environment
from tracking_ingest.api.submission_routes import Ingest
from tracking_ingest.app import create_app as create_ingest
from tracking_ingest.settings import IngestSettings
from tracking_ingest.submission.dispatcher import Dispatcher
from tracking_notifier.session.server import HTTP_PATHS
from tracking_notifier.stream.stream_messages import STREAM_PATH
from tracking_query.app import create_app as create_query
from tracking_query.settings import QuerySettings
from tracking_shared.auth.revocations import LOOK_SECONDS, revoke_subject, revoke_token
from tracking_shared.auth.tokens import TokenVerifier
from tracking_shared.contracts.documents import EventDocument, OrderDocument, UpdateDocument
from tracking_shared.contracts.references import referenced_order_id
from tracking_shared.contracts.timestamps import now
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.http.service_app import install_plumbing
from tracking_shared.settings import Settings

EXAMPLE_ID = referenced_order_id("acme", "#1003")
"""In the examples of the OpenAPI documents."""
UNSET: dict[str, Any] = {"amqp_url": "amqp://x", "mongodb_url": "mongodb://x", "jwt_secret": "unused" * 6}
NOTHING: Any = None
MOVED = ("picked_up", "in_transit")
DERIVED_ID = re.compile(rb"r-[a-z2-7]{26}")
LISTED = ("application/json", "text/csv", "application/x-ndjson", PARQUET)


@pytest.fixture(scope="module")
async def scene(
    broker_node: Broker, mongodb_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    """One stack for all tests here."""
    environment = await new_environment(broker_node, mongodb_url)
    async with running_scene(environment, tmp_path_factory.mktemp("access")) as running:
        yield running


# The table, and the routes that there are


def routes_of(app: FastAPI) -> set[tuple[str, str]]:
    return {
        (method, str(route.path))
        for route in iter_route_contexts(app.routes)
        for method in route.methods or {"?"}  # HEAD is no route: it is served as a GET
    }


def actual_routes() -> dict[str, set[tuple[str, str]]]:
    verifier = TokenVerifier(Settings.model_validate(UNSET))
    ingest = Ingest(Dispatcher(1), verifier, NOTHING, DEFAULT_WORKFLOW, NOTHING)
    console = {"console_dir": Path("web/console"), "public_stream_url": "ws://127.0.0.1:1/v1/stream"}
    of_query = QuerySettings.model_validate(UNSET | console)
    plumbing = FastAPI(openapi_url=None)
    install_plumbing(plumbing, Settings.model_validate(UNSET), dict)
    return {
        "ingest": routes_of(create_ingest(IngestSettings.model_validate(UNSET), ingest)),
        "query": routes_of(create_query(of_query, NOTHING, DEFAULT_WORKFLOW, NOTHING)),
        "notifier": {("GET", path) for path in (*HTTP_PATHS, STREAM_PATH)},
        "order-state": routes_of(plumbing),
        "webhooks": routes_of(plumbing),
    }


def test_every_route_is_in_the_table() -> None:
    for service, routes in actual_routes().items():
        assert {(route.method, route.path) for route in ROUTES if route.service == service} == routes, service


# Every role on every route


@dataclass(frozen=True)
class Holder:
    """Somebody in a role, whose order is `own`, and from whom the others should be hidden."""

    role: Role
    token: str | None
    own: str
    foreign: tuple[str, ...]
    new_own: tuple[str, str]
    """An order that it may create, and for whom."""
    new_foreign: tuple[str, str]


async def holders(scene: Scene) -> list[Holder]:
    """One in each role, and nobody in several ways."""
    made = scene.live
    own, unlisted = await made("own", "mrc-own", MOVED), await made("unlisted", "mrc-own", MOVED)
    foreign, listed = (
        await made("foreign", "mrc-other", MOVED),
        await made("listed", "mrc-other", MOVED),
    )
    for name in ("own", "unlisted", "foreign", "listed"):
        await scene.refer(name, "mrc-own" if name in ("own", "unlisted") else "mrc-other", MOVED)
    found: list[Holder] = []
    for role in ROLES[:-1]:
        claims: dict[str, Any] = {"sub": f"drv-{role.name}", "scope": role.scope}
        hidden: tuple[str, ...] = (foreign,)
        if role.has_merchants:
            claims["merchants"] = ["mrc-own"]
        if role.has_orders:
            granted = [own, *([listed] if role.has_merchants else [])]
            claims["orders"] = [*granted, *(scene.referenced[each][1] for each in granted)]
            claims["orders"].append(f"ord-new{role.name}")
            hidden = (foreign, unlisted, *([listed] if role.has_merchants else []))
        new = (f"new{role.name}", "mrc-own")
        strange = (f"strange{role.name}", "mrc-own" if role.has_orders else "mrc-other")
        found.append(Holder(role, scene.token(claims), own, hidden, new, strange))
    return [
        *found,
        *[Holder(ROLES[-1], token, own, (foreign,), new, strange) for token in await no_tokens(scene)],
    ]


async def no_tokens(scene: Scene) -> list[str | None]:
    """None, a forged, an expired, and two revoked ones that would be an operator's."""
    claims = {"sub": "drv-nobody", "scope": "orders:admin"}
    revoked = scene.token(claims | {"jti": "revoked"})
    of_subject = scene.token(claims | {"sub": "drv-revoked", "iat": time.time() - 5})
    await revoke_token(scene.database, "revoked")
    await revoke_subject(scene.database, "drv-revoked", issued_before=now() + timedelta(seconds=1))

    async def refused() -> bool:
        read = [await scene.call("query", "GET", "/v1/orders", token) for token in (revoked, of_subject)]
        write = [await scene.create("early", "mrc-early", token) for token in (revoked, of_subject)]
        return {answer.status for answer in read + write} == {401}

    await eventually(refused, seconds=LOOK_SECONDS + 1)
    return [
        None,
        scene.token(claims, "another-secret-of-the-tests-0123456789"),
        scene.token(claims | {"exp": time.time() - 1}),
        revoked,
        of_subject,
    ]


async def test_every_role_gets_on_every_route_what_the_table_says(scene: Scene) -> None:
    everybody = await holders(scene)
    differences: list[str] = []
    cells = 0
    for route in ROUTES:
        walk = WALKS[route.kind] if route.path != STREAM_PATH else walk_stream
        for holder in everybody:
            own, foreign = CELLS[route.kind][holder.role.name]
            wanted = [(holder.own, own), *((hidden, foreign) for hidden in holder.foreign)]
            for order_id, outcome in wanted:
                found = await walk(scene, route, holder, order_id)
                cells += 1
                if found != outcome:
                    differences.append(
                        f"{route.method} {route.path}, {holder.role.name}, {order_id}: {found}, not {outcome}"
                    )
    assert differences == []
    assert cells > 400


Walk = Callable[[Scene, Route, Holder, str], Awaitable[str]]


def refusal_of(answer: Answer) -> str | None:
    """The word of the table for a refusal."""
    if answer.status in (401, 403):
        assert answer.slug == {401: "unauthenticated", 403: "forbidden"}[answer.status]
        return str(answer.status)
    return None


def shown(body: bytes, order_id: str) -> Outcome:
    """Whether it shows the order, and people."""
    name = order_id.removeprefix("ord-")
    if order_id not in marks(body):
        return "left out"
    people = {mark for mark in marks(body) if mark.startswith(("drv-", "nam-", "con-"))}
    assert not people or f"nam-{name}" in people or b"customer" not in body
    return "full" if people else "bare"


async def walk_open(scene: Scene, route: Route, holder: Holder, _order_id: str) -> str:
    service = route.service.replace("-", "_")
    path = route.path.format(name="none", slug="forbidden")
    answer = await scene.call(service, "GET", path, holder.token)
    console_off = answer.status == 404 and route.path.startswith("/console")
    missing = answer.status == 404 and "{name}" in route.path
    assert answer.status == 200 or console_off or missing, answer
    assert marks(answer.body) <= {EXAMPLE_ID}
    return "open"


async def walk_order(scene: Scene, route: Route, holder: Holder, order_id: str) -> str:
    return await read_one(scene, path_of(scene, route, order_id), holder, order_id)


def path_of(scene: Scene, route: Route, order_id: str) -> str:
    """The path of the order, or of the one that has its id as a reference."""
    return route.path.format(
        order_id=order_id,
        reference=f"%23{order_id.removeprefix('ord-')}",
        merchant_id=scene.referenced[order_id][0],
    )


async def read_one(scene: Scene, path: str, holder: Holder, order_id: str) -> str:
    answer = await scene.call("query", "GET", path, holder.token)
    if answer.status == 404:
        name = order_id.removeprefix("ord-")
        path_of_none = path.replace(order_id, "ord-none").replace(f"%23{name}", "%23none")
        unknown = await scene.call("query", "GET", path_of_none, holder.token)
        assert alike(answer, name) == alike(unknown, "none")
        return "404"
    if refusal := refusal_of(answer):
        return refusal
    assert answer.status == 200, answer
    body = DERIVED_ID.sub(order_id.encode(), answer.body).replace(REFERRED.encode(), b"")
    return shown(body, order_id)


async def walk_outcome(scene: Scene, route: Route, holder: Holder, order_id: str) -> str:
    path = route.path.format(order_id=order_id, update_id=scene.first_updates[order_id])
    found = await read_one(scene, path, holder, order_id)
    if found != "404":
        return found
    own = await scene.update(order_id, "created", holder.token or "")
    path = route.path.format(order_id=order_id, update_id=own.json["update_id"])
    found = await read_one(scene, path, holder, order_id)
    return "sent" if found == "bare" else found


def alike(answer: Answer, name: str) -> dict[str, Any]:
    """The answer without what differs between any two."""
    body = DERIVED_ID.sub(b"ID", answer.body)
    for text in (f"ord-{name}", f"%23{name}"):
        body = body.replace(text.encode(), b"ID")
    document = orjson.loads(body)
    return {name: value for name, value in document.items() if name != "trace_id"}


async def walk_list(scene: Scene, route: Route, holder: Holder, order_id: str) -> str:
    if "/reports/" in route.path:
        return await walk_report(scene, route, holder, order_id)
    accepted = LISTED if route.path == "/v1/orders" else LISTED[:1]
    found = set()
    for media_type in accepted:
        limit = "?limit=500" if media_type == LISTED[0] else ""
        answer = await scene.call("query", "GET", route.path + limit, holder.token, Accept=media_type)
        found.add(refusal_of(answer) or shown(answer.body, order_id))
    return found.pop() if len(found) == 1 else str(found)


async def walk_report(scene: Scene, route: Route, holder: Holder, order_id: str) -> str:
    # A report names no order: whether one is counted shows in the rows of its merchant alone.
    merchant = "mrc-own" if order_id in ("ord-own", "ord-unlisted") else "mrc-other"
    # The orders of the scene are on their way: what is punctual here is that they were picked up.
    status = "&status=picked_up" if route.path.endswith("punctuality") else ""
    path = f"{route.path}?merchant_id={merchant}{status}"
    answer = await scene.call("query", "GET", path, holder.token)
    if refusal := refusal_of(answer):
        return refusal
    numbers = ("count", "entered", "on_time", "late", "without_due_time")
    counted = sum(row.get(name, 0) for row in answer.json["rows"] for name in numbers)
    of_others = order_id not in claims_of(holder).get("orders", [order_id])
    if not counted or of_others:
        return "left out"
    people = {mark for mark in marks(answer.body) if mark.startswith("drv-")}
    assert bool(people) == (route.path.endswith("refusals") and is_shown_people(claims_of(holder)))
    return CELLS["list"][holder.role.name][0]


def claims_of(holder: Holder) -> Claims:
    assert holder.token is not None
    claims: Claims = jwt.decode(holder.token, options={"verify_signature": False})
    return claims


async def walk_stream(scene: Scene, _route: Route, holder: Holder, order_id: str) -> str:
    by_socket = await walk_socket(scene, holder, order_id)
    assert await walk_event_stream(scene, holder, order_id) == by_socket
    return by_socket


async def walk_event_stream(scene: Scene, holder: Holder, order_id: str) -> str:
    url, told = f"{scene.services['notifier'].url}{STREAM_PATH}", b""
    headers = {"Accept": "text/event-stream"}
    if holder.token is not None:
        headers["Authorization"] = f"Bearer {holder.token}"
    asked = [("status", status) for status in STATUSES]
    async with scene.session.get(url, params=asked, headers=headers) as response:
        if response.status != 200:
            return str(response.status)
        while not told.endswith(b"\n\n") or b"event: live" not in told:
            told += await response.content.readany()
    return shown(told, order_id)


async def walk_socket(scene: Scene, holder: Holder, order_id: str) -> str:
    viewer = scene.viewer(holder.token or "none")
    running = asyncio.create_task(viewer.run())
    async with asyncio.timeout(30):
        await viewer.live.wait()
    if viewer.close_code is not None:
        await running
        return {4401: "401", 4403: "403"}[viewer.close_code]
    await stopped(running)
    return shown(viewer.snapshot, order_id)


async def stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def walk_administration(scene: Scene, route: Route, holder: Holder, _order_id: str) -> str:
    path = route.path.replace("{contact_ref}", "nobody")
    if "{erasure_id}" in path:
        made = await scene.call("query", "DELETE", "/v1/customers/nobody", scene.admin)
        path = path.replace("{erasure_id}", made.json["erasure_id"])
    answer = await scene.call("query", route.method, path, holder.token)
    return refusal_of(answer) or {200: "full", 202: "full"}[answer.status]


async def new_webhook(scene: Scene, order_id: str, token: str | None) -> Answer:
    """Registers a webhook for the merchant of an order."""
    order = await scene.database.orders.find_one({"_id": order_id}, {"merchant_id": 1})
    assert order is not None
    body = {"url": "https://hooks.example.com/in", "filter": {"merchant_id": [order["merchant_id"]]}}
    return await scene.call("query", "POST", "/v1/webhooks", token, body)


async def walk_webhook(scene: Scene, route: Route, holder: Holder, order_id: str) -> str:
    made = await new_webhook(scene, order_id, scene.admin)
    webhook_id = made.json["id"]
    bodies = {"PATCH": {"description": "x"}, "replay": {"from": "2026-01-01T00:00:00Z"}}
    body = bodies.get(route.method) or bodies.get(route.path.rpartition("/")[2])
    path = route.path.replace("{webhook_id}", webhook_id)
    if path.endswith("/test"):  # nobody sends here: the answer would take its whole time
        await scene.database.webhook_attempts.delete_many({})
        path = path.removesuffix("/test") + "/attempts"
        answer = await scene.call("query", "GET", path, holder.token)
    else:
        answer = await scene.call("query", route.method, path, holder.token, body)
    await scene.call("query", "DELETE", f"/v1/webhooks/{webhook_id}", scene.admin)
    return refusal_of(answer) or {200: "done", 202: "done", 204: "done", 404: "404"}[answer.status]


async def walk_new_webhook(scene: Scene, _route: Route, holder: Holder, order_id: str) -> str:
    answer = await new_webhook(scene, order_id, holder.token)
    return refusal_of(answer) or {201: "done"}[answer.status]


async def walk_webhooks(scene: Scene, _route: Route, holder: Holder, order_id: str) -> str:
    made = await new_webhook(scene, order_id, scene.admin)
    answer = await scene.call("query", "GET", "/v1/webhooks?limit=100", holder.token)
    await scene.call("query", "DELETE", f"/v1/webhooks/{made.json['id']}", scene.admin)
    if refusal := refusal_of(answer):
        return refusal
    return "done" if made.json["id"] in {item["id"] for item in answer.json["items"]} else "left out"


async def walk_create(scene: Scene, _route: Route, holder: Holder, order_id: str) -> str:
    name, merchant = holder.new_own if order_id == holder.own else holder.new_foreign
    answer = await scene.create(name, merchant, holder.token or "")
    return refusal_of(answer) or written(answer, holder)


async def walk_update(scene: Scene, route: Route, holder: Holder, order_id: str) -> str:
    path = path_of(scene, route, order_id)
    if route.path.endswith("/checkpoints"):
        answer = await scene.checkpoint(path, holder.token or "")
    else:
        answer = await scene.update(order_id, "in_transit", holder.token or "", path)
    return refusal_of(answer) or written(answer, holder)


async def walk_correction(scene: Scene, route: Route, holder: Holder, order_id: str) -> str:
    path = path_of(scene, route, order_id)
    answer = await scene.correct(path, "picked_up", holder.token or "")
    if answer.status == 403:
        assert 'error="insufficient_scope", scope="orders:correct"' in answer.headers["WWW-Authenticate"]
    return refusal_of(answer) or written(answer, holder)


def written(answer: Answer, holder: Holder) -> str:
    """The word for a write that was let through; its answer must not show more than reading would."""
    if answer.status == 404:
        assert answer.slug == "order-not-found"
        assert set(answer.json) <= {"type", "title", "status", "detail", "instance", "trace_id", "update_id"}
        return "404"
    assert answer.status in (200, 201, 409), (
        answer
    )  # a second one in the same role finds it there, or moved on
    people = {mark for mark in marks(answer.body) if mark.startswith(("nam-", "con-", "drv-"))}
    assert bool(people) == (answer.status != 409 and is_shown_people(claims_of(holder)))
    return "done"


async def walk_batch(scene: Scene, _route: Route, holder: Holder, order_id: str) -> str:
    operations = [scene.operation(order_id, "in_transit")]
    answer = await scene.call("ingest", "POST", "/v1/batch", holder.token, operations)
    if refusal := refusal_of(answer):
        return refusal
    (line,) = answer.json["results"]
    if line["outcome"] == "rejected" and line["problem"]["status"] in (403, 404):
        return str(line["problem"]["status"])
    return "done"


WALKS: dict[str, Walk] = {
    "open": walk_open,
    "order": walk_order,
    "outcome": walk_outcome,
    "list": walk_list,
    "administration": walk_administration,
    "webhook": walk_webhook,
    "new webhook": walk_new_webhook,
    "webhooks": walk_webhooks,
    "create": walk_create,
    "update": walk_update,
    "correction": walk_correction,
    "batch": walk_batch,
}


# The crowd


MERCHANTS = [f"mrc-{number}" for number in range(4)]
SCOPES = (
    "orders:read",
    "orders:read orders:write",
    "orders:write",
    "orders:admin",
    "",
    "orders:read",
    "orders:all",
    "orders:read orders:correct",
)


def crowd(random: Random, order_ids: list[str], number: int) -> list[dict[str, Any]]:
    """Claims of any kind, all of them good ones."""
    made = []
    for index in range(number):
        claims: dict[str, Any] = {"sub": f"drv-crowd{index}", "scope": random.choice(SCOPES)}
        if random.random() < 0.7:
            claims["merchants"] = random.choice(
                [["*"], [], *[random.sample(MERCHANTS, n) for n in (1, 2, 3)]]
            )
        if random.random() < 0.5:
            claims["orders"] = random.sample(order_ids, random.choice([0, 1, 3, len(order_ids) // 2]))
        claims["source_type"] = random.choice(["driver", "system", "operator", "customer"])
        made.append(claims)
    return made


def of_order(order: OrderDocument, claims: Claims) -> Marks:
    """All that an order may say to this caller."""
    plain = {order["_id"], order["merchant_id"], order["metadata"]["note"]}
    customer = {order["customer"]["name"], order["customer"]["contact_ref"], order["source"]["id"]}
    return frozenset(plain | (customer if is_shown_people(claims) else set()))


def of_event(event: EventDocument, claims: Claims) -> Marks:
    plain = {event["order_id"], event["merchant_id"], event["update_id"], event["metadata"]["note"]}
    customer = {event["customer"]["name"], event["customer"]["contact_ref"], event["source"]["id"]}
    return frozenset(plain | (customer if is_shown_people(claims) else set()))


@dataclass
class Reader:
    """Somebody of the crowd, what the policy says to it, and what it was told too much or too little."""

    scene: Scene
    truth: Truth
    claims: Claims
    differences: list[str]
    received: int = 0

    def __post_init__(self) -> None:
        self.token = self.scene.token(self.claims)
        # All that nobody may know, and some of the others: each is one more request for each of the crowd.
        updates = list(self.truth.updates.values())
        self.asked_after = [u for u in updates if u["merchant_id"] is None] + updates[:: len(updates) // 30]
        self.orders = [o for o in self.truth.orders.values() if self.owns(o["_id"])]

    def owns(self, order_id: str) -> bool:
        if not may(self.claims, "orders:read"):
            return False
        order = self.truth.orders.get(order_id)
        return order is not None and owns(self.claims, order_id, order["merchant_id"])

    async def read_everything(self) -> None:
        async with self.scene.turn:  # a process computes few files and reports at once
            await self.read_lists()
            await self.read_reports()
        for order_id in self.truth.orders:
            await self.read_order(order_id)
        for update in self.asked_after:
            path = f"/v1/updates/{update['order_id']}/{update['update_id']}"
            told = {update["order_id"], update["update_id"]}
            await self.expect(path, self.may_know(update), told, ("orders:read", "orders:write"))

    def may_know(self, update: UpdateDocument) -> bool:
        """Its outcome, if the caller may ask for outcomes at all."""
        if update["source"]["id"] == self.claims["sub"]:
            return True
        if update["merchant_id"] is not None:
            return self.owns(update["order_id"])
        everywhere = is_operator(self.claims) or "*" in self.claims.get("merchants", [])
        return may(self.claims, "orders:read") and everywhere and self.claims.get("orders") is None

    async def read_order(self, order_id: str) -> None:
        known, order = self.owns(order_id), self.truth.orders[order_id]
        await self.expect(f"/v1/orders/{order_id}", known, of_order(order, self.claims))
        people = is_shown_people(self.claims)
        told = {order_id}
        for event in self.truth.events:
            if event["order_id"] == order_id:
                told |= {event["update_id"], event["metadata"]["note"]}
                told |= {event["source"]["id"]} if people else set()
        await self.expect(f"/v1/orders/{order_id}/history", known, told)
        told = {order_id}
        for update in self.truth.updates.values():
            if update["order_id"] == order_id and update["merchant_id"] is not None:
                told |= {update["update_id"]} | ({update["source"]["id"]} if people else set())
        await self.expect(f"/v1/orders/{order_id}/updates", known, told)

    async def expect(
        self, path: str, known: bool, wanted: set[str] | Marks, scopes: Sequence[str] = ("orders:read",)
    ) -> None:
        answer = await self.get(path)
        if not any(may(self.claims, scope) for scope in scopes):
            self.compare(path, (answer.status, marks(answer.body)), (403, asked(path)))
        elif not known:
            self.compare(path, (answer.status, marks(answer.body) <= asked(path)), (404, True))
        else:
            self.compare(path, answer.status, 200)
            self.compare_marks(path, marks(answer.body), frozenset(wanted))

    async def read_lists(self) -> None:
        wanted: Marks = frozenset().union(*(of_order(order, self.claims) for order in self.orders))
        for media_type in LISTED:
            limit = "?limit=500" if media_type == LISTED[0] else ""
            answer = await self.get(f"/v1/orders{limit}", Accept=media_type)
            self.compare_list(f"/v1/orders as {media_type}", answer, wanted)
        events = [event for event in self.truth.events if self.owns(event["order_id"])]
        wanted = frozenset().union(*(of_event(event, self.claims) for event in events))
        answer = await self.get("/v1/events?limit=1000")
        self.compare_list("/v1/events", answer, wanted)
        if answer.status == 200:
            self.compare("the number of events", len(answer.json["events"]), len(events))
        for order in self.truth.orders.values():
            await self.search(order)

    async def search(self, order: OrderDocument) -> None:
        answer = await self.get(f"/v1/orders?customer_ref={order['customer']['contact_ref']}")
        if not may(self.claims, "orders:read") or not is_shown_people(self.claims):
            self.compare("search", answer.status, 403)
        else:
            wanted = of_order(order, self.claims) if self.owns(order["_id"]) else frozenset()
            self.compare_marks("search", marks(answer.body), wanted)

    async def read_reports(self) -> None:
        mine = {order["merchant_id"] for order in self.orders}
        steps = [step for step in corrected_steps(self.truth.events) if self.owns(step["order_id"])]
        answer = await self.get("/v1/reports/status-counts?group_by=merchant")
        self.compare_list("status counts", answer, frozenset(mine))
        if answer.status == 200:
            entered = sum(row["entered"] for row in answer.json["rows"])
            self.compare("entered", entered, len(steps))
        active = [order for order in self.orders if order["active"]]
        for report in ("open-orders", "open-counts"):
            answer = await self.get(f"/v1/reports/{report}?group_by=merchant")
            self.compare_list(report, answer, frozenset(order["merchant_id"] for order in active))
            if answer.status == 200:
                self.compare(report, sum(row["count"] for row in answer.json["rows"]), len(active))
        answer = await self.get("/v1/reports/durations?group_by=merchant")
        ended = frozenset(step["merchant_id"] for step in steps if step["version"] > 1)
        self.compare_list("durations", answer, ended)
        await self.read_refusals()

    async def read_refusals(self) -> None:
        seen = [
            update
            for update in self.truth.updates.values()
            if update["outcome"] == "rejected"
            and (
                update["source"]["id"] == self.claims["sub"]
                or (update["merchant_id"] is not None and self.owns(update["order_id"]))
                or (
                    update["merchant_id"] is None
                    and self.claims.get("orders") is None
                    and (is_operator(self.claims) or "*" in self.claims.get("merchants", []))
                )
            )
        ]
        wanted = {update["merchant_id"] for update in seen if update["merchant_id"] is not None}
        wanted |= {update["source"]["id"] for update in seen} if is_shown_people(self.claims) else set()
        answer = await self.get("/v1/reports/refusals?group_by=merchant")
        self.compare_list("refusals", answer, frozenset(wanted))
        if answer.status == 200:
            self.compare("refused", sum(row["count"] for row in answer.json["rows"]), len(seen))

    def compare_marks(self, what: str, found: Marks, wanted: Marks) -> None:
        self.compare(what, (sorted(found - wanted), sorted(wanted - found)), ([], []))

    def compare_list(self, what: str, answer: Answer, wanted: Marks) -> None:
        if may(self.claims, "orders:read"):
            self.compare(what, answer.status, 200)
            self.compare_marks(what, marks(answer.body), wanted)
        else:
            self.compare(what, (answer.status, marks(answer.body)), (403, frozenset()))

    def compare_stream(self, viewer: Viewer, before: Truth, later: list[EventDocument]) -> None:
        if not may(self.claims, "orders:read"):
            told = marks(viewer.snapshot + viewer.events)
            self.compare("stream", (viewer.close_code, told), (4403, frozenset()))
            return
        self.compare("stream", viewer.close_code, None)
        wanted: Marks = frozenset().union(
            *(of_order(order, self.claims) for order in before.orders.values() if self.owns(order["_id"]))
        )
        self.compare_marks("snapshot", marks(viewer.snapshot), wanted)
        told = frozenset().union(
            *(of_event(event, self.claims) for event in later if self.owns(event["order_id"]))
        )
        self.compare_marks("live events", marks(viewer.events), told)

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.scene.call("query", "GET", path, self.token, **headers)

    def compare(self, what: str, found: object, wanted: object) -> None:
        self.received += 1
        if found != wanted:
            self.differences.append(f"{dict(self.claims)}: {what}: {found}, not {wanted}")


def asked(path: str) -> Marks:
    """What the caller said itself, and may be told again."""
    return marks(path.encode())


async def test_nobody_of_a_crowd_receives_anything_that_the_policy_does_not_give(scene: Scene) -> None:
    random = Random(20)
    lives = (
        scene.live(f"c{number}", random.choice(MERCHANTS), MOVED[: random.randrange(3)])
        for number in range(12)
    )
    order_ids = list(await asyncio.gather(*lives))
    claims = crowd(random, order_ids, 30)
    differences: list[str] = []
    await write_all(scene, random, claims, order_ids, differences)
    before = await scene.truth()
    readers = [Reader(scene, before, each, differences) for each in claims]

    viewers = [scene.viewer(reader.token) for reader in readers]
    watching = [asyncio.create_task(viewer.run()) for viewer in viewers]
    await asyncio.gather(*(viewer.live.wait() for viewer in viewers))
    await asyncio.gather(*(reader.read_everything() for reader in readers))
    cancelled = await asyncio.gather(
        *(scene.update(order_id, "cancelled", scene.admin) for order_id in order_ids)
    )
    assert {answer.status for answer in cancelled} <= {200, 409}  # decided, so before the end of the log
    end = await scene.end_of_log()
    await asyncio.gather(*(viewer.reach(end) for viewer in viewers))
    for task in watching:
        await stopped(task)
    known = {event["_id"] for event in before.events}
    later = [event for event in (await scene.truth()).events if event["_id"] not in known]
    assert len(later) >= len(order_ids) // 2
    for reader, viewer in zip(readers, viewers, strict=True):
        reader.compare_stream(viewer, before, later)

    assert differences == []
    assert sum(reader.received for reader in readers) > 1_500


async def write_all(
    scene: Scene,
    random: Random,
    crowd_claims: list[dict[str, Any]],
    order_ids: list[str],
    differences: list[str],
) -> None:
    """Everybody tries to report something of some orders, of one that is not there, and to create one."""
    merchants = {order["_id"]: order["merchant_id"] for order in (await scene.truth()).orders.values()}
    for number, claims in enumerate(crowd_claims):
        token = scene.token(claims)
        for order_id in [*random.sample(order_ids, 3), "ord-missing"]:
            answer = await scene.update(order_id, "in_transit", token)
            exists = order_id in merchants and owns(claims, order_id, merchants[order_id])
            wanted = {403} if not may(claims, "orders:write") else {200, 409} if exists else {404}
            if answer.status not in wanted:
                differences.append(f"{claims}: update of {order_id}: {answer.status}, not {wanted}")
            path = f"/v1/orders/{order_id}"
            noted = await scene.checkpoint(f"{path}/checkpoints", token)
            if noted.status not in wanted:
                differences.append(f"{claims}: checkpoint of {order_id}: {noted.status}, not {wanted}")
            corrected = await scene.correct(f"{path}/corrections", "picked_up", token)
            wanted = {403} if not may(claims, "orders:correct") else {200, 409} if exists else {404}
            if corrected.status not in wanted:
                differences.append(f"{claims}: correction of {order_id}: {corrected.status}, not {wanted}")
        merchant = random.choice(MERCHANTS)
        answer = await scene.create(f"by{number}", merchant, token)
        has_merchants = is_operator(claims) or claims.get("merchants")
        allowed = may(claims, "orders:write") and has_merchants and owns(claims, f"ord-by{number}", merchant)
        if answer.status != (201 if allowed else 403):
            differences.append(f"{claims}: create for {merchant}: {answer.status}")


# The tricks, on the services


async def test_no_trick_with_a_token_lets_anybody_in(scene: Scene) -> None:
    good = scene.token({"sub": "admin", "scope": "orders:admin"})
    head, body, signature = good.split(".")
    none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0"
    foreign = jwt.encode(
        {"sub": "admin", "scope": "orders:admin", "exp": time.time() + 60},
        JWT_SECRET,
        "HS256",
        headers={"kid": "foreign"},
    )
    tricks = {
        "none": f"{none}.{body}.",
        "unsigned": f"{head}.{body}.",
        "another signature": f"{head}.{body}.{signature[::-1]}",
        "wrong algorithm": jwt.encode({"sub": "a", "exp": time.time() + 60}, "x" * 64, "HS512"),
        "foreign key": foreign,
        "not yet": scene.token({"sub": "a", "scope": "orders:admin", "nbf": time.time() + 600}),
        "oversized": scene.token({"sub": "a", "scope": "orders:admin", "padding": "x" * 8192}),
        "twice in one header": f"{good}, Bearer {good}",
        "with a line": f"{good} {good}",
    }
    for name, token in tricks.items():
        for service, method, path in (("query", "GET", "/v1/orders"), ("ingest", "POST", "/v1/batch")):
            answer = await scene.call(service, method, path, token)
            assert (answer.status, answer.slug) == (401, "unauthenticated"), name
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        viewer = scene.viewer(token)
        await viewer.run()
        assert viewer.close_code == (4400 if name == "oversized" else 4401), name
    await no_token_elsewhere(scene, good)
    await two_tokens(scene, good)


async def no_token_elsewhere(scene: Scene, good: str) -> None:
    for name in ("token", "access_token", "jwt", "authorization"):
        for service, method, path in (("query", "GET", "/v1/orders"), ("ingest", "POST", "/v1/batch")):
            assert (await scene.call(service, method, f"{path}?{name}={good}", None)).status == 401
        viewer = Viewer(f"{scene.services['notifier'].stream_url}?{name}={good}", "none")
        await viewer.run()
        assert viewer.close_code == 4401
    basic = await scene.call("query", "GET", "/v1/orders", None, Authorization=f"Basic {good}")
    cookie = await scene.call("query", "GET", "/v1/orders", None, Cookie=f"token={good}")
    assert basic.status == cookie.status == 401


async def two_tokens(scene: Scene, good: str) -> None:
    bearer = f"Bearer {good}"
    headers = [("Authorization", bearer), ("Authorization", bearer)]
    for service, path in (("query", "/v1/orders"), ("ingest", "/v1/batch")):
        method = "GET" if service == "query" else "POST"
        url = scene.services[service].url + path
        async with scene.session.request(method, url, headers=headers) as response:
            assert response.status == 401
    stream = scene.services["notifier"].stream_url
    for options in (
        {"additional_headers": headers},
        {"additional_headers": headers[:1], "subprotocols": ["tracking.v1", f"bearer.{good}"]},
        {"subprotocols": ["tracking.v1", f"bearer.{good}", f"bearer.{good}"]},
    ):
        with pytest.raises(InvalidStatus) as refusal:
            async with connect(stream, compression=None, **options):  # type: ignore[arg-type] # options of any kind
                pass
        assert refusal.value.response.status_code == 401


async def test_no_token_is_ever_logged(scene: Scene) -> None:
    for service in scene.services.values():
        await service.stop()
    logged = b"".join(path.read_bytes() for path in scene.logs.rglob("*") if path.is_file())
    assert b"serving" in logged
    for token in scene.tokens_used:
        for part in token.split("."):
            assert part.encode() not in logged or len(part) < 40, part
