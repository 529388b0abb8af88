"""The reconnect storm: thousands of dashboards come back at once, with a cursor, and ten events to get."""

import asyncio
import random
import re
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from secrets import token_hex
from time import perf_counter
from typing import Any

import orjson

from benchmarks.crowd import Crowd
from benchmarks.feeds import open_peer_feed
from benchmarks.frames import TEXT, client_frame
from benchmarks.http_client import connect_ingest
from benchmarks.load_process import Result, Run, WrongResult, serve_load
from benchmarks.measurement import Measurement
from benchmarks.percentiles import summary_ms
from benchmarks.socket_client import LIVE_HEAD, Door, SocketClient, notifier_door, subscribe_request
from benchmarks.stack_under_test import StackUnderTest
from benchmarks.workload import Step, operation_of
from benchmarks.ws_peer import start_peer
from shared.timestamps import format_time, now

CLIENTS = 5000
MISSED = 1000
EACH = 10
MERCHANTS = MISSED // EACH
BATCH = 500

OTHER_FILES = 300
"""That a process with thousands of sockets may have open beside them."""

PLANNED_SECONDS = 20.0
CATCH_UP_SECONDS = 60
"""Who is not back by then is counted as missing."""

FIRST_WAIT_SECONDS = 0.25
MAX_WAIT_SECONDS = 10.0

_SUBJECT = re.compile(rb'"subject":"([^"]+)"')


@dataclass(frozen=True)
class Parameters:
    """What the load process is told. Without a peer, the notifier is meant."""

    ingest_url: str
    notifier_url: str
    token: str
    run_id: str
    tokens: list[str]
    """One for each client, each for one of the merchants, in turn."""
    peer_port: int = 0
    peer_feed_port: int = 0


def affordable_clients() -> int:
    """As many of them as the limit on open files allows, here and in the server, which inherits it."""
    return min(CLIENTS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OTHER_FILES)


async def measure(stack: StackUnderTest) -> Measurement:
    """Until every client of the notifier is live again. The notifier remembers what they missed."""
    wanted = asdict(_parameters(stack))
    async with stack.profile("storm", PLANNED_SECONDS):
        measured = await stack.measure("storm", __name__, wanted, PLANNED_SECONDS)
    return measured.with_cost_of("notifier", "clients")


async def measure_after_restart(stack: StackUnderTest) -> Measurement:
    """The same where the notifier was started anew, and has to read from the log what they missed."""
    wanted = asdict(_parameters(stack))
    measured = await stack.measure(
        "storm-restart", __name__, wanted, PLANNED_SECONDS, prelude=stack.restart_notifier
    )
    return measured.with_cost_of("notifier", "clients")


async def measure_peer(stack: StackUnderTest) -> Measurement:
    """Until every client of the peer has got a message of ten events, which is there ready-made."""
    async with start_peer() as peer:
        ports = {"peer_port": peer.port, "peer_feed_port": peer.feed_port}
        wanted = asdict(_parameters(stack)) | ports
        measured = await stack.measure("ws-storm", __name__, wanted, PLANNED_SECONDS, others={"ws": peer.pid})
    return measured.with_cost_of("ws", "clients")


def _parameters(stack: StackUnderTest) -> Parameters:
    run_id = token_hex(4)
    merchants = [_merchant(run_id, number) for number in range(MERCHANTS)]
    tokens = stack.reader_tokens(merchants, affordable_clients())
    return Parameters(stack.ingest_url, stack.notifier_url, stack.token(), run_id, tokens)


def _merchant(run_id: str, number: int) -> str:
    return f"storm-{run_id}-{number}"


@asynccontextmanager
async def prepare(parameters: dict[str, Any]) -> AsyncIterator[Run]:
    """Lets everything be missed, so that the clients have only to come."""
    wanted = Parameters(**parameters)
    crowd = Crowd(notifier_door(wanted.notifier_url, subscribe_request(wanted.token)), waits_for_live=True)
    await crowd.gather(1)
    cursor = crowd.cursor
    await _send_orders(wanted)
    await crowd.saw(MISSED, timeout=CATCH_UP_SECONDS)
    crowd.leave()
    returners = [
        Returner(_door(wanted, token, cursor), waits_for_live=not wanted.peer_port) for token in wanted.tokens
    ]
    if wanted.peer_port:
        await _give_to_peer(wanted, crowd.witnessed())

    async def run() -> Result:
        return await _run(returners, wanted)

    yield run
    for returner in returners:
        returner.leave()


