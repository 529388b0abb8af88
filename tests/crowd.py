"""A crowd: thousands of viewers in one process that come, go, come back with their cursors, and keep records.

Their sockets are the cheap ones of the benchmarks, their view of the orders is that of `tracking_client`.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from random import Random
from typing import Any
from urllib.parse import urlsplit

import orjson
from benchmarks.socket_client import Door, SocketClient

from callers import eventually
from judge import Fault, History, Record, Sighting, faults_of, orders_due
from message_checks import check_server_message
from tracking_client.order_view import Gap, OrderView, ProblemReceived, Snapshot
from tracking_shared.contracts.cursors import Position
from viewers import Viewer

FIRST_WAIT_SECONDS = 0.25
MAX_WAIT_SECONDS = 2.0
"""Between attempts to come back. Shorter than what clients should take: the test waits for the last one."""

CHECKED_SHARE = 100
"""Every so many messages are compared with their description; all of them would take half of a core."""


class Member(SocketClient):
    """One viewer with its connection."""

    def __init__(self, crowd: "Crowd", viewer: Viewer) -> None:
        super().__init__(crowd.door)
        self.viewer = viewer
        self.record = Record()
        self.view = OrderView(dict(viewer.filter), self._told)
        self.again: OrderView | None = None
        """What it is shown when it asks anew, at the end."""
        self.is_live = False
        self._crowd = crowd
        self._ended = asyncio.Event()
        self._staying: asyncio.Task[None] | None = None
        self._failures = 0

    @property
    def is_here(self) -> bool:
        """Whether it wants to be connected."""
        return self._staying is not None

    def come(self) -> None:
        """Connects, with the cursor that it has, and comes back whenever it is cut, until it goes."""
        if self._staying is None:
            self._staying = asyncio.create_task(self._stay())

    def go(self) -> None:
        """Cuts the connection, without a word."""
        if self._staying is not None:
            self._staying.cancel()
            self._staying = None
        self.is_live = False
        self.leave()

    def ask_again(self) -> None:
        """Asks for a snapshot of the same, on the same connection, and from then on reads nothing else."""
        self.again = OrderView(dict(self.viewer.filter), self._told)
        self.is_live = False
        self.send(orjson.dumps({"type": "subscribe"} | self.again.request()))

    def opened(self) -> None:
        token = self._crowd.token_of(self.viewer)
        self.send(orjson.dumps({"type": "subscribe", "token": token} | self.view.request()))

    def received(self, data: bytes, start: int, end: int) -> None:
        message = orjson.loads(data[start:end])
        self._crowd.note(message)
        view = self.again or self.view
        if message["type"] == "events" and not self.again:
            self.record.events += map(self._crowd.sighting, (event["data"] for event in message["events"]))
        view.take(message)
        if message["type"] == "live":
            self.is_live = True
            self._failures = 0
            if self.record.live is None:
                self.record.live = self._crowd.opened(message["cursor"])

    def lost(self, reason: str) -> None:
        self._ended.set()
        if self.is_here:
            self.is_live = False
            self._crowd.ends[reason.partition(":")[0]] += 1

    def _told(self, notice: Snapshot | Gap | ProblemReceived) -> None:
        match notice:
            case Snapshot(reason) if not self.again:
                if reason is not None:
                    self._crowd.resyncs[reason] += 1
                self.record = Record(list(map(self._crowd.sighting, self.view.orders.values())))
            case Gap():
                self._crowd.gaps += 1
            case ProblemReceived(problem):
                self._crowd.problems[problem["type"]] += 1

    async def _stay(self) -> None:
        while True:
            self._ended.clear()
            with suppress(OSError):
                await self.connect()
                await self._ended.wait()
            wait = min(MAX_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**self._failures)
            self._failures += 1
            await asyncio.sleep(wait * self._crowd.random.uniform(0.5, 1))


class Crowd:
    """All viewers, and what befell them. `token`: makes one of its claims. `opened`: what a cursor says."""

    def __init__(
        self,
        url: str,
        viewers: Sequence[Viewer],
        token: Callable[..., str],
        opened: Callable[[str], Position],
        random: Random,
    ) -> None:
        self.opened = opened
        self.random = random
        address = urlsplit(url)
        # Each member says its first words itself: they change with its cursor.
        self.door = Door(address.hostname or "", address.port or 80, address.path, b"")
        self.members = [Member(self, viewer) for viewer in viewers]
        self.ends: Counter[str] = Counter()
        """Why connections ended that nobody here had cut."""
        self.resyncs: Counter[str] = Counter()
        self.problems: Counter[str] = Counter()
        self.gaps = 0
        """That the clients found by themselves."""
        self._messages = count()
        self._sightings: dict[Sighting, Sighting] = {}
        self._tokens = {viewer.name: token(**viewer.claims) for viewer in viewers}

    @property
    def here(self) -> list[Member]:
        """Those who want to be connected."""
        return [member for member in self.members if member.is_here]

    @property
    def delivered(self) -> int:
        """Events, to all together, since the snapshot of each."""
        return sum(len(member.record.events) for member in self.members)

    @property
    def complaints(self) -> list[str]:
        """What nobody should have met with, beside faults in what was delivered."""
        refused = [reason for reason in self.ends if reason.startswith(("closed with 4", "the handshake"))]
        served = {member.viewer.role for member in self.members if member.record.events}
        found = {
            "gaps": self.gaps,
            "resyncs": self.resyncs,
            "problems": self.problems,
            "refused": refused,
            "roles that were sent nothing": {member.viewer.role for member in self.members} - served,
        }
        return [f"{name}: {what}" for name, what in found.items() if what]

    def some_here(self, number: int) -> list[Member]:
        """So many, by chance."""
        return self.random.sample(self.here, number)

    async def all_live(self, *, seconds: float = 40) -> None:
        """Returns when all who are here have caught up."""
        await _until(lambda: sum(not member.is_live for member in self.here), "not live", seconds)

    async def all_move_on(self, *, seconds: float = 40) -> None:
        """Returns when all who are here have caught up, and events go on to come."""
        await self.all_live(seconds=seconds)
        goal = self.delivered + len(self.members)
        await _until(lambda: max(0, goal - self.delivered), "events not delivered", seconds)

    def come(self, members: Iterable[Member]) -> None:
        """They connect, at once."""
        for member in members:
            member.come()

    def go(self, members: Iterable[Member]) -> None:
        """They cut their connections, at once."""
        for member in members:
            member.go()

    async def faults(self, history: History, *, seconds: float = 15) -> list[Fault]:
        """What went wrong; what is still on its way to those who are live gets some seconds to come."""
        waiting = self.members
        deadline = asyncio.get_running_loop().time() + seconds
        while waiting and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.1)  # reads what has come meanwhile
            waiting = [member for member in waiting if any(_losses_of(member, history))]
        return [
            fault for member in self.members for fault in faults_of(member.viewer, member.record, history)
        ]

    async def wrong_lists(self, history: History, *, seconds: float = 60) -> list[str]:
        """Whose orders are not what a fresh question is answered with, or not what they must be.

        Afterwards nobody takes part any more.
        """
        for member in self.here:
            member.ask_again()
        await self.all_live(seconds=seconds)
        return [str(member.viewer) for member in self.members if not _is_right(member, history)]

    def note(self, message: dict[str, Any]) -> None:
        """A message came."""
        if next(self._messages) % CHECKED_SHARE == 0:
            check_server_message(message)

    def sighting(self, order: dict[str, Any]) -> Sighting:
        """An order, or the data of an event. One object for all who see the same: there are millions."""
        sighting = Sighting(order["order_id"], order["version"], "customer" in order)
        return self._sightings.setdefault(sighting, sighting)

    def token_of(self, viewer: Viewer) -> str:
        """A token that is valid for longer than the test takes."""
        return self._tokens[viewer.name]


@contextmanager
def crowd_of(
    url: str,
    viewers: Sequence[Viewer],
    token: Callable[..., str],
    opened: Callable[[str], Position],
    random: Random,
) -> Iterator[Crowd]:
    """A crowd in which nobody has come yet."""
    crowd = Crowd(url, viewers, token, opened, random)
    try:
        yield crowd
    finally:
        crowd.go(crowd.members)


def _losses_of(member: Member, history: History) -> Iterator[Fault]:
    return (fault for fault in faults_of(member.viewer, member.record, history) if fault.kind == "lost")


def _is_right(member: Member, history: History) -> bool:
    versions = {order_id: order["version"] for order_id, order in member.view.orders.items()}
    return (
        member.again is not None
        and member.view.orders == member.again.orders
        and versions == orders_due(member.viewer, history)
    )


async def _until(missing: Callable[[], int], what: str, seconds: float) -> None:
    async def none_missing() -> bool:
        return missing() == 0

    try:
        await eventually(none_missing, seconds=seconds)
    except AssertionError:
        raise AssertionError(f"after {seconds:g} s: {missing()} {what}") from None
