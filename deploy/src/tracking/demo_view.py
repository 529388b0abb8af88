"""What a person sees of the demonstration: where everything is, then the newest lines and the totals."""

import asyncio
from collections import deque
from json import dumps
from secrets import token_hex
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.rule import Rule
from rich.text import Text

from tracking.demo import Tally
from tracking.fleet import MERCHANTS
from tracking.tokens import mint_token

NEWEST_LINES = 14
REFRESH_SECONDS = 0.25
TOKEN_SECONDS = 24 * 3600


class Board:
    """Lines and totals: redrawn in place on a terminal, simply printed anywhere else."""

    def __init__(self, console: Console) -> None:
        self.tally = Tally()
        self._console = console
        self._lines: deque[Text] = deque(maxlen=NEWEST_LINES)

    def show(self, line: Text) -> None:
        """Shows one line of what happens."""
        if self._console.is_terminal:
            self._lines.append(line)
        else:
            self._console.print(line, soft_wrap=True)

    async def run(self) -> None:
        """Keeps the board fresh until cancelled; then the totals stay."""
        try:
            await self._refresh()
        finally:
            if not self._console.is_terminal:
                self._console.print(self.tally.line())

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
        totals = Text(self.tally.line(), "bold")
        return Group(Rule("live"), *self._lines, Rule(), totals, Text("Ctrl-C stops", "dim"))


def print_introduction(console: Console, document: dict[str, Any]) -> None:
    """The addresses and tokens that a person needs, and lines to paste into another terminal."""
    merchant, order_id = MERCHANTS[0], f"mine-{token_hex(3)}"
    merchant_token = _token(document, "demo-merchant", "orders:write orders:read", [merchant])
    operator_token = _token(document, "demo-operator", "orders:write orders:read", ["*"])
    customer_token = _token(document, "demo-customer", "orders:read", [], orders=[order_id])
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
    scope: str,
    merchants: list[str],
    orders: list[str] | None = None,
) -> str:
    return mint_token(
        document["jwt_secret"],
        subject=subject,
        source_type="customer" if orders else "operator",
        scope=scope,
        merchants=merchants,
        orders=orders,
        ttl_seconds=TOKEN_SECONDS,
    )
