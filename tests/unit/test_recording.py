"""What order-state itself fails on waits with its order; the rest is recorded as if it were not there."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import checkpoint_command, correct_command, create_command, update_command
from property_examples import max_examples
from tracking.upkeep.checker import Acknowledged, Records, find_faults
from tracking_order_state.domain import parking
from tracking_order_state.domain.decisions import Decisions, Known
from tracking_order_state.domain.erasure import ErasedContacts
from tracking_order_state.domain.partition import PartitionPosition, encode_parked_orders
from tracking_order_state.errors import (
    MAX_FAULT_CHARS,
    LayoutChanged,
    PartitionStalled,
    TooManyParked,
    Unwritable,
    describe,
    fault_of,
)
from tracking_order_state.processing.batch_processor import BatchProcessor
from tracking_order_state.processing.stages import PartitionBatch, PartitionState, ReceivedBatch
from tracking_shared.contracts.access import Grant
from tracking_shared.contracts.commands import AnyCommand, CreateOrder, ReleaseOrder, Source
from tracking_shared.contracts.documents import EventDocument, ParkedDocument, update_key
from tracking_shared.contracts.layout import Layout
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW
from tracking_shared.storage.database import DatabaseUnavailable


class MemoryStore:
    """A store of one partition that fails on poisoned updates, and loses the answer of a chosen commit."""

    def __init__(self) -> None:
        self.poisoned = True
        self.may_park = True
        self.lost_answer: int | None = None
        self.commits = 0
        self.records = Records(
            partitions=[{"_id": 0, "seq": 0, "commits": 0, "worker": "", "epoch": "e", "parked": []}]
        )

    def _position(self) -> PartitionPosition:
        [partition] = self.records.partitions
        return PartitionPosition.decode(partition)

    async def answers(self) -> bool:
        return True

    async def load_erased(self) -> ErasedContacts:
        return ErasedContacts()

    async def claim(self, partition: int) -> PartitionPosition:
        return self._position()

    async def recover(self, position: PartitionPosition) -> PartitionPosition:
        return self._position()

    async def load(self, commands: Sequence[AnyCommand], parked_orders: Any = ()) -> Known:
        self._fail_on("load", commands)
        keys = {update_key(command.order_id, command.update_id) for command in commands}
        events = {update_key(event["order_id"], event["update_id"]): event for event in self.records.events}
        return Known(
            {order["_id"]: order for order in self.records.orders},
            {key: event for key, event in events.items() if key in keys},
            {update["_id"]: update for update in self.records.updates if update["_id"] in keys},
            {one["_id"]: one for one in self.records.parked if one["_id"] in keys},
        )

    def _fail_on(self, step: str, updates: Sequence[Any]) -> None:
        ids = ["" if isinstance(one, CreateOrder) else one.update_id for one in updates]
        if self.poisoned and any(name.startswith(f"{step}-poison") for name in ids):
            raise ArithmeticError(step)

    async def commit(
        self, positions: Sequence[PartitionPosition], decisions: Sequence[Decisions]
    ) -> list[PartitionPosition]:
        [position], [result] = positions, decisions
        assert position == self._position()
        if any(event["update_id"].startswith("commit-poison") for event in result.events) and self.poisoned:
            raise Unwritable("11000")
        if result.parked and not self.may_park:
            raise Unwritable("121")
        if result.is_written_at(position):
            self._write(position, result)
            self.commits += 1
            if self.commits == self.lost_answer:
                raise DatabaseUnavailable("the answer was lost")
        return [self._position()]

    def _write(self, position: PartitionPosition, decisions: Decisions) -> None:
        records = self.records
        records.events += decisions.events
        records.orders = [o for o in records.orders if o["_id"] not in decisions.orders]
        records.orders += decisions.orders.values()
        made = {update_key(event["order_id"], event["update_id"]) for event in decisions.events}
        gone = {*decisions.refusals, *(decisions.replaced & made)}
        records.updates = [one for one in records.updates if one["_id"] not in gone]
        records.updates += decisions.refusals.values()
        gone = {*decisions.released, *decisions.parked}
        records.parked = [one for one in records.parked if one["_id"] not in gone]
        records.parked += decisions.parked.values()
        records.partitions[0]["seq"] += len(decisions.events)
        records.partitions[0]["commits"] += 1
        after = decisions.position_after(position)
        records.partitions[0]["horizon"] = after.horizon
        records.partitions[0]["parked"] = encode_parked_orders(after.parked_orders)

    async def parked_command(self, command: AnyCommand) -> ParkedDocument | None:
        key = update_key(command.order_id, command.update_id)
        return next((one for one in self.records.parked if one["_id"] == key), None)

    async def parked_at(self, order_id: str, place: int) -> ParkedDocument:
        [found] = [o for o in self.records.parked if (o["order_id"], o["place"]) == (order_id, place)]
        return found

    async def newest_events(self, order_id: str, limit: int) -> list[EventDocument]:
        return [event for event in self.records.events if event["order_id"] == order_id][-limit:]


async def nothing() -> None:
    """The deliveries are ours."""


def processor_on(store: MemoryStore, max_parked_orders: int = 100, **options: Any) -> BatchProcessor:
    """A processor without a broker."""
    return BatchProcessor(store, None, DEFAULT_WORKFLOW, Layout((1,)), max_parked_orders, **options)  # type: ignore[arg-type]


class Installation:
    """An order-state on a store in memory, and what it told."""

    def __init__(self, max_parked_orders: int = 100) -> None:
        self.store = MemoryStore()
        self.processor = processor_on(self.store, max_parked_orders)
        self.announced: set[int] = set()
        self.told: list[Acknowledged] = []

    def record(
        self, *messages: AnyCommand | ReleaseOrder, stalled: PartitionState | None = None
    ) -> list[Any]:
        """One batch; returns the outcomes of the commands."""
        commands = [one for one in messages if not isinstance(one, ReleaseOrder)]
        releases = [one for one in messages if isinstance(one, ReleaseOrder)]
        partition = stalled or PartitionState(0, nothing)
        part = PartitionBatch(partition, commands=commands, releases=releases)
        committed = asyncio.run(self.processor.commit(ReceivedBatch([part])))
        self.announced |= {event["seq"] for event in committed.events()}
        outcomes = committed.results[0].outcomes[: len(commands)]
        assert len(outcomes) == len(commands)
        for command, outcome in zip(commands, outcomes, strict=True):
            assert outcome is None or outcome["update_id"] == command.update_id
            if outcome is None:
                self.told.append(Acknowledged(command.order_id, command.update_id, "accepted"))
        return list(outcomes)

    def check(self) -> None:
        """Fails unless the records hold, and everything was announced."""
        assert find_faults(self.store.records, self.told) == []
        assert self.announced == set(range(1, self.store.records.partitions[0]["seq"] + 1))

    def histories(self) -> dict[str, list[tuple[str, str]]]:
        """Each order's updates and statuses."""
        histories = defaultdict(list)
        for event in sorted(self.store.records.events, key=lambda event: event["seq"]):
            histories[event["order_id"]].append((event["update_id"], event["status"]))
        return histories

    def refused(self) -> dict[str, str]:
        """The problems of the updates that were refused."""
        return {u["_id"]: u["problem"]["slug"] for u in self.store.records.updates if u["problem"]}


