"""order-state with a fault: at a chosen step, once, it kills, freezes or stops itself; or it fails on some
updates, always.

``FAULT=kill:after-commit python -m faulty_order_state``. The steps: `before-commit` (decided, nothing
written), `in-transaction` (all is written, nothing committed), `committed` (the database has it, and nothing
else was done since), `after-commit` (not announced), `after-announce` (no reply, not acknowledged),
`migrating` (some events of an earlier release are migrated, others not), `letter-published` (a dead letter
without its customer is there, and so is the one that it replaces). Of a change of the number of partitions:
`prepared` (the new queues are there), `fenced` (it is noted that ingest takes no updates), `decided` (what
was taken is decided), `noted` (that is noted), `in-switch` (the workers are fenced, the new partitions are
not there), `activating` (all but the new layout is written), `switched` (that is, too).

``SLOW_COMMITS=0.3``: up to so many seconds pass between decision and commit.

``POISON=deciding``: updates whose ids begin with `poison` cannot be decided; `loading`: what is known of
them cannot be read; `committing`: what they make cannot be encoded, which shows after the fence was
written; `refused`: the database refuses it; `full`: it refuses it, and has no room for anything.
"""

import asyncio
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
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

from tracking_order_state.adapters.dead_letters import DeadLetters
from tracking_order_state.adapters.result_publisher import ResultPublisher, open_publisher
from tracking_order_state.adapters.store import Store
from tracking_order_state.app import serve
from tracking_order_state.domain.decisions import Decisions, Known
from tracking_order_state.domain.partition import PartitionPosition
from tracking_order_state.settings import OrderStateSettings
from tracking_shared.contracts.commands import AnyCommand, Reply
from tracking_shared.contracts.documents import EventDocument
from tracking_shared.contracts.workflow import Workflow
from tracking_shared.messaging.connection import Connection
from tracking_shared.messaging.consumer import Delivery
from tracking_shared.messaging.publisher import Publisher
from tracking_shared.serving import run_service

SLOW_SECONDS = 0.3
"""What the step takes longer when it is told to stop there: so the stop is under way before it ends."""

_SIGNALS = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP, "stop": signal.SIGTERM}
_how, _, _where = os.environ.get("FAULT", "").partition(":")
_poison = os.environ.get("POISON", "")
_slow_commits = float(os.environ.get("SLOW_COMMITS", "0"))

OUT_OF_DISK_SPACE = 14031

PERSONAL = "Ada Lovelace"
"""What an exception may quote, and nobody may log."""


def decides(decisions: Iterable[Decisions]) -> bool:
    """Returns True if commands were decided: a commit may also be there for the horizon alone."""
    return any(one.events or one.refusals or one.unheld for one in decisions)


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
    if not step or step != _where:
        return False
    _where = ""
    os.kill(os.getpid(), _SIGNALS[_how])
    return True


class FaultyCommits(CommandListener):
    """Fails at the database's answer to a commit: what is written apart from the transaction is not yet."""

    decides = False
    """Whether the transaction in work holds decisions."""

    migrating: Any = None
    """The session in which events are changed: only the migration does that."""
    commit: int | None = None
    """The request that commits its transaction."""

    def started(self, event: CommandStartedEvent) -> None:
        """The driver waits for it."""
        if event.command.get("update") == "order_events":
            self.migrating = event.command["lsid"]
        if event.command_name == "commitTransaction" and event.command["lsid"] == self.migrating:
            self.commit = event.request_id

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """The first one to be told."""
        if event.command_name == "commitTransaction" and self.decides:
            fails_at("committed")
        if event.request_id == self.commit:
            fails_at("migrating")

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing."""


COMMITS = FaultyCommits()


class FaultySwitch(CommandListener):
    """Fails while the number of partitions changes."""

    def __init__(self) -> None:
        self._answered: dict[int, str] = {}
        """The steps at which the answers to requests fail."""

    def started(self, event: CommandStartedEvent) -> None:
        """The driver waits for it."""
        change = _settings_change(event.command)
        before, after = {
            "fenced": ("prepared", "fenced"),
            "decided": ("decided", "noted"),
            "active": ("activating", "switched"),
        }.get(change, ("", ""))
        self._answered[event.request_id] = after
        fails_at(before)
        if event.command.get("insert") == "partitions" and "added_in" in event.command["documents"][0]:
            fails_at("in-switch")

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """The first one to be told."""
        fails_at(self._answered.pop(event.request_id, ""))

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing."""


def _settings_change(command: Mapping[str, Any]) -> str:
    """The phase of a change of the number of partitions that a command notes, or `active`; else nothing."""
    if command.get("update") != "settings":
        return ""
    change = command["updates"][0]["u"]
    return "active" if "$unset" in change else str(change.get("$set", {}).get("switch.phase", ""))


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
        return replace(known, refusals=Undecidable(known.refusals)) if _poison == "deciding" else known

    async def commit(
        self, positions: Sequence[PartitionPosition], decisions: Sequence[Decisions]
    ) -> list[PartitionPosition]:
        if decides(decisions):
            await reach("before-commit")
        await asyncio.sleep(uniform(0, _slow_commits))
        return await super().commit(positions, decisions)

    async def _write(self, session: Any, writes: Any) -> None:
        for event in [event for _, decisions in writes for event in decisions.events]:
            if _poison == "committing" and is_poisoned(event["update_id"]):
                event["metadata"] = {"beyond what the database can hold": 2**70}
            if _poison == "refused" and is_poisoned(event["update_id"]):
                event["version"] = 1
            if _poison == "full" and is_poisoned(event["update_id"]):
                raise BulkWriteError({"writeErrors": [{"index": 0, "code": OUT_OF_DISK_SPACE}]})
        COMMITS.decides = decides(decisions for _, decisions in writes)
        await super()._write(session, writes)
        if COMMITS.decides:
            await reach("in-transaction")


@dataclass(frozen=True, slots=True)
class FaultyPublisher(ResultPublisher):
    """Fails around the publication of events."""

    async def publish_events(self, events: Sequence[EventDocument]) -> None:
        if events:
            await reach("after-commit")
        await ResultPublisher.publish_events(self, events)

    async def reply(self, reply_to: str, replies: list[Reply]) -> None:
        await reach("after-announce")
        await ResultPublisher.reply(self, reply_to, replies)


class FaultyLetters(DeadLetters):
    """Fails between the new letter and the end of the old one."""

    async def put_back(self, letter: Delivery, body: bytes, publisher: Publisher) -> None:
        await super().put_back(letter, body, publisher)
        await reach("letter-published")


async def open_faulty(connection: Connection, workflow: Workflow) -> ResultPublisher:
    """A faulty publisher on this connection."""
    sound = await open_publisher(connection, workflow)
    return FaultyPublisher(sound.events, sound.replies, sound.workflow)


async def faulty(settings: OrderStateSettings) -> None:
    """order-state with the faulty parts."""
    if _poison in ("deciding", "loading"):  # it fails on what is read, so everything must be
        settings = settings.model_copy(update={"order_cache_bytes": 0})
    await serve(settings, FaultyStore, open_faulty, FaultyLetters)


if __name__ == "__main__":
    register(COMMITS)
    register(FaultySwitch())
    run_service("order-state", OrderStateSettings, faulty)
