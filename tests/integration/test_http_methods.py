"""HTTP as others speak it: HEAD wherever there is a GET, hosts, targets, versions, what every answer has."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from aiohttp import ClientSession
from query_stack import QueryClient, random_world, running_query, store
from query_stack import token as reader_token

from answers import Answer
from callers import Caller, token
from forked_services import ForkedService
from raw_http import RawConnection, exchange
from servers import Broker, new_environment

SERVICES = ("order_state", "ingest", "query", "notifier")
WAIT_SECONDS = 20
DESK = "https://desk.example"


@pytest.fixture(scope="module")
async def urls(
    broker_node: Broker, mongodb_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Mapping[str, str]]:
    """One of each service, by its name."""
    environment = await new_environment(broker_node, mongodb_url) | {"ALLOWED_ORIGINS": DESK}
    logs: Path = tmp_path_factory.mktemp("methods")
    async with AsyncExitStack() as started:
        services = {name: ForkedService(name, environment=environment, logs=logs) for name in SERVICES}
        for service in services.values():
            started.push_async_callback(service.stop)
        await asyncio.gather(*(service.start() for service in services.values()))
        yield {name: service.url for name, service in services.items()}


@pytest.fixture(scope="module")
async def query(mongodb_url: str) -> AsyncIterator[QueryClient]:
    async with running_query(mongodb_url) as client:
        await store(client.database, random_world(orders=20, steps=2))
        yield client


def request(method: str, path: str, *headers: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: a", *headers, "", ""]).encode()


async def head(url: str, path: str, *headers: str) -> Answer:
    """The answer to HEAD; its body is whatever came behind the head before the server closed."""
    connection = await RawConnection.open(url)
    try:
        await connection.send(request("HEAD", path, "Connection: close", *headers))
        return await connection.rest()
    finally:
        connection.close()


PATHS = [
    *((service, path) for service in SERVICES for path in ("/healthz", "/readyz", "/metrics", "/nothing")),
    *((service, "/openapi.json") for service in ("ingest", "query")),
    ("query", "/problems/not-found"),
    ("query", "/v1/orders/o-1"),
    ("query", "/v1/orders?limit=0"),
    ("ingest", "/v1/orders"),
    ("notifier", "/asyncapi.json"),
    ("notifier", "/v1/stream"),
]


@pytest.mark.parametrize(("service", "path"), PATHS)
async def test_head_is_answered_as_get_is_without_a_body(
    urls: Mapping[str, str], service: str, path: str
) -> None:
    got = await exchange(urls[service], request("GET", path))
    asked = await head(urls[service], path)

    assert asked.body == b""
    assert (asked.status, asked.headers["content-type"]) == (got.status, got.headers["content-type"])
    assert asked.headers.keys() - {"connection"} == got.headers.keys() - {"connection"}
    if path != "/metrics":  # which counts the two
        assert asked.headers["content-length"] == got.headers["content-length"]


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("path", ["/healthz/", "/v1/orders/", "/v1/stream/"])
async def test_a_path_with_a_slash_too_many_is_another_one(
    urls: Mapping[str, str], service: str, path: str
) -> None:
    answer = await exchange(urls[service], request("GET", path))
    assert (answer.status, answer.slug) == (404, "not-found")


@pytest.mark.parametrize(("service", "path"), [(name, "/healthz") for name in SERVICES])
async def test_what_may_be_read_allows_head(urls: Mapping[str, str], service: str, path: str) -> None:
    answer = await exchange(urls[service], request("DELETE", path))
    assert (answer.status, answer.slug) == (405, "method-not-allowed")
    assert answer.headers["allow"] == "GET, HEAD"


async def test_head_of_an_order_says_where_it_stands(query: QueryClient) -> None:
    bearer = reader_token()
    got = await query.get("/v1/orders/o-1", token=bearer)
    asked = await head(query.url, "/v1/orders/o-1", f"Authorization: Bearer {bearer}")
    assert (asked.status, asked.body) == (200, b"")
    assert asked.headers["etag"] == got.headers["etag"]
    assert asked.headers["content-length"] == str(len(got.body))


@pytest.mark.parametrize("media_type", ["text/csv", "application/x-ndjson"])
async def test_head_of_an_export_begins_none(query: QueryClient, media_type: str) -> None:
    subject = secrets.token_hex(8)
    bearer = reader_token(sub=subject, scope="orders:admin")  # of whom exports are recorded
    headers = {"Accept": media_type, "Accept-Encoding": "gzip"}
    asked = await head(
        query.url,
        "/v1/orders",
        f"Authorization: Bearer {bearer}",
        *(f"{name}: {value}" for name, value in headers.items()),
    )
    assert await query.database.audit.count_documents({"actor.sub": subject}) == 0
    async with query.opened("/v1/orders", token=bearer, headers=headers, raw=True) as got:
        assert (asked.status, asked.body) == (200, b"")
        for name in ("Content-Type", "Content-Encoding", "Vary"):
            assert asked.headers[name.lower()] == got.headers[name]
    assert "attachment" in asked.headers["content-disposition"]
    assert "content-length" not in asked.headers  # nobody knows it before the end
    assert await query.database.audit.count_documents({"actor.sub": subject}) == 1


async def test_head_of_the_log_does_not_wait(query: QueryClient) -> None:
    bearer = reader_token()
    started = time.monotonic()
    end = (await query.get("/v1/events", {"limit": 1000}, token=bearer)).json["cursor"]
    asked = await head(
        query.url, f"/v1/events?wait={WAIT_SECONDS}&after={end}", f"Authorization: Bearer {bearer}"
    )
    assert (asked.status, asked.body) == (200, b"")
    assert time.monotonic() - started < WAIT_SECONDS / 2


HOSTLESS = {
    "without one": (),
    "with two": ("Host: a", "Host: a"),
    "with two names": ("Host: a", "Host: b"),
    "with what is none": ("Host: a b",),
    "with a user": ("Host: user@a",),
}


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("hosts", HOSTLESS.values(), ids=HOSTLESS)
async def test_a_request_needs_one_host(
    urls: Mapping[str, str], service: str, hosts: tuple[str, ...]
) -> None:
    data = "\r\n".join(["GET /healthz HTTP/1.1", *hosts, "", ""]).encode()
    answer = await exchange(urls[service], data)
    assert (answer.status, answer.slug) == (400, "malformed-request")
    assert "Host" in answer.json["detail"]


@pytest.mark.parametrize("service", SERVICES)
async def test_a_target_in_the_absolute_form_is_taken(urls: Mapping[str, str], service: str) -> None:
    answer = await exchange(urls[service], request("GET", "http://elsewhere.example:80/healthz?x=1"))
    assert (answer.status, answer.json) == (200, {"status": "ok"})


async def test_a_stream_opens_at_a_target_in_the_absolute_form(urls: Mapping[str, str]) -> None:
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
    data = request("GET", "http://notifier.example/v1/stream", *upgrade, key)
    assert (await exchange(urls["notifier"], data)).status == 101


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    "data",
    [
        request("GET", "/healthz"),
        request("GET", "/nothing"),
        request("PUT", "/healthz"),
        request("GET", "/healthz", "Host: b"),
        b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
    ],
    ids=["good", "missing", "another method", "two hosts", "no HTTP"],
)
async def test_every_answer_has_a_date(urls: Mapping[str, str], service: str, data: bytes) -> None:
    answer = await exchange(urls[service], data)
    age = datetime.now(UTC) - parsedate_to_datetime(answer.headers["date"])
    assert abs(age.total_seconds()) < WAIT_SECONDS


async def some_orders(urls: Mapping[str, str]) -> str:
    """A token for a merchant that has some."""
    merchant = f"m-{secrets.token_hex(4)}"
    customer = {"name": "Ada", "contact_ref": "c"}
    created = {"op": "create", "merchant_id": merchant, "customer": customer}
    async with Caller([urls["ingest"]]) as caller:
        answer = await caller.post("/v1/batch", [created] * 3)
    assert [result["outcome"] for result in answer.body["results"]] == ["applied"] * 3
    return token(merchants=[merchant])


@pytest.mark.parametrize("media_type", ["text/csv", "application/x-ndjson"])
async def test_an_export_to_http_1_0_is_the_file_and_ends_with_the_connection(
    urls: Mapping[str, str], media_type: str
) -> None:
    bearer = await some_orders(urls)
    fields = f"Authorization: Bearer {bearer}\r\nAccept: {media_type}\r\n\r\n"
    old = await exchange(urls["query"], f"GET /v1/orders HTTP/1.0\r\n{fields}".encode())
    assert old.status == 200
    assert old.headers["connection"] == "close"
    assert not {"transfer-encoding", "content-length"} & old.headers.keys()
    headers = {"Authorization": f"Bearer {bearer}", "Accept": media_type}
    async with ClientSession(headers=headers) as session, session.get(f"{urls['query']}/v1/orders") as usual:
        assert old.body == await usual.read()
        assert usual.headers["Transfer-Encoding"] == "chunked"


async def test_answers_of_known_length_to_http_1_0_stay_as_they_are(urls: Mapping[str, str]) -> None:
    connection = await RawConnection.open(urls["query"])
    await connection.send(f"GET /v1/orders HTTP/1.0\r\nAuthorization: Bearer {token()}\r\n\r\n".encode())
    answer = await connection.rest()
    assert len(answer.body) == int(answer.headers["content-length"])
    connection.close()


async def test_an_answer_of_its_own_kind_still_varies_with_the_origin(urls: Mapping[str, str]) -> None:
    fields = (f"Authorization: Bearer {token()}", f"Origin: {DESK}")
    answer = await exchange(urls["query"], request("GET", "/v1/orders", *fields))
    assert answer.status == 200
    varies = {name.strip().lower() for name in answer.headers["vary"].split(",")}
    assert varies == {"accept", "accept-encoding", "origin"}
    assert answer.headers["access-control-allow-origin"] == DESK
