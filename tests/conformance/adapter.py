"""The Python client behind lines of JSON: told on standard input, reports on standard output.

The first line that it reads is its configuration, as `ClientProcess` writes it; then commands.
"""

import asyncio
import sys
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import orjson

from tracking_client.live_orders import LiveOrders, Notice, Status, StreamRefused, TokenUnavailable
from tracking_client.order_view import Gap, ProblemReceived, Snapshot


def say(name: str, detail: Any) -> None:
    sys.stdout.buffer.write(orjson.dumps({"name": name, "detail": detail}) + b"\n")
    sys.stdout.buffer.flush()


def token_source(tokens: list[str | None]) -> Callable[[], str]:
    """Gives one after the other, then always the last one; None stands for a failure."""

    def next_token() -> str:
        token = tokens.pop(0) if len(tokens) > 1 else tokens[0]
        if token is None:
            raise TokenUnavailable("there is none")
        return token

    return next_token


def tell(notice: Notice) -> None:
    match notice:
        case Status():
            retry_at = notice.retry_at and datetime.fromtimestamp(notice.retry_at, UTC).isoformat()
            problem = notice.problem and notice.problem["type"]
            status = {"state": notice.state, "reason": notice.reason, "code": notice.code}
            say("status", status | {"retryAt": retry_at, "problem": problem})
        case Snapshot() | Gap():
            say(type(notice).__name__.lower(), asdict(notice))
        case ProblemReceived():
            say("problem", notice.problem)


async def follow(live: LiveOrders) -> None:
    with suppress(StreamRefused):
        async with aclosing(live.events()) as events:
            async for event in events:
                say("event", event["id"])


async def main() -> None:
    reader = asyncio.StreamReader(limit=2**24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    config = orjson.loads(await reader.readline())
    live = LiveOrders(
        config["url"],
        config["token"] if "token" in config else token_source(config["tokens"]),
        config["filter"],
        listener=tell,
        **config["options"],
    )
    following = asyncio.create_task(follow(live))
    while command := (await reader.readline()).strip():
        if command == b"stop":
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        say(
            "report",
            {
                "orders": live.orders,
                "cursor": live.cursor,
                "gaps": live.gaps,
                "connections": live.connections,
            },
        )


if __name__ == "__main__":
    asyncio.run(main())
