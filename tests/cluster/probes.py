"""Probes: a steady stream of updates for every partition, each sent once, whose answers are timed."""

import asyncio
import time
from collections.abc import Sequence
from itertools import count, cycle
from random import Random
from uuid import uuid4

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from callers import Answer, Caller, acknowledged, token
from cluster.measuring import is_steady
from tracking.upkeep.checker import Acknowledged
from tracking_shared.contracts.identifiers import partition_of

EVERY_SECONDS = 0.5
"""Between two probes of one kind for one partition. A pause shorter than that cannot be seen."""
LARGEST_GAP_SECONDS = 2.0
"""Between good answers for one partition, for the system to count as running."""
ANSWER_SECONDS = 15.0


class Probes:
    """For each partition one order that is in transit for ever."""

    def __init__(self, urls: Sequence[str], partitions: int, random: Random) -> None:
        self._urls = cycle(urls)
        self._random = random
        self._bearer = token()
        self._orders = _orders_of_each(partitions)
        self.accepted: dict[int, list[float]] = {number: [] for number in range(partitions)}
        """When an update was durably accepted (202, or decided at once), by partition."""
        self.decided: dict[int, list[float]] = {number: [] for number in range(partitions)}
        """When one was decided while the caller waited (200)."""
        self.acknowledged: list[Acknowledged] = []
        self._running: set[asyncio.Task[None]] = set()

    async def create(self, caller: Caller) -> None:
        """Creates the orders."""
        for order_id in self._orders:
            customer = {"name": "Ada Lovelace", "contact_ref": "crm-1"}
            body = {"order_id": order_id, "merchant_id": "probes", "customer": customer}
            await caller.insist("/v1/orders", body, f"{order_id}.c", order_id)
            for status in ("picked_up", "in_transit"):
                path = f"/v1/orders/{order_id}/updates"
                await caller.insist(path, {"status": status}, f"{order_id}.{status}", order_id)

    async def run(self) -> None:
        """Sends until it is cancelled; what is under way then is waited for."""
        timeout = ClientTimeout(total=ANSWER_SECONDS)
        async with ClientSession(timeout=timeout, connector=TCPConnector(limit=0)) as session:
            try:
                for number in count():
                    for partition, order_id in enumerate(self._orders):
                        for prefer in ("wait=10", "respond-async"):
                            self._send(
                                session, partition, order_id, f"{order_id}.{prefer[0]}{number}", prefer
                            )
                    await asyncio.sleep(EVERY_SECONDS)
            finally:
                await asyncio.gather(*self._running)

    def is_running(self) -> bool:
        """Whether all partitions accept and decide, steadily."""
        now = time.monotonic()
        return all(
            is_steady(answers, now, largest_gap_seconds=LARGEST_GAP_SECONDS)
            for answers in (self.accepted, self.decided)
        )

    def _send(
        self, session: ClientSession, partition: int, order_id: str, update_id: str, prefer: str
    ) -> None:
        task = asyncio.create_task(self._probe(session, partition, order_id, update_id, prefer))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _probe(
        self, session: ClientSession, partition: int, order_id: str, update_id: str, prefer: str
    ) -> None:
        url = f"{next(self._urls)}/v1/orders/{order_id}/updates"
        headers = {"Authorization": f"Bearer {self._bearer}", "Idempotency-Key": update_id, "Prefer": prefer}
        try:
            async with session.post(url, json={"status": "in_transit"}, headers=headers) as response:
                status, body = response.status, await response.json(content_type=None)
        except (ClientError, TimeoutError, OSError):
            return
        self._note(partition, Answer(status, {}, body), order_id, update_id, prefer)

    def _note(self, partition: int, answer: Answer, order_id: str, update_id: str, prefer: str) -> None:
        if answer.status >= 500:
            return
        assert answer.status < 300, answer
        self.acknowledged.append(acknowledged(answer, order_id, update_id))
        now = time.monotonic()
        if prefer == "respond-async":
            self.accepted[partition].append(now)
        elif answer.status == 200:
            self.decided[partition].append(now)


def _orders_of_each(partitions: int) -> list[str]:
    found: dict[int, str] = {}
    while len(found) < partitions:
        order_id = f"probe-{uuid4().hex[:12]}"
        found.setdefault(partition_of(order_id, partitions), order_id)
    return [found[partition] for partition in range(partitions)]
