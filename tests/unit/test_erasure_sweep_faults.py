"""The sweep of erasures goes on when one of them fails, tries that one again later, and says so once."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace

import pytest

from builders import TIME
from tracking_order_state.domain.erasure import Erasure
from tracking_order_state.errors import Fault
from tracking_order_state.processing import erasure_sweep
from tracking_order_state.processing.erasure_sweep import FAULT_SECONDS, ErasureSweep
from tracking_order_state.processing.stages import PartitionResult, PartitionState
from tracking_order_state.processing.worker import PartitionConsumer, Worker
from tracking_shared.messaging.errors import BrokerUnavailable
from tracking_shared.storage.database import DatabaseUnavailable


async def nothing() -> None:
    """The deliveries are ours."""


class Steps:
    """Finishes erasures, or fails at them as a test says."""

    def __init__(self) -> None:
        self.known_fault: Fault | None = None
        """The fault that is known of the step."""
        self.faults: dict[str, Fault] = {}
        self.fails_in = 0
        self.known: list[tuple[str, Fault | None]] = []
        self.finished: list[tuple[str, int]] = []
        self.erased: list[str] = []
        self.attempts = 0

    async def learn_erasure(self, erasure: Erasure) -> PartitionResult:
        return PartitionResult()

    async def finish_erasure(self, partition: PartitionState, erasure: Erasure) -> PartitionResult | Fault:
        if erasure.id in self.faults and partition.number == self.fails_in:
            self.known.append((erasure.id, self.known_fault))
            return self.faults[erasure.id]
        self.finished.append((erasure.id, partition.number))
        return PartitionResult()

    async def erase(
        self, partition: PartitionState, erasure: Erasure, order_ids: Sequence[str]
    ) -> PartitionResult | Fault:
        self.attempts += 1
        if any(order_id.startswith("bad") for order_id in order_ids):
            return Fault("bad")
        self.erased += order_ids
        return PartitionResult(settled=len(order_ids))


class FakeWorker:
    """The worker of a process that owns two partitions."""

    batches = 0
    paced = Worker.paced

    def __init__(self) -> None:
        self.steps = Steps()
        self.processor = SimpleNamespace(steps=self.steps)

    def owned(self) -> list[PartitionConsumer]:
        states = [PartitionState(number, nothing) for number in range(2)]
        return [PartitionConsumer(state, None) for state in states]  # type: ignore[arg-type]

    async def between_batches(
        self,
        _: PartitionConsumer,
        step: Callable[[], Awaitable[PartitionResult | Fault]],
        known: Fault | None = None,
    ) -> PartitionResult | Fault:
        self.steps.known_fault = known
        return await step()


class Erasures:
    """The store of erasures, and of orders in partition 0 that are not erased yet. What is finished is not
    open any more.
    """

    def __init__(self, steps: Steps, *names: str) -> None:
        self.steps = steps
        self.order_ids: list[str] = []
        self.open = [Erasure(name, [f"contact of {name}"], None, TIME, TIME) for name in names]
        self.looked = asyncio.Event()
        self.finished: list[str] = []
        self.away: Exception | None = None
        self.unanswered = ""
        """The erasure about which the database does not answer."""

    async def pending(self) -> list[Erasure]:
        self.looked.set()
        if self.away:
            raise self.away
        return [erasure for erasure in self.open if erasure.id not in self.finished]

    async def done_in(self, erasure: Erasure) -> set[int]:
        if erasure.id == self.unanswered:
            raise DatabaseUnavailable("too slow")
        return set()

    async def find(self, erasure: Erasure, partition: int, limit: int) -> list[str]:
        left = [order_id for order_id in self.order_ids if order_id not in self.steps.erased]
        return left[:limit] if partition == 0 else []

    async def erase_archived(self, erasure: Erasure, partition: int) -> int:
        return 0

    async def finish(self, erasure: Erasure) -> bool:
        self.finished.append(erasure.id)
        return True


class Letters:
    """The queue of dead letters."""

    fails_at = ""

    async def erase(self, erasure: Erasure) -> None:
        if erasure.id == self.fails_at:
            raise KeyError(f"{erasure.contact_refs}")


class Scene:
    """A sweep of some erasures, and its clock."""

    def __init__(self, *names: str) -> None:
        self.time = 1_000.0
        self.worker = FakeWorker()
        self.erasures = Erasures(self.worker.steps, *names)
        self.letters = Letters()
        self.sweep = ErasureSweep(
            self.worker,  # type: ignore[arg-type]
            self.erasures,
            self.letters,
            clock=lambda: self.time,
        )


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings and errors of the sweep."""
    found = [one for one in caplog.records if one.levelno >= logging.WARNING]
    return [one.getMessage() for one in found if one.name == erasure_sweep.__name__]


