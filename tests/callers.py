"""Callers: drivers and systems that report to ingest, repeat until they are answered, and remember it all."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from random import Random
from typing import Any
from uuid import uuid4

import jwt
import orjson
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from openapi_checks import check_answer
from tracking.upkeep.checker import Acknowledged

JWT_SECRET = "a-secret-of-the-tests-0123456789abcdef"
GIVE_UP_SECONDS = 90

LIFE = ("picked_up", "delivered", "in_transit", "in_transit", "delivered", "cancelled")
"""A life with two illegal steps in it."""


def token(**claims: Any) -> str:
    """A token that may do everything, unless `claims` say otherwise."""
    payload = {
        "sub": "caller",
        "scope": "orders:read orders:write",
        "merchants": ["*"],
        "exp": time.time() + 3600,
    }
    return jwt.encode(payload | claims, JWT_SECRET, "HS256")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    """Whatever the case of their names."""
    body: Any


@dataclass(slots=True)
class Caller:
    """Speaks to any of `urls`; a repeat goes to another one."""

    urls: Sequence[str]
    acknowledged: list[Acknowledged] = field(default_factory=list)
    session: ClientSession | None = None
    give_up_seconds: float = GIVE_UP_SECONDS
    """How long a report is repeated for that is not answered."""
    _random: Random = field(default_factory=Random)

    async def __aenter__(self) -> "Caller":
        self.session = ClientSession(
            timeout=ClientTimeout(total=20), connector=TCPConnector(limit=200, force_close=False)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.session:
            await self.session.close()

    async def post(self, path: str, body: Any, *, bearer: str | None = None, **headers: str) -> Answer:
        """One request to one replica. Header names with underscores for dashes."""
        assert self.session
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named = {"Authorization": f"Bearer {bearer or token()}", "Content-Type": "application/json"} | named
        data = BytesIO(body) if isinstance(body, bytes) else body if isinstance(body, str) else None
        json = None if data is not None else body
        url = self._random.choice(self.urls) + path
        async with self.session.post(url, json=json, data=data, headers=named) as response:
            content = await response.read()
        check_answer("ingest", "POST", path, status=response.status, headers=response.headers, body=content)
        return Answer(response.status, response.headers, orjson.loads(content))

    async def insist(self, path: str, body: Any, update_id: str, order_id: str, **headers: str) -> Answer:
        """Repeats with the same key until there is an answer, and remembers it as acknowledged."""
        deadline = time.monotonic() + self.give_up_seconds
        while True:
            try:
                answer = await self.post(path, body, Idempotency_Key=update_id, **headers)
            except (ClientError, TimeoutError, OSError):
                answer = None
            if answer and answer.status != 503:
                assert answer.status < 500, answer
                self.acknowledged.append(acknowledged(answer, order_id, update_id))
                return answer
            assert time.monotonic() < deadline, f"no answer to {path}, last: {answer}"
            await asyncio.sleep(self._random.uniform(0.05, 0.3))  # back-off, not a wait for a condition

    async def live(self, order_id: str, steps: Sequence[str] = LIFE, **headers: str) -> list[Answer]:
        """Creates an order and takes it through `steps`, each with an id of its own."""
        body = {
            "order_id": order_id,
            "merchant_id": f"m-{self._random.randrange(5)}",
            "customer": {"name": "Ada Lovelace", "contact_ref": "crm-1"},
        }
        answers = [await self.insist("/v1/orders", body, f"{order_id}.create", order_id, **headers)]
        for number, status in enumerate(steps):
            answers.append(
                await self.insist(
                    f"/v1/orders/{order_id}/updates",
                    {"status": status, "metadata": {"step": number}},
                    f"{order_id}.{number}",
                    order_id,
                    **headers,
                )
            )
        return answers


def acknowledged(answer: Answer, order_id: str, update_id: str) -> Acknowledged:
    """What the caller was told, in the checker's terms."""
    body = answer.body
    if answer.status >= 400:
        return Acknowledged(order_id, update_id, "rejected", None, body["type"].rsplit("/", 1)[1])
    return Acknowledged(order_id, update_id, body["outcome"], body.get("version"))


async def many_lives(caller: Caller, number: int, at_once: int = 20, **headers: str) -> list[str]:
    """Takes `number` orders through a life, some at once; returns their ids."""
    gate = asyncio.Semaphore(at_once)
    order_ids = [uuid4().hex for _ in range(number)]

    async def one(order_id: str) -> None:
        async with gate:
            await caller.live(order_id, **headers)

    async with asyncio.TaskGroup() as group:
        for order_id in order_ids:
            group.create_task(one(order_id))
    return order_ids


async def eventually(condition: Callable[[], Awaitable[Any]], *, seconds: float = 60.0) -> Any:
    """Asks until the answer is true, and returns it; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = await condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        await asyncio.sleep(0.05)
