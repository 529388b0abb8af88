"""A steady load through the proxy: updates, repeated until they are answered, and read back afterwards."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import orjson
from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout

from callers import Answer, acknowledged, eventually, token
from containers.verdict import contradiction
from tracking.upkeep.checker import NEVER_STORED, Acknowledged
from traffic import Life, random_lives

SENDERS = 8
PER_SECOND = 40.0
LIVES = 20_000
READ_AT_ONCE = 20
READ_AGAIN_SECONDS = 30.0
ANSWER_SECONDS = 25.0


class Load:
    """What was sent, and what came of it."""

    def __init__(self, url: str, session: ClientSession) -> None:
        self.task: asyncio.Task[None] | None = None
        """That sends."""
        self._url = url
        self._session = session
        self._bearer = {"Authorization": f"Bearer {token()}"}
        self.lives: Sequence[Life] = random_lives(LIVES, 8, Random())
        self.acknowledged: list[Acknowledged] = []
        self.times: list[float] = []
        """When each of them was."""
        self.odd: list[str] = []
        """Answers that are neither an outcome nor a 503 with a problem document."""
        self.refused = 0
        """Answers with 503."""
        self._read = 0
        self._next_turn = 0.0

    async def end(self) -> None:
        """Sends nothing more. What is under way may still be decided."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])

    async def run(self) -> None:
        """Until it is cancelled. An update that is under way then may have been taken or not."""
        lives = iter(self.lives)
        async with asyncio.TaskGroup() as group:
            for _ in range(SENDERS):
                group.create_task(self._send_lives(lives))

    async def goes_on(self, number: int = 40, *, seconds: float = 60) -> None:
        """Returns when so many more updates were acknowledged."""
        goal = len(self.acknowledged) + number

        async def reached() -> bool:
            return len(self.acknowledged) >= goal

        await eventually(reached, seconds=seconds)

    async def read_back(self) -> list[str]:
        """What is not as it was acknowledged, of all since the last time."""
        told = self.acknowledged[self._read :]
        self._read += len(told)
        gate = asyncio.Semaphore(READ_AT_ONCE)

        async def one(ack: Acknowledged) -> str | None:
            async with gate:
                return await self._contradiction(ack)

        found = await asyncio.gather(*(one(ack) for ack in told if ack.problem not in NEVER_STORED))
        return [fault for fault in found if fault]

    async def opens_stream(self) -> bool:
        """Whether a stream can be opened."""
        try:
            async with self._session.ws_connect(f"{self._url}/v1/stream"):
                return True
        except (ClientError, TimeoutError, OSError):
            return False

    async def _contradiction(self, ack: Acknowledged) -> str | None:
        deadline = time.monotonic() + READ_AGAIN_SECONDS
        while True:
            answer = await self._ask("GET", f"/v1/updates/{ack.order_id}/{ack.update_id}")
            # What was accepted only is decided a little later, and a 503 says nothing of it.
            found = contradiction(ack, answer.status, answer.body) if answer else "no answer"
            if not found or time.monotonic() > deadline:
                return found and f"{ack}: {found}"
            await asyncio.sleep(0.3)

    async def _send_lives(self, lives: Iterable[Life]) -> None:
        for life in lives:
            for number, status in enumerate(("created", *life.steps)):
                await self._turn()
                await self._insist(life, number, status)

    async def _turn(self) -> None:
        now = asyncio.get_running_loop().time()
        self._next_turn = max(now, self._next_turn + 1 / PER_SECOND)
        await asyncio.sleep(self._next_turn - now)

    async def _insist(self, life: Life, number: int, status: str) -> None:
        order_id, update_id = life.order_id, f"{life.order_id}.{number}"
        path, body = f"/v1/orders/{order_id}/updates", {"status": status, "metadata": {"step": number}}
        if number == 0:
            customer = {"name": f"Name of {order_id}", "contact_ref": "crm-1"}
            path = "/v1/orders"
            body = {"order_id": order_id, "merchant_id": life.merchant_id, "customer": customer}
        while True:
            answer = await self._ask("POST", path, body, update_id)
            if answer and answer.status != 503:
                self.acknowledged.append(acknowledged(answer, order_id, update_id))
                self.times.append(time.monotonic())
                return
            await asyncio.sleep(0.2)

    async def _ask(self, method: str, path: str, body: Any = None, key: str | None = None) -> Answer | None:
        """The answer, if there is one and it is one of ours."""
        headers = self._bearer | ({"Idempotency-Key": key} if key else {})
        try:
            async with self._session.request(
                method, self._url + path, json=body, headers=headers
            ) as response:
                content = await response.read()
        except (ClientError, TimeoutError, OSError):
            return None
        return self._taken(f"{method} {path}", response, content)

    def _taken(self, request: str, response: ClientResponse, content: bytes) -> Answer | None:
        is_problem = response.content_type == "application/problem+json"
        if response.status == 503 and is_problem:
            self.refused += 1
        elif response.status >= 500 or (response.status >= 400 and not is_problem):
            self.odd.append(f"{request}: {response.status} {content[:200]!r}")
            return None
        return Answer(response.status, response.headers, orjson.loads(content))


@asynccontextmanager
async def load(url: str) -> AsyncIterator[Load]:
    """A load that is under way while the body runs."""
    async with ClientSession(timeout=ClientTimeout(total=ANSWER_SECONDS)) as session:
        made = Load(url, session)
        made.task = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            await made.end()
