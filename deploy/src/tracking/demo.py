"""The demonstration: sends the requests of a simulated fleet to a stack, and shows the live events."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from json import dumps
from random import Random
from secrets import token_hex
from typing import Any, Protocol

from aiohttp import ClientConnectionError, ClientPayloadError, ClientSession, ClientTimeout
from rich.console import Console, Group
from rich.live import Live
from rich.rule import Rule
from rich.text import Text
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay
from tenacity.wait import wait_random_exponential

from tracking.devstack.tokens import SourceType, mint_token
from tracking.fleet import MERCHANTS, Plan, Sender, Step, plan_order
from tracking.tasks import first_of
from tracking.terminal import event_line, refusal_line
from tracking_client.live_orders import LiveOrders
from tracking_shared.contracts.identifiers import new_update_id
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

MAX_OPEN_ORDERS = 5_000
"""Bounds the orders that wait for a stalled stack. An order takes about half a minute."""

GIVE_UP_SECONDS = 60
TOKEN_SECONDS = 24 * 3600
EVERY_STATUS = {"status": sorted(DEFAULT_WORKFLOW.statuses)}
"""Without a filter, a stream has the events of open orders: no proof that follows a delivery."""
OPERATOR_SCOPE = "orders:write orders:read orders:correct"

NEWEST_LINES = 14
REFRESH_SECONDS = 0.25

_TIMEOUT = ClientTimeout(total=15)


class _Retry(Exception):
    """The request may or may not have taken effect; with the same key it is safe to repeat."""


@dataclass(slots=True)
class Totals:
    """The numbers of the fleet so far."""

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
        self.created += data["version"] == 1
        for status, change in ((data["previous_status"], -1), (data["status"], 1)):
            self.delivered += change * (status == "delivered")
            self.cancelled += change * (status == "cancelled")

    def line(self) -> str:
        """All numbers in one line."""
        return (
            f"created {self.created:,}  on the way {self.created - self.delivered - self.cancelled:,}"
            f"  delivered {self.delivered:,}  cancelled {self.cancelled:,}"
            f"  refused {self.refused:,}  repeats {self.repeated:,}"
            + (f"  gave up {self.gave_up:,}" if self.gave_up else "")
        )


class Screen(Protocol):
    """Shows events and refusals, and holds the totals."""

    totals: Totals

    def show(self, line: Text) -> None: ...


@dataclass(slots=True)
class Demo:
    """A fleet that works on one stack. `document` is the ready file of the stack."""

    document: dict[str, Any]
    orders_per_second: float
    screen: Screen
    random: Random = field(default_factory=Random)
    tokens: dict[Sender, str] = field(default_factory=dict)

    async def run(self) -> None:
        """Sends the requests of the fleet and shows its events until cancelled."""
        async with ClientSession(self.document["ingest"], timeout=_TIMEOUT) as session:
            await first_of(self._send_orders(session), self._show_events())

    async def _send_orders(self, session: ClientSession) -> None:
        open_orders = asyncio.Semaphore(MAX_OPEN_ORDERS)
        async with asyncio.TaskGroup() as group:
            while True:
                await open_orders.acquire()
                order = group.create_task(self._send_steps(session, plan_order(self.random)))
                order.add_done_callback(lambda _: open_orders.release())
                await asyncio.sleep(self.random.expovariate(self.orders_per_second))

    async def _send_steps(self, session: ClientSession, plan: Plan) -> None:
        for step in plan.steps:
            await asyncio.sleep(step.wait_seconds)
            request = _Request.of(plan, step, self._token(step.sender))
            try:
                for _ in range(2 if step.repeated else 1):
                    await self._send(session, plan, request)
            except _Retry:
                self.screen.totals.gave_up += 1
                return

    async def _send(self, session: ClientSession, plan: Plan, request: "_Request") -> None:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(_Retry),
            wait=wait_random_exponential(multiplier=0.2, max=5),
            stop=stop_after_delay(GIVE_UP_SECONDS),
            reraise=True,
        ):
            with attempt:
                replayed, problem = await request.post(session)
                if replayed:
                    self.screen.totals.repeated += 1
                elif problem:
                    self.screen.totals.refused += 1
                    name = plan.reference or plan.order_id
                    self.screen.show(refusal_line(datetime.now().astimezone(), name, problem))

    async def _show_events(self) -> None:
        token = _token(self.document, "demo", "operator", "orders:read", ["*"])
        live = LiveOrders(self.document["notifier"], token, EVERY_STATUS, snapshot=False)
        async for event in live.events():
            self.screen.totals.count_event(event["data"])
            self.screen.show(event_line(event))

    def _token(self, sender: Sender) -> str:
        if sender not in self.tokens:
            scope = "orders:write orders:correct" if sender.source_type == "operator" else "orders:write"
            self.tokens[sender] = _token(
                self.document, sender.subject, sender.source_type, scope, [sender.merchant]
            )
        return self.tokens[sender]


@dataclass(frozen=True, slots=True)
class _Request:
    """One request, identical each time it is sent."""

    path: str
    body: dict[str, Any]
    headers: dict[str, str]

    @classmethod
    def of(cls, plan: Plan, step: Step, token: str) -> "_Request":
        occurred = datetime.now(UTC) - timedelta(seconds=step.late_seconds)
        body: dict[str, Any] = {"occurred_at": occurred.isoformat(), "metadata": step.metadata}
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": new_update_id()}
        if step.kind is not None:
            details = {"kind": step.kind} | ({"message": step.message} if step.message else {})
            if step.eta_seconds is not None:
                details["eta"] = (occurred + timedelta(seconds=step.eta_seconds)).isoformat()
            return cls(f"/v1/orders/{plan.order_id}/checkpoints", body | details, headers)
        if step.reason is not None:
            details = {"status": str(step.status), "reason": step.reason}
            return cls(f"/v1/orders/{plan.order_id}/corrections", body | details, headers)
        if step.status is None:
            named = {"reference": plan.reference} if plan.reference else {"order_id": plan.order_id}
            body |= named | {"merchant_id": plan.merchant, "customer": plan.customer}
            if plan.due_seconds is not None:
                body["due_at"] = (occurred + timedelta(seconds=plan.due_seconds)).isoformat()
            return cls("/v1/orders", body, headers)
        return cls(f"/v1/orders/{plan.order_id}/updates", body | {"status": step.status}, headers)

    async def post(self, session: ClientSession) -> tuple[bool, dict[str, Any] | None]:
        """Sends it. Returns a flag for a replayed answer, and the problem document of a refusal.

        Raises:
            _Retry: there is no answer, or the answer asks for a retry.
        """
        try:
            async with session.post(self.path, json=self.body, headers=self.headers) as response:
                if response.status in (202, 429, 500, 503):
                    raise _Retry
                replayed = response.headers.get("Idempotent-Replayed") == "true"
                if response.status < 300:
                    return replayed, None
                return replayed, await response.json(content_type=None)
        except (ClientConnectionError, ClientPayloadError, TimeoutError) as error:
            raise _Retry from error


class LiveScreen:
    """The newest lines and the totals: redrawn in place on a terminal, printed line by line elsewhere."""

    def __init__(self, console: Console) -> None:
        self.totals = Totals()
        self._console = console
        self._lines: deque[Text] = deque(maxlen=NEWEST_LINES)

    def show(self, line: Text) -> None:
        """Shows one line."""
        if self._console.is_terminal:
            self._lines.append(line)
        else:
            self._console.print(line, soft_wrap=True)

    async def run(self) -> None:
        """Redraws the screen until cancelled, and leaves the totals."""
        try:
            await self._refresh()
        finally:
            if not self._console.is_terminal:
                self._console.print(self.totals.line())

    async def _refresh(self) -> None:
        if not self._console.is_terminal:
            await asyncio.Event().wait()
        with Live(self._render(), console=self._console, auto_refresh=False) as live:
            while True:
                await asyncio.sleep(REFRESH_SECONDS)
                live.update(self._render(), refresh=True)

    def _render(self) -> Group:
        for line in self._lines:
            line.no_wrap, line.overflow = True, "ellipsis"
        totals = Text(self.totals.line(), "bold")
        return Group(Rule("live"), *self._lines, Rule(), totals, Text("Ctrl-C stops", "dim"))


def print_introduction(console: Console, document: dict[str, Any]) -> None:
    """Prints addresses, tokens, and commands to paste into another terminal."""
    merchant, order_id = MERCHANTS[0], f"mine-{token_hex(3)}"
    merchant_token = _token(document, "demo-merchant", "operator", "orders:write orders:read", [merchant])
    operator_token = _token(document, "demo-operator", "operator", OPERATOR_SCOPE, ["*"])
    customer_token = _token(document, "demo-customer", "customer", "orders:read", [], orders=[order_id])
    body = {
        "order_id": order_id,
        "merchant_id": merchant,
        "customer": {"name": "Ada Abel", "contact_ref": "crm-1"},
    }
    ingest, query = document["ingest"], document["query"]
    as_merchant = '-H "Authorization: Bearer $MERCHANT_TOKEN"'
    as_operator = '-H "Authorization: Bearer $OPERATOR_TOKEN"'
    lines = [
        "",
        f"ingest       {ingest}",
        f"query        {query}",
        f"live stream  {document['notifier']}",
        "",
        f"# tokens for a day: merchant {merchant}, and an operator who sees everything",
        f"export MERCHANT_TOKEN={merchant_token}",
        f"export OPERATOR_TOKEN={operator_token}",
        "",
        "# create an order of your own, look at it, list what is on the way",
        f"curl -s {ingest}/v1/orders {as_merchant} -H 'Content-Type: application/json' -d '{dumps(body)}'",
        f"curl -s {query}/v1/orders/{order_id} {as_merchant}",
        f"curl -s '{query}/v1/orders?active=true&limit=5' {as_operator}",
        "",
        "# the page that its customer gets",
        f"{document['console']}track.html#order={order_id}&token={customer_token}",
        "",
    ]
    for line in lines:
        console.print(Text(line), soft_wrap=True)
    console.print(Text.assemble(("console      ", "bold"), (document["console"], "bold underline")))
    console.print()


def _token(
    document: dict[str, Any],
    subject: str,
    source_type: SourceType,
    scope: str,
    merchants: list[str],
    *,
    orders: list[str] | None = None,
) -> str:
    return mint_token(
        document["jwt_secret"],
        subject=subject,
        source_type=source_type,
        scope=scope,
        merchants=merchants,
        orders=orders,
        ttl_seconds=TOKEN_SECONDS,
    )
