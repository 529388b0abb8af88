"""A request that the server cancels at its own end, as uvicorn does when its graceful time is over."""

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest
from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse
from starlette.types import Message

from tracking_shared.http.service_app import install_plumbing
from tracking_shared.settings import Settings

SETTINGS = Settings(amqp_url="amqp://x", mongodb_url="mongodb://x")


def app_that_waits(begun: asyncio.Event) -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.post("/waits")
    async def waits() -> Response:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    @app.post("/streams")
    async def streams() -> Response:
        async def parts() -> AsyncIterator[bytes]:
            yield b"a part"
            begun.set()
            await asyncio.Event().wait()

        return StreamingResponse(parts())

    install_plumbing(app, SETTINGS, dict)
    return app


async def cancelled_request(path: str) -> tuple[list[Message], asyncio.Task[None]]:
    """What was sent by the end of a request that was cancelled while it was in hand."""
    begun = asyncio.Event()
    sent: list[Message] = []
    arriving: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"test")],
    }

    async def receive() -> Message:
        if not arriving:
            await asyncio.Event().wait()
        return arriving.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    async def run() -> None:
        await app_that_waits(begun)(scope, receive, send)

    task = asyncio.create_task(run())
    await asyncio.wait_for(begun.wait(), 5)
    task.cancel("Task cancelled, timeout graceful shutdown exceeded")
    await asyncio.wait([task], timeout=5)
    return sent, task


async def test_whoever_waits_for_an_answer_is_told_to_repeat_the_request() -> None:
    sent, task = await cancelled_request("/waits")

    assert not task.cancelled()
    start, body = sent
    assert start["status"] == 503
    assert dict(start["headers"])[b"content-type"] == b"application/problem+json"
    assert b"retry-after" in dict(start["headers"])
    assert orjson.loads(body["body"])["type"] == "/problems/overloaded"


async def test_an_answer_that_has_begun_is_broken_off() -> None:
    sent, task = await cancelled_request("/streams")

    with pytest.raises(asyncio.CancelledError):
        task.result()
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
