"""What a caller sees of the services: requests and scenes that run on the fake server and on the real ones.

`STEPS` are requests with the answer that each must get. `transcript` sends them and returns the whole
answers, without what differs in each run, so that two servers can be compared. `SCENES` are programs that use
the Python client.
"""

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any

import pytest
from aiohttp import ClientSession

from tracking_client import LiveOrders, Outcome, Sender, StreamRefused, checkpoint, correct, create, update

Document = dict[str, Any]

MAX_SECONDS = 60


@dataclass(frozen=True)
class Server:
    """The addresses of a server, and its tokens."""

    ingest: str
    query: str
    stream: str
    token: Callable[..., str]
    """Claims as keywords."""


@dataclass(frozen=True)
class Step:
    """One request, and the status and perhaps the problem or the outcome of its answer."""

    name: str
    request: str
    """Method and path; `R` stands for the random part of all order ids."""
    status: int
    answer: str = ""
    """The slug of the problem, or the outcome."""
    body: Any = None
    key: str = ""
    claims: Document | None = field(default_factory=dict)
    """Claims of the token; None: there is no token."""
    headers: Document = field(default_factory=dict)
    repeat_until_known: bool = False
    """True: a 404 is answered until the update is decided."""


@dataclass(frozen=True)
class Answer:
    """The answer to a step, without what differs in each run."""

    step: str
    status: int
    kind: str
    """The slug of the problem, or the outcome, or ""."""
    document: Document
    headers: Document


CUSTOMER = {"name": "Ada Example", "contact_ref": "crm:17"}
CREATE = {"order_id": "o-R", "merchant_id": "acme", "customer": CUSTOMER, "metadata": {"shop": "north"}}
DUE = {"due_at": "2090-03-02T12:00:00+01:00"}
FOREIGN = {"merchants": ["globex"]}
LINK = {"merchants": [], "orders": ["o-R"], "scope": "orders:read"}
TO_PICKED_UP = {
    "status": "picked_up",
    "metadata": {"van": "B-17"},
    "occurred_at": "2026-03-02T10:00:00+01:00",
}
ORDER, UPDATES = "/v1/orders/o-R", "/v1/orders/o-R/updates"

