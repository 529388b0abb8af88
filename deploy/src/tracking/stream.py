"""A client of the live stream: connects, subscribes, and joins again with its cursor after a loss."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

FIRST_WAIT_SECONDS = 0.2
MAX_WAIT_SECONDS = 10.0

MAX_MESSAGE_BYTES = 16 * 1024 * 1024

FINAL_CODES = frozenset({4400, 4401, 4403, 4413})
"""Coming back would not help: bad message, not authenticated, forbidden, too big."""

Message = dict[str, Any]


class StreamRefused(Exception):
    """The server does not want this client, and would not want it later either."""


@dataclass(frozen=True)
class Subscription:
    """What to follow, and as whom."""

    url: str
    token: Callable[[], str]
    """Asked at each connection, so that a fresh one can be made."""
    filter: dict[str, Any] = field(default_factory=dict)
    after: str | None = None
    """The cursor to go on from; None = from now on."""


async def follow(subscription: Subscription) -> AsyncIterator[Message]:
    """The messages of the server, for ever. After a loss: `{"type": "lost", "reason": …}`, then what was missed.

    Raises:
        StreamRefused: the server closed with a code that is final.
    """
    after = subscription.after
    wait_seconds = FIRST_WAIT_SECONDS
    while True:
        try:
            async with connect(subscription.url, max_size=MAX_MESSAGE_BYTES, compression=None) as socket:
                async with aclosing(_messages(socket, subscription, after)) as messages:
                    async for message in messages:
                        wait_seconds = FIRST_WAIT_SECONDS
                        after = message.get("cursor", after)
                        yield message
                reason = f"closed with {socket.close_code} {socket.close_reason}".rstrip()
        except InvalidURI:
            raise StreamRefused(f"{subscription.url}: not the address of a WebSocket") from None
        except (OSError, TimeoutError, InvalidHandshake) as error:
            reason = str(error) or type(error).__name__
        yield {"type": "lost", "reason": reason}
        await asyncio.sleep(random.uniform(0.5, 1.0) * wait_seconds)
        wait_seconds = min(2 * wait_seconds, MAX_WAIT_SECONDS)


async def _messages(
    socket: ClientConnection, subscription: Subscription, after: str | None
) -> AsyncIterator[Message]:
    request: Message = {"type": "subscribe", "token": subscription.token(), "filter": subscription.filter}
    request |= {"snapshot": False} if after is None else {"after": after}
    problem: Message = {}
    try:
        await socket.send(orjson.dumps(request), text=True)
        while True:
            message: Message = orjson.loads(await socket.recv())
            if message["type"] == "problem":
                problem = message["problem"]
            yield message
    except ConnectionClosed:
        if socket.close_code in FINAL_CODES:
            raise StreamRefused(_describe(problem, socket)) from None


def _describe(problem: Message, socket: ClientConnection) -> str:
    if not problem:
        return f"closed with {socket.close_code} {socket.close_reason}".rstrip()
    errors = "; ".join(f"{error['pointer']} {error['message']}" for error in problem.get("errors", [])[:3])
    return f"{problem['title']}: {errors or problem['detail']}"
