"""order-state with a fault: at a chosen step, once, it kills, freezes or stops itself.

``FAULT=kill:after-commit python -m faulty_order_state``. The steps: `before-commit` (decided, nothing
written), `in-transaction` (the fence is written, the rest is not), `after-commit` (not announced),
`after-announce` (no reply, not acknowledged).
"""

import asyncio
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from order_state.announcer import Announcer, open_announcer
from order_state.app import serve
from order_state.batch import Decided
from order_state.settings import OrderStateSettings
from order_state.store import PartitionPosition, Store
from shared.broker import Connection
from shared.documents import EventDocument
from shared.outcomes import Reply
from shared.serving import run_service
from shared.workflow import Workflow

SLOW_SECONDS = 0.3
"""What the step takes longer when it is told to stop there: so the stop is under way before it ends."""

_SIGNALS = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP, "stop": signal.SIGTERM}
_how, _, _where = os.environ["FAULT"].partition(":")


async def reach(step: str) -> None:
    """Fails here if this is the step, once."""
    global _where  # noqa: PLW0603 - a process has one fault
    if step == _where:
        _where = ""
        os.kill(os.getpid(), _SIGNALS[_how])
        if _how == "stop":
            await asyncio.sleep(SLOW_SECONDS)


class FaultyStore(Store):
    """Fails around its transaction."""

    async def commit(
        self, positions: Sequence[PartitionPosition], decided: Sequence[Decided]
    ) -> list[PartitionPosition]:
        await reach("before-commit")
        return await super().commit(positions, decided)

    async def _write(self, session: Any, writes: Any) -> None:
        await super()._write(session, writes)
        await reach("in-transaction")


@dataclass(frozen=True, slots=True)
class FaultyAnnouncer(Announcer):
    """Fails around the announcement."""

    async def announce(self, events: Sequence[EventDocument]) -> None:
        await reach("after-commit")
        await Announcer.announce(self, events)

    async def reply(self, reply_to: str, replies: list[Reply]) -> None:
        await reach("after-announce")
        await Announcer.reply(self, reply_to, replies)


async def open_faulty(connection: Connection, workflow: Workflow) -> Announcer:
    """A faulty announcer on this connection."""
    sound = await open_announcer(connection, workflow)
    return FaultyAnnouncer(sound.events, sound.replies, sound.workflow)


async def faulty(settings: OrderStateSettings) -> None:
    """order-state with the faulty parts."""
    await serve(settings, FaultyStore, open_faulty)


if __name__ == "__main__":
    run_service("order-state", OrderStateSettings, faulty)