STEPS = (
    Step("no token", "POST /v1/orders", 401, "unauthenticated", CREATE, claims=None),
    Step("an expired token", "POST /v1/orders", 401, "unauthenticated", CREATE, claims={"exp": 1000}),
    Step("no right to write", "POST /v1/orders", 403, "forbidden", CREATE, "c-0", {"scope": "orders:read"}),
    Step("a merchant of others", "POST /v1/orders", 403, "forbidden", CREATE, "c-0", FOREIGN),
    Step("no JSON", "POST /v1/orders", 400, "malformed-json", b"{", "c-0"),
    Step("a member is missing", "POST /v1/orders", 422, "validation-failed", {"merchant_id": "acme"}, "c-0"),
    Step("an unknown member", "POST /v1/orders", 422, "validation-failed", CREATE | {"colour": 1}, "c-0"),
    Step("a bad key", "POST /v1/orders", 422, "validation-failed", CREATE, "no key"),
    Step("create", "POST /v1/orders", 201, "applied", CREATE | DUE, "c-1"),
    Step("create again", "POST /v1/orders", 201, "duplicate", CREATE | DUE, '"c-1"'),
    Step("the key with another body", "POST /v1/orders", 422, "idempotency-key-reused", CREATE, "c-1"),
    Step("the id with another key", "POST /v1/orders", 409, "order-exists", CREATE, "c-2"),
    Step("the same again", "POST /v1/orders", 409, "order-exists", CREATE, "c-2"),
    Step("an order of others", f"GET {ORDER}", 404, "order-not-found", claims=FOREIGN),
    Step("the order", f"GET {ORDER}", 200),
    Step("the order by a link", f"GET {ORDER}", 200, claims=LINK),
    Step("no such status", f"POST {UPDATES}", 422, "validation-failed", {"status": "teleported"}, "u-0"),
    Step("illegal", f"POST {UPDATES}", 409, "invalid-transition", {"status": "delivered"}, "u-1"),
    Step("illegal again", f"POST {UPDATES}", 409, "invalid-transition", {"status": "delivered"}, "u-1"),
    Step("its outcome", "GET /v1/updates/o-R/u-1", 200, "rejected"),
    Step("picked up", f"POST {UPDATES}", 200, "applied", TO_PICKED_UP, "u-2"),
    Step("picked up again", f"POST {UPDATES}", 200, "duplicate", TO_PICKED_UP, "u-2"),
    Step(
        "another version",
        f"POST {UPDATES}",
        409,
        "version-conflict",
        TO_PICKED_UP | {"expected_version": 7},
        "u-3",
    ),
    Step("of others", f"POST {UPDATES}", 404, "order-not-found", {"status": "in_transit"}, "u-4", FOREIGN),
    Step("no order", "POST /v1/orders/none-R/updates", 404, "order-not-found", TO_PICKED_UP, "u-5"),
    Step(
        "async",
        f"POST {UPDATES}",
        202,
        "accepted",
        {"status": "in_transit"},
        "u-6",
        headers={"Prefer": "respond-async"},
    ),
    Step("its outcome", "GET /v1/updates/o-R/u-6", 200, "applied", repeat_until_known=True),
    Step("its outcome for its sender", "GET /v1/updates/o-R/u-6", 200, "applied", claims=FOREIGN),
    Step("for others", "GET /v1/updates/o-R/u-6", 404, "update-not-found", claims=FOREIGN | {"sub": "other"}),
    Step("no outcome", "GET /v1/updates/o-R/u-99", 404, "update-not-found"),
    Step(
        "checkpoint",
        f"POST {ORDER}/checkpoints",
        200,
        "applied",
        {"kind": "delayed", "message": "snow", "eta": "2090-03-02T13:00:00Z"},
        "k-1",
    ),
    Step("no such kind", f"POST {ORDER}/checkpoints", 422, "validation-failed", {"kind": "party"}, "k-2"),
    Step(
        "no right to correct",
        f"POST {ORDER}/corrections",
        403,
        "forbidden",
        {"status": "created", "reason": "x"},
        "r-0",
        {"scope": "orders:write"},
    ),
    Step(
        "correction",
        f"POST {ORDER}/corrections",
        200,
        "applied",
        {"status": "picked_up", "reason": "wrong scan"},
        "r-1",
    ),
    Step(
        "nothing to correct",
        f"POST {ORDER}/corrections",
        409,
        "invalid-transition",
        {"status": "picked_up", "reason": "x"},
        "r-2",
    ),
    Step("history", f"GET {ORDER}/history", 200),
    Step("history by a link", f"GET {ORDER}/history", 200, claims=LINK),
    Step(
        "batch",
        "POST /v1/batch",
        200,
        body=[
            {"op": "create", "order_id": "b-R", "merchant_id": "acme", "customer": CUSTOMER},
            {
                "op": "create",
                "merchant_id": "acme",
                "customer": CUSTOMER,
                "reference": "WH/OUT/R",
                "update_id": "x",
            },
            {"op": "update", "order_id": "b-R", "status": "picked_up"},
            {"op": "update", "merchant_id": "acme", "reference": "WH/OUT/R", "status": "cancelled"},
            {"op": "update", "order_id": "b-R", "status": "teleported"},
            {"op": "update", "order_id": "b-R"},
            {"op": "create", "order_id": "g-R", "merchant_id": "globex", "customer": CUSTOMER},
            {"op": "update", "order_id": "b-R", "status": "delivered"},
        ],
        key="batch-R",
        claims={"merchants": ["acme"]},
    ),
    Step(
        "batch again",
        "POST /v1/batch",
        200,
        body=[
            {"op": "create", "order_id": "b-R", "merchant_id": "acme", "customer": CUSTOMER},
            {"op": "update", "order_id": "b-R", "status": "delivered", "update_id": "batch-R:7"},
        ],
        key="batch-R",
    ),
    Step("an empty batch", "POST /v1/batch", 422, "validation-failed", []),
    Step("all orders", "GET /v1/orders", 200),
    Step("active orders of one status", "GET /v1/orders?active=true&status=picked_up&merchant_id=acme", 200),
    Step("orders of others", "GET /v1/orders", 200, claims=FOREIGN),
    Step("a bad limit", "GET /v1/orders?limit=0", 422, "validation-failed"),
    Step("the log of an order", "GET /v1/events?order_id=o-R", 200),
    Step("the log by a link", "GET /v1/events?order_id=o-R", 200, claims=LINK),
    Step("the log by status", "GET /v1/events?order_id=b-R&status=picked_up", 200),
    Step("a bad cursor", "GET /v1/events?after=nonsense", 400, "invalid-cursor"),
)

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_RUN_DEPENDENT = frozenset({"trace_id", "traceparent", "partition", "sequence", "cursor"})
_WORDED_FREELY = frozenset(
    {"validation-failed", "malformed-json", "unauthenticated", "forbidden", "invalid-cursor"}
)
_HEADERS = ("Idempotent-Replayed", "Location", "Preference-Applied", "Content-Type")


