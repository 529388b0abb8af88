"""Whatever callers send: an answer of ours, the same one each time, nothing of it as a part of a query of the
database, and nothing personal or secret in a log.
"""

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import ClientSession
from bson import Regex
from bson.code import Code
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callers import JWT_SECRET, token
from database_roles import ROLES, beyond_role, needed
from forked_services import ForkedService
from raw_http import exchange
from servers import Broker
from tracking_ingest.api.bodies import CreateOperation, CustomerBody, UpdateOperation
from wire_tap import WireTap, every_key, tap_database

MARK = f"zq{secrets.token_hex(4)}"
"""In every string that these tests send, so that it can be found again."""

BROKER_PASSWORD = f"pw{secrets.token_hex(8)}"

LOG_LINE = {"time", "level", "service", "logger", "message"}


@dataclass(frozen=True, slots=True)
class Installation:
    """Services behind a tapped database."""

    ingest: str
    query: str
    taps: dict[str, WireTap]
    """By the names of the services' users in the database."""
    logs: Path
    bearer: str


@pytest.fixture(scope="module")
async def system(
    broker_node: Broker, mongodb_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Installation]:
    logs: Path = tmp_path_factory.mktemp("hostile")
    vhost, user = f"test-{secrets.token_hex(6)}", f"user-{secrets.token_hex(4)}"
    await broker_node.control("add_vhost", vhost)
    await broker_node.control("add_user", user, BROKER_PASSWORD)
    await broker_node.control("set_permissions", "-p", vhost, user, ".*", ".*", ".*")
    amqp_url = broker_node.url.replace("guest:guest", f"{user}:{BROKER_PASSWORD}") + vhost
    async with AsyncExitStack() as tapped:
        names = ("order-state", "ingest", "query")
        taps = {name: await tapped.enter_async_context(tap_database(mongodb_url)) for name in names}
        environment = {
            "AMQP_URL": amqp_url,
            "MONGODB_DATABASE": f"test_{secrets.token_hex(6)}",
            "JWT_SECRET": JWT_SECRET,
            "LOG_LEVEL": "DEBUG",
        }
        services = [
            ForkedService(
                name.replace("-", "_"), environment=environment | {"MONGODB_URL": tap.url}, logs=logs
            )
            for name, tap in taps.items()
        ]
        try:
            for service in services:
                await service.start()
            bearer = token(sub=f"{MARK}-caller", scope="orders:read orders:write", merchants=["*"])
            yield Installation(services[1].url, services[2].url, taps, logs, bearer)
        finally:
            for service in services:
                await service.stop()


TRICKS = [
    '{"$gt": ""}',
    "$where",
    "$ne",
    ".*",
    "^",
    "a.b",
    "\x00",
    "' || 1==1//",
    "__proto__",
    "\N{RIGHT-TO-LEFT OVERRIDE}",
    "\U0001f69a",
]


async def send(
    system: Installation, path: str, body: bytes, media_type: str = "application/json", key: str = ""
) -> tuple[int, Any]:
    """One POST; the status and the body without what differs each time."""
    headers = {"Authorization": f"Bearer {system.bearer}", "Content-Type": media_type}
    headers |= {"Idempotency-Key": key} if key else {}
    async with (
        ClientSession() as session,
        session.post(system.ingest + path, data=body, headers=headers) as answer,
    ):
        assert answer.status < 500, await answer.text()
        document = await answer.json(content_type=None)
        if answer.status >= 400:
            assert answer.content_type == "application/problem+json"
            assert document["status"] == answer.status
    document.pop("trace_id", None)
    return answer.status, document


async def test_nothing_that_is_sent_becomes_a_part_of_a_query(system: Installation) -> None:
    for trick in TRICKS:
        text = f"{MARK}{trick}"
        await _write(system, text)
        await _read(system, text)
    seen = [command for tap in system.taps.values() for command in tap.commands if MARK in repr(command)]
    assert {next(iter(command)) for command in seen} >= {"find", "insert", "update"}
    for command in seen:
        for path, held in every_key(command):
            assert not isinstance(held, Regex | Code), path
            if MARK in path[-1]:
                assert "metadata" in path or "order_metadata" in path, path
            if path[-1].startswith("$") and MARK in repr(held):
                # Compared with, as a value; `$set` and its like hold whole documents of ours.
                assert path[-1] in {
                    "$eq",
                    "$in",
                    "$lt",
                    "$lte",
                    "$gt",
                    "$gte",
                    "$and",
                    "$or",
                    "$set",
                    "$match",
                }