async def test_an_erasure_that_our_own_code_fails_on_holds_up_no_other_and_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene("e-1", "e-2", "e-3")
    steps = scene.worker.steps
    steps.faults["e-1"] = Fault("ours")
    await scene.sweep.look()
    assert scene.erasures.finished == ["e-2", "e-3"]
    assert ("e-1", 1) in steps.finished  # the other partition
    await scene.sweep.look()
    assert steps.known == [("e-1", None)]  # not at each look
    scene.time += FAULT_SECONDS
    await scene.sweep.look()
    assert steps.known == [("e-1", None), ("e-1", "ours")]
    assert said(caplog) == ["erasure e-1 cannot be carried out, and is tried again: ours"]

    steps.faults["e-1"] = Fault("another")
    scene.time += FAULT_SECONDS
    await scene.sweep.look()
    assert said(caplog)[1:] == ["erasure e-1 cannot be carried out, and is tried again: another"]

    del steps.faults["e-1"]
    scene.time += FAULT_SECONDS
    await scene.sweep.look()
    assert scene.erasures.finished == ["e-2", "e-3", "e-1"]
    assert len(said(caplog)) == 2


async def test_of_the_orders_of_a_person_those_that_our_own_code_does_not_fail_on_are_erased(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure_sweep, "FOUND_ORDERS", 3)
    monkeypatch.setattr(erasure_sweep, "NAMED_ORDERS", 2)
    scene = Scene("e-1")
    scene.erasures.order_ids = ["o-1", "bad", "o-2", "o-3", "o-4"]
    await scene.sweep.look()
    assert scene.worker.steps.erased == ["o-1", "o-2", "o-3", "o-4"]
    assert scene.erasures.finished == []
    assert said(caplog) == ["erasure e-1 cannot be carried out, and is tried again: bad"]


async def test_where_all_orders_fail_it_gives_up_and_tries_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(erasure_sweep, "MAX_FAILING_ORDERS", 3)
    scene = Scene("e-1")
    scene.erasures.order_ids = [f"bad-{number}" for number in range(9)]
    await scene.sweep.look()
    assert scene.worker.steps.attempts == 1 + 4
    assert scene.erasures.finished == []


async def test_a_fault_in_the_dead_letters_is_one_of_the_erasure_and_names_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene("e-1", "e-2")
    scene.letters.fails_at = "e-1"
    await scene.sweep.look()
    assert scene.erasures.finished == ["e-2"]
    assert len(said(caplog)) == 1
    assert "contact of" not in caplog.text


async def test_an_erasure_that_the_database_does_not_answer_about_comes_last_at_the_next_look() -> None:
    scene = Scene("e-1", "e-2")
    scene.erasures.unanswered = "e-1"
    with pytest.raises(DatabaseUnavailable):
        await scene.sweep.look()
    with pytest.raises(DatabaseUnavailable):
        await scene.sweep.look()
    assert scene.erasures.finished == ["e-2"]
    scene.erasures.unanswered = ""
    await scene.sweep.look()
    assert scene.erasures.finished == ["e-2", "e-1"]


async def test_while_the_database_or_the_broker_is_away_it_says_so_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure_sweep, "LOOK_SECONDS", 0)
    scene = Scene("e-1")
    outages = [DatabaseUnavailable("away"), BrokerUnavailable("gone"), None, DatabaseUnavailable("away")]
    running = asyncio.create_task(scene.sweep.run())
    try:
        async with asyncio.timeout(10):
            for outage in outages:
                scene.erasures.away = outage
                for _ in range(4):
                    scene.erasures.looked.clear()
                    await scene.erasures.looked.wait()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert said(caplog) == [f"erasures wait: {reason}" for reason in ("away", "gone", "away")]