async def transcript(server: Server) -> list[Answer]:
    """Sends all steps, checks the status and the kind of each answer, and returns the answers."""
    run = token_hex(4)
    async with ClientSession() as session:
        answers = [await _answer(session, server, step, run) for step in STEPS]
    expected = [(step.name, step.status, step.answer) for step in STEPS]
    assert [(answer.step, answer.status, answer.kind) for answer in answers] == expected
    return answers


async def _answer(session: ClientSession, server: Server, step: Step, run: str) -> Answer:
    deadline = time.monotonic() + MAX_SECONDS
    while True:
        status, document, headers = await _request(session, server, step, run)
        if status != 404 or not step.repeat_until_known:
            break
        assert time.monotonic() < deadline, step
        await asyncio.sleep(0.05)  # between two requests, with a deadline
    kind = document.get("outcome") or document.get("type", "").rpartition("/")[2]
    masked = {name: value.replace(run, "R") for name, value in headers.items()}
    return Answer(step.name, status, kind, _comparable(document, run), masked)


async def _request(
    session: ClientSession, server: Server, step: Step, run: str
) -> tuple[int, Document, Document]:
    method, _, path = step.request.replace("-R", f"-{run}").partition(" ")
    base = server.ingest if method == "POST" else server.query
    headers = dict(step.headers)
    if step.claims is not None:
        claims = {name: _named(value, run) for name, value in step.claims.items()}
        headers["Authorization"] = f"Bearer {server.token(**claims)}"
    if step.key:
        headers["Idempotency-Key"] = step.key.replace("-R", f"-{run}")
    if isinstance(step.body, bytes):
        headers["Content-Type"] = "application/json"
        body: Document = {"data": step.body}
    else:
        body = {} if step.body is None else {"json": _named(step.body, run)}
    async with session.request(method, base + path, headers=headers, **body) as response:
        found = {name: response.headers[name] for name in _HEADERS if name in response.headers}
        assert ("WWW-Authenticate" in response.headers) >= (response.status == 401), step
        return response.status, await response.json(content_type=None), found


def _named(value: Any, run: str) -> Any:
    """The value with the random part in all its texts."""
    if isinstance(value, str):
        return re.sub(r"(?<=[-/])R\b", run, value)
    if isinstance(value, list):
        return [_named(each, run) for each in value]
    if isinstance(value, dict):
        return {name: _named(each, run) for name, each in value.items()}
    return value


def _comparable(value: Any, run: str) -> Any:
    if isinstance(value, str):
        return _TIME.sub("<time>", re.sub(r"r-[a-z2-7]{26}", "<derived id>", value.replace(run, "R")))
    if isinstance(value, list):
        return [_comparable(each, run) for each in value]
    if not isinstance(value, dict):
        return value
    rest = {name: _comparable(each, run) for name, each in value.items() if name not in _RUN_DEPENDENT}
    if str(rest.get("type")).rpartition("/")[2] in _WORDED_FREELY:
        del rest["detail"]
        if "errors" in rest:
            rest["errors"] = [error["pointer"] for error in rest["errors"]]
    return rest


