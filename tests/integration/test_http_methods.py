"""HEAD wherever there is a GET, paths with a slash too many, and what `Allow` names."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from query_stack import QueryClient, random_world, running_query, store
from query_stack import token as reader_token

from answers import Answer
from raw_http import RawConnection, exchange
from servers import Broker, new_environment
from tracking.service_process import ServiceProcess

SERVICES = ("order_state", "ingest", "query", "notifier")
WAIT_SECONDS = 20


@pytest.fixture(scope="module")
async def urls(
    broker_node: Broker, mongodb_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Mapping[str, str]]:
    """One of each service, by its name."""
    environment = await new_environment(broker_node, mongodb_url)
    logs: Path = tmp_path_factory.mktemp("methods")
    async with AsyncExitStack() as started:
        services = {name: ServiceProcess(name, environment=environment, logs=logs) for name in SERVICES}
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
