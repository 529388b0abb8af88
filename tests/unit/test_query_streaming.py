"""Streamed answers: they end with their client, and what is cut off never looks whole."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from tracking_query.orders.exports import Stream
from tracking_shared.storage.database import DatabaseUnavailable

HTTP = {"type": "http"}


class Body:
    """Pieces without end, and whether anybody still wants them."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.closed = False

    async def pieces(self) -> AsyncGenerator[bytes]:
        try:
            while True:
                self.begun.set()
                yield b"piece"
        finally:
            self.closed = True


class Sent(list[Any]):
    """What the server was given to send, and whether that is a whole answer."""

    async def __call__(self, message: Any) -> None:
        self.append(message)
        await asyncio.sleep(0)

    @property
    def is_whole(self) -> bool:
        return not self[-1].get("more_body", True)


async def test_an_answer_ends_when_its_client_has_left() -> None:
    body, sent, left = Body(), Sent(), asyncio.Event()

    async def receive() -> Any:
        await left.wait()
        return {"type": "http.disconnect"}

    answering = asyncio.create_task(Stream(body.pieces())(HTTP, receive, sent))
    await body.begun.wait()
    left.set()
    async with asyncio.timeout(30):
        await answering
    assert body.closed
    assert not sent.is_whole


async def test_an_answer_that_fails_on_the_way_is_cut_off() -> None:
    async def failing() -> AsyncGenerator[bytes]:
        yield b"piece"
        raise DatabaseUnavailable("it is away")

    sent = Sent()
    await Stream(failing())(HTTP, asyncio.Event().wait, sent)
    assert [message.get("body") for message in sent] == [None, b"piece"]
    assert not sent.is_whole


async def test_an_answer_ends_with_its_body() -> None:
    async def short() -> AsyncGenerator[bytes]:
        yield b"piece"

    sent = Sent()
    await Stream(short())(HTTP, asyncio.Event().wait, sent)
    assert sent.is_whole
