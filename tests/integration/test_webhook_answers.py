"""Each answer that the OpenAPI document promises for webhooks is given, by every method of every path."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from query_stack import QueryClient, World, running_query, store, token
from test_openapi_answers import BEYOND, WEBHOOKS

from openapi_checks import document_of, resolved
from tracking_query.webhooks import webhook_requests
from tracking_shared.contracts.problems import PROBLEM_MEDIA_TYPE

MANAGER = token(sub="shop", merchants=["m-1"], scope="webhooks:manage")
NOBODY = token(scope="orders:nothing")
URL = "https://hooks.example.com/in"
BODIES: dict[tuple[str, str], Any] = {
    (WEBHOOKS, "post"): {"url": URL},
    (f"{WEBHOOKS}/{{webhook_id}}", "patch"): {"description": "Shop"},
    (f"{WEBHOOKS}/{{webhook_id}}/replay", "post"): {"from": "2026-03-01T12:00:00Z"},
}
OPERATIONS = [
    (path, method)
    for path, methods in document_of("query")["paths"].items()
    if path.startswith(WEBHOOKS)
    for method in methods
]
OF_THE_SENDER = {"200 application/json"}
"""Of a test delivery, where a sender runs. `test_webhook_api` gets it."""


@pytest.fixture
async def query(mongodb_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[QueryClient]:
    monkeypatch.setattr(webhook_requests, "TEST_SECONDS", 0.1)
    async with running_query(mongodb_url) as client:
        await store(client.database, World())
        yield client


def promised(path: str, method: str) -> set[str]:
    """The answers of an operation that can be had by asking."""
    found = set()
    responses = document_of("query")["paths"][path][method]["responses"]
    for status, reference in responses.items():
        for media_type, shown in resolved("query", reference).get("content", {"": {}}).items():
            kinds = shown["examples"] if media_type == PROBLEM_MEDIA_TYPE else [media_type]
            found |= {f"{status} {kind}" for kind in kinds if kind not in BEYOND}
    return found - (OF_THE_SENDER if path.endswith("/test") else set())


async def answers(query: QueryClient, path: str, method: str) -> set[str]:
    """What an operation answers to a request that it takes, and to those that it refuses."""
    body = BODIES.get((path, method))
    seen = set()

    async def ask(
        body: Any = body, *, bearer: str | None = MANAGER, more: str = "", verb: str = method, **headers: str
    ) -> None:
        created = await query.send("POST", WEBHOOKS, {"url": URL}, token=MANAGER)
        target = path.replace("{webhook_id}", headers.pop("webhook_id", created.json["id"])) + more
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await query.send(verb.upper(), target, body, token=bearer, headers=named)
        kind = answer.headers.get("Content-Type", "").partition(";")[0]
        if kind == PROBLEM_MEDIA_TYPE:
            kind = answer.json["type"].rpartition("/")[2]
        seen.add(f"{answer.status} {kind}")

    await ask()
    await ask(bearer=None)
    await ask(bearer=NOBODY)
    await ask(more="?strange=1")
    await ask(verb="put")
    await ask(webhook_id="wh_unseen")
    if body is not None:
        await ask(b"{")
        await ask(b" " * 1_000_000)
        await ask(b"x", Content_Type="text/plain")
        await ask({"strange": 1})
        await ask({"after": "x"} | ({"url": URL} if path == WEBHOOKS else {}))
    if (path, method) == (WEBHOOKS, "get"):
        await ask(more="?cursor=x")
    if (path, method) == (WEBHOOKS, "post"):
        for description in ("first", "second"):
            await ask({"url": URL, "description": description}, Idempotency_Key="k")
    return seen


@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=[f"{m} {p}" for p, m in OPERATIONS])
async def test_every_answer_of_an_operation_of_webhooks_is_given(
    query: QueryClient, path: str, method: str
) -> None:
    seen = await answers(query, path, method)
    missing = promised(path, method) - seen

    assert missing == set()
