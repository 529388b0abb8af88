"""Answers without a length, to HTTP/1.0 and to HTTP/1.1."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from socket import socket

import pytest
import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse

from answers import Answer
from raw_http import RawConnection
from tracking_shared.http.connections import bounded_protocol
from tracking_shared.http.http_limits import http_limits_of
from tracking_shared.settings import Settings

SETTINGS = Settings(amqp_url="amqp://unused", mongodb_url="mongodb://unused", jwt_secret="s" * 32)


def application() -> FastAPI:
    """Answers in pieces, in full, or not to the end."""
    app = FastAPI(openapi_url=None)

    async def pieces(*, whole: bool) -> AsyncIterator[bytes]:
        yield b"one\n"
        await asyncio.sleep(0)
        yield b"two\n"
        if not whole:
            raise ConnectionError("there is no more")

    @app.get("/whole")
    async def whole() -> Response:
        return StreamingResponse(pieces(whole=True))

    @app.get("/broken")
    async def broken() -> Response:
        return StreamingResponse(pieces(whole=False))

    @app.get("/known")
    async def known() -> Response:
        return Response(b"known\n")

    return app


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    protocol = bounded_protocol(http_limits_of(SETTINGS), 100)
    config = uvicorn.Config(application(), log_config=None, lifespan="off", ws="none", http=protocol)
    server = uvicorn.Server(config)
    listener = socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


async def got(path: str, version: str) -> Answer:
    async with serving() as url:
        connection = await RawConnection.open(url)
        try:
            head = f"GET {path} HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n"
            await connection.send(head.encode())
            return await connection.rest()
        finally:
            connection.close()


@pytest.mark.parametrize(("path", "body"), [("/whole", b"one\ntwo\n"), ("/known", b"known\n")])
async def test_http_1_0_gets_the_bare_body(path: str, body: bytes) -> None:
    answer = await got(path, "1.0")
    assert (answer.status, answer.body) == (200, body)
    assert "transfer-encoding" not in answer.headers
    assert ("content-length" in answer.headers) is (path == "/known")


async def test_http_1_1_gets_chunks() -> None:
    answer = await got("/whole", "1.1")
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.body == b"4\r\none\n\r\n4\r\ntwo\n\r\n0\r\n\r\n"


async def test_what_is_broken_off_ends_with_a_reset() -> None:
    with pytest.raises(ConnectionResetError):
        await got("/broken", "1.0")