async def a_live_view_follows_the_sender(server: Server) -> None:
    """Orders that are sent while a stream is open arrive in it, once and in order."""
    run = token_hex(4)
    ids = [f"{run}-{number}" for number in range(20)]
    live = LiveOrders(server.stream, server.token(merchants=[run]), {})
    async with Sender(server.ingest, server.token()) as sender, aclosing(live.events()) as events:
        before = create(f"{run}-early", merchant_id=run, name="Ada", contact_ref="crm:1")
        assert (await sender.send(before)).is_applied
        seen: list[str] = []

        async def follow() -> None:
            async for event in events:
                seen.append(event["id"])
                if len(seen) == 3 * len(ids):
                    return

        following = asyncio.create_task(follow())
        async with asyncio.timeout(MAX_SECONDS):
            await live.live.wait()
            assert live.orders.keys() == {f"{run}-early"}
            operations = [create(each, merchant_id=run, name="Ada", contact_ref="crm:1") for each in ids]
            operations += [update(each, "picked_up") for each in ids]
            operations += [update(each, "cancelled") for each in ids[::2]]
            operations += [checkpoint(each, message="at the door") for each in ids[1::2]]
            results = await asyncio.gather(*(sender.send(each) for each in operations))
            await following
    assert {result.outcome for result in results} == {Outcome.APPLIED}
    assert len(set(seen)) == len(seen)
    for each in ids:
        assert [name for name in seen if name.startswith(f"{each}:")] == [f"{each}:{n}" for n in (1, 2, 3)]
    assert live.orders.keys() == {f"{run}-early", *ids[1::2]}
    assert live.gaps == 0


async def a_stream_goes_on_after_its_cursor(server: Server) -> None:
    """A second stream with the cursor of the first gets exactly what came after it."""
    run = token_hex(4)
    token = server.token()
    wanted = {"order_id": [f"o-{run}"], "active": None}
    async with Sender(server.ingest, token) as sender, asyncio.timeout(MAX_SECONDS):
        await sender.send(create(f"o-{run}", merchant_id="acme", name="Ada", contact_ref="crm:1"))
        first = LiveOrders(server.stream, token, wanted)
        async with aclosing(first.events()) as events:
            following = asyncio.create_task(anext(events))
            await first.live.wait()
            await sender.send(update(f"o-{run}", "picked_up"))
            assert (await following)["id"] == f"o-{run}:2"
        cursor = first.cursor
        await sender.send(update(f"o-{run}", "in_transit"))
        await sender.send(correct(f"o-{run}", "delivered", reason="a scan was missing"))
        second = LiveOrders(server.stream, token, wanted, after=cursor)
        async with aclosing(second.events()) as events:
            found = [await anext(events)]
            while found[-1]["data"]["version"] < 4:
                found.append(await anext(events))
    versions = [event["data"]["version"] for event in found]
    assert versions in ([2, 3, 4], [3, 4])  # the cursor of a message that was not used up is the one before
    assert found[-1]["type"] == "order.corrected"


async def a_customer_sees_one_order_without_the_person(server: Server) -> None:
    """A stream with a token that is narrowed to an order shows it alone, without its customer."""
    run = token_hex(4)
    narrow = server.token(merchants=[], orders=[f"o-{run}"], scope="orders:read")
    async with Sender(server.ingest, server.token()) as sender, asyncio.timeout(MAX_SECONDS):
        for order_id in (f"o-{run}", f"p-{run}"):
            await sender.send(create(order_id, merchant_id="acme", name="Ada", contact_ref="crm:1"))
        live = LiveOrders(server.stream, narrow, {})
        async with aclosing(live.events()) as events:
            following = asyncio.create_task(anext(events))
            await live.live.wait()
            assert live.orders.keys() == {f"o-{run}"}
            await sender.send(update(f"p-{run}", "picked_up"))
            await sender.send(update(f"o-{run}", "picked_up"))
            event = await following
    assert event["subject"] == f"o-{run}"
    assert "customer" not in event["data"]
    assert "id" not in event["data"]["source"]


async def a_stream_without_a_right_to_read_is_refused(server: Server) -> None:
    """The stream is closed for good, with the reason as a problem."""
    for claims, code in (({"scope": "orders:write"}, 4403), ({"exp": 1000}, 4401)):
        live = LiveOrders(server.stream, server.token(**claims), {})
        with pytest.raises(StreamRefused) as refusal:
            async with asyncio.timeout(MAX_SECONDS), aclosing(live.events()) as events:
                await anext(events)
        assert refusal.value.code == code
        assert refusal.value.problem is not None


SCENES = (
    a_live_view_follows_the_sender,
    a_stream_goes_on_after_its_cursor,
    a_customer_sees_one_order_without_the_person,
    a_stream_without_a_right_to_read_is_refused,
)
