"""The reconnect storm: thousands of dashboards come back at once, with a cursor, and ten events to get."""

import asyncio
import random
import re
import resource
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from secrets import token_hex
from time import perf_counter

import orjson

from benchmarks.crowd import LIVE_HEAD, door_of, open_crowd, subscribe_request
from benchmarks.fan_out import open_peer_feed
from benchmarks.http_client import connect_http
from benchmarks.load import BenchmarkFailed, Result, Run, Site, summary_ms
from benchmarks.socket_client import Door, SocketClient
from benchmarks.workload import Step
from tracking_shared.contracts.timestamps import format_time, now

MISSED = 1000
EACH = 10
MERCHANTS = MISSED // EACH

OTHER_FILES = 300
"""That a process with thousands of sockets may have open beside them."""

CATCH_UP_SECONDS = 60
"""A client that is not back by then is counted as missing."""

FIRST_WAIT_SECONDS = 0.25
MAX_WAIT_SECONDS = 10.0

_SUBJECT = re.compile(rb'"subject":"([^"]+)"')


async def storm(site: Site, wanted: int) -> AsyncIterator[Run]:
    """Until every client is live again at the notifier, or has got a ready-made message from the peer.

    The limit on open files bounds the clients, here and in the server, which inherits it.
    """
    run_id, time = token_hex(4), format_time(now())
    clients = min(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OTHER_FILES)
    orders = [Step(f"{run_id}-{n}", f"storm-{run_id}-{n % MERCHANTS}", 1, time) for n in range(MISSED)]
    async with open_crowd(replace(site, peer_port=0), 1) as crowd:
        cursor = crowd.cursor
        await (await connect_http(site.ingest, site.token())).send_batch(orders)
        await crowd.saw(MISSED, timeout=CATCH_UP_SECONDS)
    if site.peer_port:
        await _give_to_peer(site, crowd.witnessed())
    returners = []
    for number in range(clients):
        token = site.token(f"dashboard-{number}", "orders:read", f"storm-{run_id}-{number % MERCHANTS}")
        door = door_of(site, subscribe_request(token, after=cursor))
        returners.append(Returner(door, waits_for_live=not site.peer_port))

    async def run() -> Result:
        start = perf_counter()
        with suppress(TimeoutError):
            async with asyncio.timeout(CATCH_UP_SECONDS):
                await asyncio.gather(*(returner.come_back() for returner in returners))
        if not site.peer_port:
            _check(returners, run_id)
        times = [(returner.caught_up_at or perf_counter()) - start for returner in returners]
        missing = sum(not returner.caught_up_at for returner in returners)
        counts = {"clients": clients, "clients_wanted": wanted, "clients_missing": missing}
        retries = sum(returner.attempts - 1 for returner in returners)  # of those that were sent away
        work = {"deliveries": clients * EACH, "retries": retries, "seconds": max(times)}
        return {**counts, **work, **summary_ms(times)}

    yield run
    for returner in returners:
        returner.leave()


async def _give_to_peer(site: Site, messages: list[bytes]) -> None:
    """Gives the peer one message of ten events, and checks that it has it."""
    events = [event for message in messages for event in orjson.loads(message)["events"]][:EACH]
    cursor = orjson.loads(messages[-1])["cursor"]
    async with open_crowd(site, 1) as crowd, open_peer_feed(site) as writer:
        writer.write(orjson.dumps({"type": "events", "events": events, "cursor": cursor}) + b"\n")
        await crowd.saw(EACH, timeout=CATCH_UP_SECONDS)


class Returner(SocketClient):
    """A client that comes back, and tries again as clients should where it is sent away."""

    def __init__(self, door: Door, *, waits_for_live: bool) -> None:
        super().__init__(door)
        self.attempts = 0
        self.caught_up_at = 0.0
        """`perf_counter`."""
        self.order_ids: list[str] = []
        """Of the events, in their order."""
        self._waits_for_live = waits_for_live
        self._ended = asyncio.Event()

    async def come_back(self) -> None:
        """Returns when nothing is missing any more."""
        wait = FIRST_WAIT_SECONDS
        while True:
            self.attempts += 1
            self.order_ids.clear()
            self._ended.clear()
            with suppress(OSError):
                await self.connect()
                await self._ended.wait()
            if self.caught_up_at:
                return
            await asyncio.sleep(wait * random.uniform(0.5, 1))
            wait = min(wait * 2, MAX_WAIT_SECONDS)

    def received(self, data: bytes, start: int, end: int) -> None:
        message = data[start:end]
        self.order_ids += [subject.decode() for subject in _SUBJECT.findall(message)]
        if message.startswith(LIVE_HEAD) or not self._waits_for_live:
            self.caught_up_at = perf_counter()
            self._ended.set()

    def lost(self, reason: str) -> None:
        self._ended.set()


def _check(returners: list[Returner], run_id: str) -> None:
    """Fails unless each one that is back got its merchant's events, once and no others."""
    for index, returner in enumerate(returners):
        expected = {f"{run_id}-{number}" for number in range(index % MERCHANTS, MISSED, MERCHANTS)}
        got = returner.order_ids
        if returner.caught_up_at and (len(got) != EACH or set(got) != expected):
            raise BenchmarkFailed(f"a client that came back got {sorted(got)[:20]}")