def life(order_id: str, *poison: str) -> list[AnyCommand]:
    """An order and three steps; the first of them is poisoned in these ways."""
    return [
        create_command(order_id, update_id="create"),
        update_command(order_id, update_id=f"{poison[0]}-poison" if poison else "1"),
        update_command(order_id, "in_transit", update_id="2"),
        update_command(order_id, "delivered", update_id="3"),
    ]


@pytest.mark.parametrize("step", ["load", "commit"])
def test_what_fails_alone_is_parked_with_what_comes_behind_it(step: str) -> None:
    system = Installation()
    bad, good = life("bad", step), life("good")
    told = system.record(*(one for pair in zip(bad, good, strict=True) for one in pair))
    assert [outcome and outcome["version"] for outcome in told] == [1, 1, None, 2, None, 3, None, 4]
    system.check()
    assert [one["place"] for one in system.store.records.parked] == [1, 2, 3]


def test_a_repeat_is_parked_once_and_another_request_under_its_id_is_refused() -> None:
    system = Installation()
    commands = life("bad", "load")
    system.record(*commands)
    other = update_command("bad", "cancelled", update_id="3")
    told = system.record(*commands, commands[2], other)
    assert told[0]["replayed"]
    assert told[1:5] == [None] * 4
    assert told[5]["problem"]["slug"] == "idempotency-key-reused"
    assert len(system.store.records.parked) == 3
    system.check()


