"""A steady load: orders whose lives are known beforehand, reported at a set pace until told to stop."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from uuid import uuid4

from callers import Caller, eventually

ORDERS_AT_ONCE = 40
"""Under way; each waits for its answer before its next step."""

OPTIONS = {"created": ("picked_up",), "picked_up": ("in_transit",), "in_transit": ("in_transit", "delivered")}
MISHAP = 0.08
"""How likely a step is to be `cancelled`, or one that is not allowed and will be refused."""


@dataclass(frozen=True, slots=True)
class Life:
    """An order, and the statuses that will be reported of it after its creation."""

    order_id: str
    merchant_id: str
    steps: tuple[str, ...]


def random_lives(number: int, merchants: int, random: Random) -> list[Life]:
    """Lives of seven reports or so. Their merchants have names of their own, too."""
    run = uuid4().hex[:8]
    return [
        Life(f"{run}-{index}", f"{run}-m{random.randrange(merchants)}", tuple(_steps(random)))
        for index in range(number)
    ]


def _steps(random: Random) -> Iterator[str]:
    status = "created"
    while status in OPTIONS:
        if random.random() < MISHAP:
            mishap = random.choice(("cancelled", "created", "delivered"))
            yield mishap
            if mishap != "cancelled":
                continue
            return
        status = random.choices(OPTIONS[status], (4, 1)[: len(OPTIONS[status])])[0]
        yield status


class Traffic:
    """Lives under way."""

    def __init__(self, caller: Caller, lives: Sequence[Life], per_second: float) -> None:
        self._caller = caller
        self._lives = iter(lives)
        self._interval = 1 / per_second
        self._next_turn = 0.0
        self._stopped = False

    async def goes_on(self, number: int = 50, *, seconds: float = 60) -> None:
        """Returns when so many more reports have been answered."""
        goal = len(self._caller.acknowledged) + number

        async def reached() -> bool:
            return len(self._caller.acknowledged) >= goal

        await eventually(reached, seconds=seconds)

    async def run(self) -> None:
        """Reports until `stop`, or until all lives are over."""
        async with asyncio.TaskGroup() as group:
            for _ in range(ORDERS_AT_ONCE):
                group.create_task(self._report_lives())

    def stop(self) -> None:
        """No further report is begun."""
        self._stopped = True

    async def _report_lives(self) -> None:
        for life in self._lives:
            for number, status in enumerate(("created", *life.steps)):
                await self._turn()
                if self._stopped:
                    return
                await self._report(life, number, status)

    async def _turn(self) -> None:
        # What an outage held up is not made up for afterwards: the pace stays the same.
        now = asyncio.get_running_loop().time()
        self._next_turn = max(now, self._next_turn + self._interval)
        await asyncio.sleep(self._next_turn - now)

    async def _report(self, life: Life, number: int, status: str) -> None:
        order_id = life.order_id
        if number == 0:
            customer = {"name": f"Name of {order_id}", "contact_ref": "crm-1"}
            path = "/v1/orders"
            body = {"order_id": order_id, "merchant_id": life.merchant_id, "customer": customer}
        else:
            path, body = f"/v1/orders/{order_id}/updates", {"status": status, "metadata": {"step": number}}
        await self._caller.insist(path, body, f"{order_id}.{number}", order_id)


@asynccontextmanager
async def traffic(caller: Caller, lives: Sequence[Life], per_second: float) -> AsyncIterator[Traffic]:
    """Traffic while the body runs. At its end every report that was begun has been answered."""
    load = Traffic(caller, lives, per_second)
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        yield load
        load.stop()
