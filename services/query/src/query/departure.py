"""Clients who leave while they wait for their answer."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

from fastapi import Request


@asynccontextmanager
async def left_by_client(request: Request) -> AsyncIterator[asyncio.Task[None]]:
    """A task that ends when the client closes its connection. For requests without a body."""
    leaving = asyncio.create_task(_leave(request))
    try:
        yield leaving
    finally:
        leaving.cancel()


async def unless(left: asyncio.Task[None], waiting: Coroutine[None, None, bool]) -> bool:
    """What `waiting` gives; False as soon as the client has left."""
    task = asyncio.create_task(waiting)
    try:
        await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else False
    finally:
        task.cancel()


async def _leave(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