def test_what_fails_again_keeps_its_place_and_tells_how_it_failed_now() -> None:
    system = Installation()
    system.record(*life("bad", "load"))
    system.store.records.parked[0]["error"] = "an earlier fault"
    system.record(ReleaseOrder(order_id="bad"), ReleaseOrder(order_id="unknown"))
    system.check()
    places = {one["place"]: one["error"] for one in system.store.records.parked}
    assert places == {1: places[1], 2: None, 3: None}
    assert (places[1] or "").startswith("ArithmeticError in tracking_order_state.processing.parking_steps.")


@pytest.mark.parametrize("lost", range(1, 9))
def test_a_replay_whose_answer_is_lost_is_found_out(lost: int) -> None:
    system = Installation()
    system.record(*life("bad", "commit"))
    system.store.poisoned = False
    system.store.lost_answer = lost
    system.record(*life("good"), ReleaseOrder(order_id="bad"))
    system.check()
    assert {len(history) for history in system.histories().values()} == {4}


@pytest.mark.parametrize("lost", range(1, 9))
def test_a_commit_whose_answer_is_lost_is_found_out(lost: int) -> None:
    system = Installation()
    system.store.lost_answer = lost
    system.record(*life("good"), *life("bad", "commit"))
    system.record(*life("bad", "commit"))
    system.record(ReleaseOrder(order_id="bad", skip="commit-poison"))
    system.check()
    assert system.store.records.parked == []
    assert system.refused() == {
        "bad/commit-poison": "internal-error",
        "bad/2": "invalid-transition",
        "bad/3": "invalid-transition",
    }


def test_a_release_that_comes_again_gives_up_nothing_more() -> None:
    system = Installation()
    release = ReleaseOrder(order_id="bad", skip="load-poison")
    second = update_command("bad", update_id="load-poison-2")
    system.record(*life("bad", "load")[:2], second)
    system.record(release)
    system.record(release)
    assert system.refused() == {"bad/load-poison": "internal-error"}
    assert [one["update_id"] for one in system.store.records.parked] == ["load-poison-2"]
    system.check()


def test_a_stranger_does_not_wait_behind_what_it_may_not_know() -> None:
    system = Installation()
    system.record(*life("bad", "load"))
    stranger = update_command("bad", grant=create_command().grant.model_copy(update={"merchants": {"x"}}))
    assert system.record(stranger)[0]["problem"]["slug"] == "order-not-found"
    assert len(system.store.records.parked) == 3


@pytest.mark.parametrize("status", ["picked_up", "cancelled"])
def test_a_stranger_who_waits_for_an_order_before_it_is_there_has_nobody_told_what_is_not_so(
    status: str,
) -> None:
    system = Installation()
    system.record(create_command("x", update_id="commit-poison"))
    stranger = Source(type="driver", id="a-stranger")
    nothing_granted = Grant(merchants=frozenset({"other"}))
    system.record(update_command("x", update_id="u", source=stranger, grant=nothing_granted))
    system.told.clear()  # its update will not exist for it
    own = update_command("x", status, update_id="u")
    assert system.record(own)[0]["problem"]["slug"] == "idempotency-key-reused"
    system.store.poisoned = False
    system.record(ReleaseOrder(order_id="x"))
    assert system.record(own)[0]["version"] == 2
    system.check()


def test_a_full_line_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parking, "MAX_PARKED_PER_ORDER", 2)
    system = Installation()
    *_, refused = system.record(*life("bad", "load"))
    assert refused["problem"]["slug"] == "internal-error"
    assert [one["update_id"] for one in system.store.records.parked] == ["load-poison", "2"]
    system.check()


def test_more_orders_than_may_be_parked_stop_the_partition_and_lose_nothing() -> None:
    system = Installation(max_parked_orders=1)
    system.record(*life("bad", "load"))
    stalled = PartitionState(0, nothing)
    for _ in range(2):
        with pytest.raises(TooManyParked):
            system.record(*life("good"), *life("worse", "load"), stalled=stalled)
    assert len(system.store.records.parked) == 3
    system.store.poisoned = False
    system.record(*life("good"), *life("worse", "load"), stalled=stalled)
    system.record(ReleaseOrder(order_id="bad"))
    system.check()
    assert {len(history) for history in system.histories().values()} == {4}


