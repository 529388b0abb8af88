"""order-state with a fault: at a chosen step, once, it kills, freezes or stops itself; or it fails on some
updates, always.

``FAULT=kill:after-commit python -m faulty_order_state``. The steps: `before-commit` (decided, nothing
written), `in-transaction` (all is written, nothing committed), `committed` (the database has it, and nothing
else was done since), `after-commit` (not announced), `after-announce` (no reply, not acknowledged).

``SLOW_COMMITS=0.3``: up to so many seconds pass between decision and commit.

``POISON=deciding``: updates whose ids begin with `poison` cannot be decided; `loading`: what is known of
them cannot be read; `committing`: what they make cannot be encoded, which shows after the fence was
written; `refused`: the database refuses it; `full`: it refuses it, and has no room for anything.
"""

import asyncio
import os
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from random import uniform
from typing import Any

from pymongo.errors import BulkWriteError
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
    register,
)

from order_state.announcer import Announcer, open_announcer
from order_state.app import serve
from order_state.decided import AnyCommand, Decided, Known
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
_how, _, _where = os.environ.get("FAULT", "").partition(":")
_poison = os.environ.get("POISON", "")
_slow_commits = float(os.environ.get("SLOW_COMMITS", "0"))

OUT_OF_DISK_SPACE = 14031

PERSONAL = "Ada Lovelace"
"""What an exception may quote, and nobody may log."""


def decides(decided: Iterable[Decided]) -> bool:
    """Whether commands were decided: a commit may also be there for the horizon alone."""
    return any(one.updates for one in decided)


def is_poisoned(update_id: str) -> bool:
    """Whether this order-state fails on the update."""
    return bool(_poison) and update_id.startswith("poison")


async def reach(step: str) -> None:
    """Fails here if this is the step, once."""
    if fails_at(step) and _how == "stop":
        await asyncio.sleep(SLOW_SECONDS)


def fails_at(step: str) -> bool:
    """Sends the signal if this is the step, once. Whether it was."""
    global _where  # noqa: PLW0603 - a process has one fault
    if step != _where:
        return False
    _where = ""
    os.kill(os.getpid(), _SIGNALS[_how])
    return True


class FaultyCommits(CommandListener):
    """Fails at the database's answer to a commit: what is written apart from the transaction is not yet."""

    decides = False
    """Whether the transaction in work holds decisions."""

    def started(self, event: CommandStartedEvent) -> None:
        """Nothing."""

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """The first one to be told."""
        if event.command_name == "commitTransaction" and self.decides:
            fails_at("committed")

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing."""


COMMITS = FaultyCommits()


class Undecidable(dict[str, Any]):
    """Outcomes that fail when it is asked for that of a poisoned update."""

    def get(self, key: str, default: Any = None) -> Any:
        if is_poisoned(key.partition("/")[2]):
            raise ZeroDivisionError(f"{key} of {PERSONAL}")
        return super().get(key, default)


class FaultyStore(Store):
    """Fails around its transaction."""

    async def load(self, commands: Sequence[AnyCommand], *arguments: Any) -> Known:
        if _poison == "loading" and any(is_poisoned(command.update_id) for command in commands):
            raise ValueError(f"the order of {PERSONAL}")
        known = await super().load(commands, *arguments)
        return replace(known, updates=Undecidable(known.updates)) if _poison == "deciding" else known

    async def commit(
        self, positions: Sequence[PartitionPosition], decided: Sequence[Decided]
    ) -> list[PartitionPosition]:
        if decides(decided):
            await reach("before-commit")
        await asyncio.sleep(uniform(0, _slow_commits))
        return await super().commit(positions, decided)

    async def _write(self, session: Any, writes: Any) -> None:
        for event in [event for _, decided in writes for event in decided.events]:
            if _poison == "committing" and is_poisoned(event["update_id"]):
                event["metadata"] = {"beyond what the database can hold": 2**70}
            if _poison == "refused" and is_poisoned(event["update_id"]):
                event["version"] = 1
            if _poison == "full" and is_poisoned(event["update_id"]):
                raise BulkWriteError({"writeErrors": [{"index": 0, "code": OUT_OF_DISK_SPACE}]})
        COMMITS.decides = decides(decided for _, decided in writes)
        await super()._write(session, writes)
        if COMMITS.decides:
            await reach("in-transaction")


@dataclass(frozen=True, slots=True)
class FaultyAnnouncer(Announcer):
    """Fails around the announcement."""

    async def announce(self, events: Sequence[EventDocument]) -> None:
        if events:
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
    register(COMMITS)
    run_service("order-state", OrderStateSettings, faulty)
