"""Readers during a campaign: of the event log, of lists and reports, and of `/readyz`."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import ClientError, ClientSession, ClientTimeout

from callers import token
from tracking.devstack.service_process import ServiceProcess

TIMEOUT = ClientTimeout(total=40)
REST_SECONDS = 0.2
READINESS_SECONDS = 5.0
"""How long an answer to `/readyz` may take: it asks the database for 2 seconds at most."""

LISTS = (
    ("/v1/orders", {"limit": "50"}, "application/json"),
    ("/v1/orders", {"limit": "50", "q": "name"}, "application/json"),
    ("/v1/orders", {"limit": "50", "status": "in_transit"}, "application/json"),
    ("/v1/orders", {}, "application/x-ndjson"),
    ("/v1/reports/open-orders", {}, "application/json"),
    ("/v1/reports/open-counts", {}, "application/json"),
    ("/v1/reports/status-counts", {}, "application/json"),
)
"""Path, parameters and form of what is read in turn."""


@dataclass(slots=True)
class LogReader:
    """Follows the event log from its beginning, page by page."""

    url: str
    read: list[tuple[int, int]] = field(default_factory=list)
    """Partition and seq of each event, as they came."""
    answers: Counter[int] = field(default_factory=Counter)
    _cursor: str | None = None

    async def run(self, session: ClientSession) -> None:
        """Until cancelled."""
        while True:
            await self.page(session)
            await asyncio.sleep(REST_SECONDS)

    async def page(self, session: ClientSession) -> int:
        """Reads the next page; how many events were on it."""
        parameters = {"limit": "200", "wait": "1"} | ({"after": self._cursor} if self._cursor else {})
        status, body = await _get(session, f"{self.url}/v1/events", parameters)
        self.answers[status] += 1
        if status != 200:
            assert status in (0, 503), (status, body)
            return 0
        page = orjson.loads(body)
        events = page["events"]
        self.read += [(event["partition"], int(event["sequence"])) for event in events]
        self._cursor = page["cursor"]
        return len(events)

    async def finish(self, session: ClientSession, seqs: Mapping[int, int]) -> list[str]:
        """Reads to the end of the log; what was lost, repeated or reordered."""
        deadline = time.monotonic() + 20
        while len(self.read) < sum(seqs.values()) and time.monotonic() < deadline:
            await self.page(session)
        return [
            f"a reader of the log got {len(found)} of {end} events of partition {partition}, or not in order"
            for partition, end in seqs.items()
            if (found := [seq for number, seq in self.read if number == partition]) != list(range(1, end + 1))
        ]


@dataclass(slots=True)
class ListReader:
    """Reads lists, searches and whole exports, and looks at the order that was read before."""

    url: str
    answers: Counter[int] = field(default_factory=Counter)
    broken: int = 0
    """Exports that ended before their end, which a client sees."""

    async def run(self, session: ClientSession) -> None:
        """Until cancelled."""
        while True:
            for path, parameters, accept in LISTS:
                status, body = await _get(session, self.url + path, parameters, accept)
                self.answers[status] += 1
                assert status in (0, 200, 503), (path, status, body[:300])
                await asyncio.sleep(REST_SECONDS)


@dataclass(slots=True)
class Readiness:
    """Asks every service whether it is ready."""

    services: Sequence[ServiceProcess]
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    slowest: float = 0.0

    async def run(self, session: ClientSession) -> None:
        """Until cancelled."""
        while True:
            await asyncio.gather(*(self._ask(session, service) for service in self.services))
            await asyncio.sleep(REST_SECONDS)

    async def _ask(self, session: ClientSession, service: ServiceProcess) -> None:
        began = time.monotonic()
        status, _ = await _get(session, f"{service.url}/readyz", {})
        self.answers[service.name, status] += 1
        self.slowest = max(self.slowest, time.monotonic() - began)

    def faults(self) -> list[str]:
        """What should not have been answered."""
        strange = [
            f"/readyz of {name}: {status}" for name, status in self.answers if status not in (200, 503)
        ]
        if self.slowest > READINESS_SECONDS:
            strange.append(f"/readyz took {self.slowest:.1f} s")
        return strange


async def _get(
    session: ClientSession, url: str, parameters: dict[str, str], accept: str = "application/json"
) -> tuple[int, bytes]:
    """Status and body; 0 where the connection broke."""
    headers = {"Authorization": f"Bearer {token()}", "Accept": accept}
    try:
        async with session.get(url, params=parameters, headers=headers) as response:
            return response.status, await response.read()
    except (ClientError, TimeoutError):
        return 0, b""


def new_session() -> ClientSession:
    """For all readers."""
    return ClientSession(timeout=TIMEOUT)


def counted(answers: Counter[Any]) -> str:
    """In words."""
    return ", ".join(f"{key}: {number}" for key, number in sorted(answers.items()))