def test_what_cannot_be_parked_either_stops_the_partition_and_loses_nothing() -> None:
    system = Installation()
    system.store.may_park = False
    stalled = PartitionState(0, nothing)
    for _ in range(2):
        with pytest.raises(PartitionStalled, match=r"partitions \[0\]: Unwritable \(121\)"):
            system.record(*life("good"), *life("bad", "commit"), stalled=stalled)
    system.store.may_park = True
    system.record(*life("good"), *life("bad", "commit"), stalled=stalled)
    assert [one["update_id"] for one in system.store.records.parked] == ["commit-poison", "2", "3"]
    system.check()


def test_a_release_whose_failure_cannot_be_kept_holds_up_nobody() -> None:
    system = Installation()
    system.record(*life("bad", "load"))
    system.store.may_park = False
    told = system.record(*life("good"), ReleaseOrder(order_id="bad"))
    assert [outcome["version"] for outcome in told] == [1, 2, 3, 4]
    assert len(system.store.records.parked) == 3
    system.check()


_names = st.sampled_from([f"{way}{n}" for way in ("", "", "load-poison", "commit-poison") for n in range(4)])
_commands = st.one_of(
    st.builds(create_command, st.sampled_from("abc"), update_id=st.sampled_from(["c1", "c2"])),
    st.builds(
        lambda order_id, status, name: update_command(order_id, status, update_id=f"{name}-{status}"),
        st.sampled_from("abc"),
        st.sampled_from(sorted(DEFAULT_WORKFLOW.statuses)),
        _names,
    ),
    st.builds(
        lambda order_id, name: checkpoint_command(order_id, update_id=f"{name}-note"),
        st.sampled_from("abc"),
        _names,
    ),
    st.builds(
        lambda order_id, status, name: correct_command(order_id, status, update_id=f"{name}-to-{status}"),
        st.sampled_from("abc"),
        st.sampled_from(sorted(DEFAULT_WORKFLOW.statuses)),
        _names,
    ),
)


@max_examples(100)
@given(st.lists(_commands, max_size=24), st.data())
def test_once_the_fault_is_gone_every_order_is_as_if_it_had_never_been(
    commands: list[AnyCommand], data: Any
) -> None:
    sound, faulty = Installation(), Installation()
    sound.store.poisoned = False
    sound.record(*commands)
    position = 0
    while position < len(commands):
        end = data.draw(st.integers(position + 1, len(commands)))
        start = data.draw(st.integers(0, position))  # what was handled before may come again
        released = data.draw(st.sets(st.sampled_from("abc")))
        faulty.record(*commands[start:end], *(ReleaseOrder(order_id=order_id) for order_id in released))
        faulty.check()
        position = end
    faulty.store.poisoned = False
    faulty.record(*(ReleaseOrder(order_id=order_id) for order_id in "abc"))
    faulty.check()
    assert faulty.store.records.parked == []
    assert faulty.histories() == sound.histories()
    assert faulty.refused() == sound.refused()


async def fail(error: Exception) -> None:
    raise error


async def test_a_fault_is_told_without_the_text_of_its_exception(caplog: pytest.LogCaptureFixture) -> None:
    fault = await fault_of(fail(ValueError("Ada Lovelace")))
    assert (fault or "").startswith("ValueError in tracking_order_state.errors.fault_of, line ")
    assert "Lovelace" not in caplog.text
    assert "in fault_of" in caplog.text
    assert len(describe(type("E" * 300, (Exception,), {})())) == MAX_FAULT_CHARS
    with pytest.raises(DatabaseUnavailable):
        await fault_of(fail(DatabaseUnavailable("away")))


@pytest.mark.parametrize("is_claimed", [True, False])
def test_a_worker_that_knows_fewer_partitions_decides_nothing(is_claimed: bool) -> None:
    system = Installation()
    partition = PartitionState(0, nothing)
    system.record(create_command("o-1", update_id="create"), stalled=partition)
    fenced = system.store.records.partitions[0]
    fenced["commits"] += 1
    fenced["generation"] = 1
    if is_claimed:
        partition.is_uncertain = True  # after a commit that the fence has refused
    else:
        partition = PartitionState(0, nothing)
    with pytest.raises(LayoutChanged):
        system.record(update_command("o-1", update_id="1"), stalled=partition)
    assert [event["version"] for event in system.store.records.events] == [1]