async def _write(system: Installation, text: str) -> None:
    order_id = f"{MARK}-{secrets.token_hex(4)}"
    order = {
        "order_id": order_id,
        "merchant_id": f"{MARK}-m",
        "customer": {"name": text.replace("\x00", ""), "contact_ref": text.replace("\x00", "")},
        "metadata": {MARK: text, f"{MARK}{text[len(MARK) :].strip('$.').replace('.', '')}"[:40]: [text]},
    }
    status, body = await send(system, "/v1/orders", json.dumps(order).encode())
    assert status in (201, 422), body
    for field, value in {"order_id": text, "merchant_id": text, "metadata": {text: 1}, text: 1}.items():
        await send(system, "/v1/orders", json.dumps(order | {field: value}).encode())
    path = f"/v1/orders/{quote(order_id)}/updates"
    await send(system, path, json.dumps({"status": "picked_up", "metadata": {MARK: {MARK: text}}}).encode())
    await send(system, path, json.dumps({"status": text}).encode())
    await send(system, path, json.dumps({"status": {"$ne": text}}).encode())
    await send(system, f"/v1/orders/{quote(text, safe='')}/updates", b'{"status":"picked_up"}')


async def _read(system: Installation, text: str) -> None:
    quoted = quote(text, safe="")
    for path in (
        f"/v1/orders/{quoted}",
        f"/v1/orders/{quoted}/history",
        f"/v1/updates/{quoted}/{quoted}",
        f"/v1/orders?customer_ref={quoted}",
        f"/v1/orders?merchant_id={quoted}&status={quoted}",
        f"/v1/orders?merchant_id[$ne]={quoted}&status[$regex]={quoted}",
        f"/v1/events?merchant_id={quoted}&order_id={quoted}",
        f"/v1/reports/status-counts?merchant_id={quoted}",
    ):
        headers = {"Authorization": f"Bearer {system.bearer}"}
        async with (
            ClientSession() as session,
            session.get(system.query + path, headers=headers) as answer,
        ):
            assert answer.status < 500, path


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63, -(2**63) - 1, 10**400, 1e308, -0.0, 5e-324])
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["created", "picked_up", "cancelled", "2026-01-01T00:00:00Z", "9999-12-31T23:59:59Z"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(
    [*CreateOperation.model_fields, *UpdateOperation.model_fields, *CustomerBody.model_fields, "x"]
)
good = {
    "op": "create",
    "merchant_id": MARK,
    "customer": {"name": MARK, "contact_ref": MARK},
    "metadata": {},
    "status": "picked_up",
    "order_id": MARK,
}
objects = st.builds(
    lambda kept, changed: {key: good[key] for key in kept} | changed,
    st.sets(st.sampled_from(sorted(good))),
    st.dictionaries(fields, json_values, max_size=3),
)


def encoded(value: Any) -> bytes:
    """JSON as a careless client writes it: NaN, half surrogates and all."""
    text = json.dumps(value, ensure_ascii=False).replace("Infinity", "1e999")
    return text.encode("utf-8", "surrogatepass")


damaged = st.builds(
    lambda body, place, insert: body[: place % (len(body) + 1)] + insert + body[place % (len(body) + 1) :],
    st.builds(encoded, objects),
    st.integers(0, 400),
    st.binary(max_size=4)
    | st.sampled_from([b"\xef\xbb\xbf", b"\xff", b"[" * 300, b'{"a":1,"a":1}', b"\\ud800"]),
)
bodies = st.builds(encoded, objects | json_values) | damaged | st.binary(max_size=40)
paths = st.sampled_from(["/v1/orders", f"/v1/orders/{MARK}/updates", "/v1/orders/%00/updates", "/v1/batch"])


async def test_any_body_gets_an_answer_of_ours_and_the_same_one_again(system: Installation) -> None:
    await send(system, "/v1/orders", encoded(good))
    cases: list[tuple[str, bytes, str]] = []

    @settings(max_examples=80, database=None, suppress_health_check=list(HealthCheck))
    @given(paths, bodies, st.sampled_from(["application/json", "application/x-ndjson"]))
    def collect(path: str, body: bytes, media_type: str) -> None:
        cases.append((path, body, media_type))

    collect()
    for path, body, media_type in cases:
        key = secrets.token_hex(8)
        status, document = await send(system, path, body, media_type, key)
        again, repeated = await send(system, path, body, media_type, key)
        if path == "/v1/batch" and status == 200:
            assert [kind(line) for line in document["results"]] == [
                kind(line) for line in repeated["results"]
            ]
        elif status >= 400:
            assert (status, document) == (again, repeated), body
        else:
            assert repeated["outcome"] == "duplicate", body


def kind(line: Any) -> Any:
    """What of a line of a batch is the same each time: not the ids that were made for it."""
    problem = line.get("problem", {}).get("type")
    return (line["index"], problem) if problem else line["index"]


GOOD_LINE = b'{"op":"create","merchant_id":"m","customer":{"name":"a","contact_ref":"b"}}'
BAD_LINES = [
    b"{",
    b"\xff",
    b"\xef\xbb\xbf\xef\xbb\xbf" + GOOD_LINE,
    b"NaN",
    b"[" * 5000,
    b"1" * 5000,
    b"{}",
    b'"\\ud800"',
    b"[]",
    GOOD_LINE[:-1] + b',"op":"create"}',
    GOOD_LINE[:-1] + b',"x":1}',
    GOOD_LINE[:-1] + b',"metadata":{"a":1e999}}',
    GOOD_LINE[:-1] + b',"metadata":{"a":NaN}}',
    GOOD_LINE[:-1] + b',"metadata":{"a":1e-400}}',
    GOOD_LINE + GOOD_LINE,
]


async def test_a_bad_line_of_a_batch_is_rejected_alone(system: Installation) -> None:
    lines = [line for bad in BAD_LINES for line in (GOOD_LINE, bad)]
    status, body = await send(system, "/v1/batch", b"\n".join(lines), "application/x-ndjson")
    assert status == 200
    outcomes = [result["outcome"] for result in body["results"]]
    assert outcomes == ["applied", "rejected"] * len(BAD_LINES)


async def test_a_bad_item_of_an_array_is_rejected_alone_if_the_array_can_be_read(
    system: Installation,
) -> None:
    repeated = GOOD_LINE[:-1] + b',"customer":{"name":"a","name":"b","contact_ref":"c"}}'
    infinite = GOOD_LINE[:-1] + b',"metadata":{"a":1e999}}'
    batch = b"[" + b" , ".join([GOOD_LINE, repeated, b"7", GOOD_LINE, infinite]) + b"]"
    status, body = await send(system, "/v1/batch", batch)
    assert status == 200
    told = [result.get("problem", {}).get("type", "good") for result in body["results"]]
    malformed, invalid = "/problems/malformed-json", "/problems/validation-failed"
    assert told == ["good", malformed, invalid, "good", invalid]
    status, body = await send(system, "/v1/batch", batch[:-1] + b",NaN]")
    assert (status, body["type"]) == (400, malformed)


async def test_a_batch_of_too_many_is_refused_before_it_costs_anything(system: Installation) -> None:
    batch = b"[" + b",".join([b"{}"] * 340_000) + b"]"
    status, body = await send(system, "/v1/batch", batch)
    assert (status, body["type"]) == (422, "/problems/validation-failed")
    assert len(body["errors"]) == 1


async def test_every_service_keeps_to_its_role_in_the_database(system: Installation) -> None:
    for user, tap in system.taps.items():
        assert beyond_role(user, tap.commands) == set(), user


async def test_ingest_only_reads_the_database(system: Installation) -> None:
    assert {action for action, _ in needed(system.taps["ingest"].commands)} == {"find"}
    assert {action for actions in ROLES["ingest"].values() for action in actions} == {"find"}


async def test_what_was_sent_is_in_no_log(system: Installation) -> None:
    # The tests before have sent names, contacts, tokens and metadata; this adds what goes wrong early.
    await exchange(system.ingest, f"GET /?{MARK} HTTP/1.1\r\nHost: {MARK}\r\nX: {MARK}\r\n\r\n".encode())
    await exchange(system.ingest, f"{MARK}\r\n\r\n".encode())
    async with ClientSession() as session:
        for bearer in (f"{system.bearer}x", f"{MARK}.{MARK}.{MARK}"):
            headers = {"Authorization": f"Bearer {bearer}"}
            for url in (system.ingest + "/v1/orders", system.query + f"/v1/orders/{MARK}?token={bearer}"):
                async with session.get(url, headers=headers) as answer:
                    assert answer.status < 500
    text = "".join(path.read_text() for path in system.logs.glob("*.log"))
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) > 3
    assert all(line.keys() >= LOG_LINE for line in lines)
    signature = system.bearer.rpartition(".")[2]
    for secret in (signature, JWT_SECRET, BROKER_PASSWORD):
        assert secret not in text
    # Ids may be logged; names, contacts and metadata are `MARK` and something behind it that no id may hold.
    for trick in TRICKS:
        assert json.dumps(f"{MARK}{trick}")[1:-1] not in text, trick
