"""What befalls the set as a whole during a campaign: drawn from a seed, one thing after the other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

from replica_set.proxy import ReplicaSet

PAUSE_SECONDS = (0.5, 2.0)
ELECTION_SECONDS = (0.2, 4.0)
ISOLATED_SECONDS = (0.5, 4.0)
STALE_SECONDS = (0.2, 1.5)
KINDS = {"step-down": 4, "crash": 2, "isolation": 2}
STALE_SHARE = 0.5
"""Of the changes of the primary: the new one does not know the newest commits for a moment."""


class Trouble:
    """Goes from one change of the primary to the next."""

    def __init__(self, members: ReplicaSet, database: str, random: Random) -> None:
        self._set = members
        self._database = database
        self._random = random
        self.stopping = False

    async def run(self) -> None:
        """Until `stopping`; then there is a primary, and it knows everything."""
        while not self.stopping:
            await self._pause(PAUSE_SECONDS)
            stale = self._random.random() < STALE_SHARE
            if stale:
                await self._set.remember(self._database)
                await self._pause(STALE_SECONDS)
            if self._set.members.primary is None:  # a command met its change, and the next one comes
                continue
            kind = self._random.choices(list(KINDS), list(KINDS.values()))[0]
            await (self._isolate(stale) if kind == "isolation" else self._step_down(kind == "crash", stale))
            self._set.stale = False

    async def _step_down(self, crash: bool, stale: bool) -> None:
        former = self._set.members.primary
        assert former is not None
        await self._set.step_down(crash=crash)
        await self._pause(ELECTION_SECONDS)
        self._set.elect(stale=stale)
        await self._pause(STALE_SECONDS)
        if crash:
            self._set.rejoin(former)

    async def _isolate(self, stale: bool) -> None:
        former = await self._set.isolate()
        await self._pause(ELECTION_SECONDS)
        self._set.elect(stale=stale)
        await self._pause(ISOLATED_SECONDS)
        self._set.rejoin(former)

    async def _pause(self, seconds: tuple[float, float]) -> None:
        await asyncio.sleep(self._random.uniform(*seconds))


@asynccontextmanager
async def trouble(members: ReplicaSet, database: str, random: Random) -> AsyncIterator[None]:
    """Trouble while the body runs."""
    made = Trouble(members, database, random)
    task = asyncio.create_task(made.run())
    try:
        yield
    finally:
        made.stopping = True
        await task
        members.draws = None
        await members.calm()
