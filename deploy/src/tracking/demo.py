"""The demonstration: drives a simulated fleet against a running stack and shows what happens."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Protocol

from aiohttp import ClientConnectionError, ClientPayloadError, ClientSession, ClientTimeout
from rich.text import Text
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay
from tenacity.wait import wait_random_exponential

from shared.identifiers import new_update_id
from tracking.event_lines import event_line, refusal_line
from tracking.fleet import Plan, Sender, Step, plan_order
from tracking.live import LiveOrders
from tracking.supervisor import first_of
from tracking.tokens import mint_token

MAX_OPEN_ORDERS = 5_000
"""An order lives for about half a minute, so this bounds what a stalled stack piles up."""

GIVE_UP_SECONDS = 60
TOKEN_SECONDS = 24 * 3600

_TIMEOUT = ClientTimeout(total=15)


class _TryAgain(Exception):
    """The call may or may not have been taken; with the same key it is safe to repeat."""


@dataclass(slots=True)
class Tally:
    """What the fleet has done so far."""

    created: int = 0
    events: int = 0
    delivered: int = 0
    cancelled: int = 0
    refused: int = 0
    repeated: int = 0
    gave_up: int = 0

    def count_event(self, data: dict[str, Any]) -> None:
        """Counts a live event."""
        self.events += 1
        if data["version"] == 1:
            self.created += 1
        elif data["status"] == "delivered":
            self.delivered += 1
        elif data["status"] == "cancelled":
            self.cancelled += 1

    def line(self) -> str:
        """All of it in one line."""
        return (
            f"created {self.created:,}  on the way {self.created - self.delivered - self.cancelled:,}"
            f"  delivered {self.delivered:,}  cancelled {self.cancelled:,}"
            f"  refused {self.refused:,}  repeats {self.repeated:,}"
            + (f"  gave up {self.gave_up:,}" if self.gave_up else "")
        )


class Onlooker(Protocol):
    """Who is shown what happens."""

    tally: Tally

    def show(self, line: Text) -> None: ...


@dataclass(slots=True)
class Demo:
    """A fleet at work on one stack. `document` is what its ready file says."""

    document: dict[str, Any]
    orders_per_second: float
    onlooker: Onlooker
    random: Random = field(default_factory=Random)
    tokens: dict[Sender, str] = field(default_factory=dict)

    async def run(self) -> None:
        """Drives the fleet and shows its events until cancelled."""
        async with ClientSession(self.document["ingest"], timeout=_TIMEOUT) as session:
            await first_of(self._drive(session), self._watch())

    async def _drive(self, session: ClientSession) -> None:
        open_orders = asyncio.Semaphore(MAX_OPEN_ORDERS)
        async with asyncio.TaskGroup() as group:
            while True:
                await open_orders.acquire()
                order = group.create_task(self._live(session, plan_order(self.random)))
                order.add_done_callback(lambda _: open_orders.release())
                await asyncio.sleep(self.random.expovariate(self.orders_per_second))

    async def _live(self, session: ClientSession, plan: Plan) -> None:
        for step in plan.steps:
            await asyncio.sleep(step.wait_seconds)
            call = _Call.of(plan, step, self._token(step.sender))
            try:
                for _ in range(2 if step.repeated else 1):
                    await self._send(session, plan, call)
            except _TryAgain:
                self.onlooker.tally.gave_up += 1
                return

    async def _send(self, session: ClientSession, plan: Plan, call: "_Call") -> None:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(_TryAgain),
            wait=wait_random_exponential(multiplier=0.2, max=5),
            stop=stop_after_delay(GIVE_UP_SECONDS),
            reraise=True,
        ):
            with attempt:
                replayed, problem = await call.post(session)
                if replayed:
                    self.onlooker.tally.repeated += 1
                elif problem:
                    self.onlooker.tally.refused += 1
                    self.onlooker.show(refusal_line(datetime.now().astimezone(), plan.order_id, problem))

    async def _watch(self) -> None:
        token = mint_token(
            self.document["jwt_secret"],
            subject="demo",
            source_type="operator",
            scope="orders:read",
            merchants=["*"],
            ttl_seconds=TOKEN_SECONDS,
        )
        async for event in LiveOrders(self.document["notifier"], token, snapshot=False).events():
            self.onlooker.tally.count_event(event["data"])
            self.onlooker.show(event_line(event))

    def _token(self, sender: Sender) -> str:
        if sender not in self.tokens:
            self.tokens[sender] = mint_token(
                self.document["jwt_secret"],
                subject=sender.subject,
                source_type=sender.source_type,
                scope="orders:write",
                merchants=[sender.merchant],
                ttl_seconds=TOKEN_SECONDS,
            )
        return self.tokens[sender]


@dataclass(frozen=True, slots=True)
class _Call:
    """One request, the same bytes each time it is sent."""

    path: str
    body: dict[str, Any]
    headers: dict[str, str]

    @classmethod
    def of(cls, plan: Plan, step: Step, token: str) -> "_Call":
        happened = datetime.now(UTC) - timedelta(seconds=step.late_seconds)
        body: dict[str, Any] = {"occurred_at": happened.isoformat(), "metadata": step.metadata}
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": new_update_id()}
        if step.status is None:
            body |= {"order_id": plan.order_id, "merchant_id": plan.merchant, "customer": plan.customer}
            return cls("/v1/orders", body, headers)
        return cls(f"/v1/orders/{plan.order_id}/updates", body | {"status": step.status}, headers)

    async def post(self, session: ClientSession) -> tuple[bool, dict[str, Any] | None]:
        """Whether the answer is a repeated one, and the problem if it is a refusal.

        Raises:
            _TryAgain: no answer, or one that says to come again.
        """
        try:
            async with session.post(self.path, json=self.body, headers=self.headers) as response:
                if response.status in (202, 429, 500, 503):
                    raise _TryAgain
                replayed = response.headers.get("Idempotent-Replayed") == "true"
                if response.status < 300:
                    return replayed, None
                return replayed, await response.json(content_type=None)
        except (ClientConnectionError, ClientPayloadError, TimeoutError) as error:
            raise _TryAgain from error