async def _send_orders(wanted: Parameters) -> None:
    time = format_time(now())
    steps = [
        Step(f"{wanted.run_id}-{number}", _merchant(wanted.run_id, number % MERCHANTS), 1, time)
        for number in range(MISSED)
    ]
    client = await connect_ingest(wanted.ingest_url, wanted.token)
    for first in range(0, MISSED, BATCH):
        batch = steps[first : first + BATCH]
        await client.send_batch(batch, [operation_of(step) for step in batch])
    client.close()


async def _give_to_peer(wanted: Parameters, messages: list[bytes]) -> None:
    """Hands the peer one message of ten events, and sees that it has it."""
    events = [event for message in messages for event in orjson.loads(message)["events"]][:EACH]
    cursor = orjson.loads(messages[-1])["cursor"]
    crowd = Crowd(Door("127.0.0.1", wanted.peer_port, "/", b""), waits_for_live=False)
    await crowd.gather(1)
    async with open_peer_feed(wanted.peer_feed_port) as writer:
        writer.write(orjson.dumps({"type": "events", "events": events, "cursor": cursor}) + b"\n")
        await crowd.saw(EACH, timeout=CATCH_UP_SECONDS)
    crowd.leave()


def _door(wanted: Parameters, token: str, cursor: str) -> Door:
    request = subscribe_request(token, after=cursor)
    if wanted.peer_port:
        return Door("127.0.0.1", wanted.peer_port, "/", client_frame(TEXT, request))
    return notifier_door(wanted.notifier_url, request)


class Returner(SocketClient):
    """One that comes back, and tries again as clients should where it is sent away."""

    def __init__(self, door: Door, *, waits_for_live: bool) -> None:
        super().__init__(door)
        self.attempts = 0
        self.caught_up_at = 0.0
        """`perf_counter`."""
        self.order_ids: list[str] = []
        """Of the events, in their order."""
        self._waits_for_live = waits_for_live
        self._caught_up: asyncio.Future[None] | None = None

    async def come_back(self) -> None:
        """Returns when nothing is missing any more."""
        wait = FIRST_WAIT_SECONDS
        while not self.caught_up_at:
            self.attempts += 1
            self.order_ids.clear()
            self._caught_up = asyncio.get_running_loop().create_future()
            try:
                await self.connect()
                await self._caught_up
            except OSError:
                await asyncio.sleep(wait * random.uniform(0.5, 1))
                wait = min(wait * 2, MAX_WAIT_SECONDS)

    def received(self, data: bytes, start: int, end: int) -> None:
        message = data[start:end]
        self.order_ids += [subject.decode() for subject in _SUBJECT.findall(message)]
        if message.startswith(LIVE_HEAD) or not self._waits_for_live:
            self.caught_up_at = perf_counter()
            self._settle(None)

    def lost(self, reason: str) -> None:
        self._settle(ConnectionError(reason))

    def _settle(self, error: ConnectionError | None) -> None:
        if self._caught_up is None or self._caught_up.done():
            return
        if error is None:
            self._caught_up.set_result(None)
        else:
            self._caught_up.set_exception(error)


async def _run(returners: list[Returner], wanted: Parameters) -> Result:
    start = perf_counter()
    with suppress(TimeoutError):
        async with asyncio.timeout(CATCH_UP_SECONDS):
            await asyncio.gather(*(returner.come_back() for returner in returners))
    if not wanted.peer_port:
        _check(returners, wanted.run_id)
    times = [(returner.caught_up_at or perf_counter()) - start for returner in returners]
    return {
        "clients": len(returners),
        "clients_wanted": CLIENTS,
        "clients_missing": sum(not returner.caught_up_at for returner in returners),
        "deliveries": len(returners) * EACH,
        "seconds": max(times),
        "retries": sum(returner.attempts - 1 for returner in returners),
        **summary_ms(times),
    }


def _check(returners: list[Returner], run_id: str) -> None:
    """Raises `WrongResult` unless each one that is back got its merchant's events, once and no others."""
    for index, returner in enumerate(returners):
        if not returner.caught_up_at:
            continue
        expected = {f"{run_id}-{number}" for number in range(index % MERCHANTS, MISSED, MERCHANTS)}
        if len(returner.order_ids) != EACH or set(returner.order_ids) != expected:
            raise WrongResult(f"a client that came back got {sorted(returner.order_ids)[:20]}")


if __name__ == "__main__":
    serve_load(prepare)
