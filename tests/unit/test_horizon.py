"""Before the horizon of a partition nothing is recorded any more, whatever the clock of its owner says."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from test_recording import MemoryStore, nothing

from builders import create_command, update_command
from order_state.decided import AnyCommand
from order_state.recording import Recorder
from order_state.share import Share
from order_state.standstill import REPEAT_SECONDS, STILL_SECONDS, Standstills, wake_messages
from shared.commands import ReleaseOrder, decode_commands
from shared.documents import horizon_of
from shared.partitioning import partition_of
from shared.timestamps import UNIX_EPOCH, now
from shared.workflow import DEFAULT_WORKFLOW

SKEW_SECONDS = st.integers(-90, 90)
START = now()


@dataclass
class Owner:
    """An order-state whose clock is wrong by `skew`; all owners have the same time otherwise."""

    store: MemoryStore
    skew: timedelta
    time: list[datetime]

    def record(self, command: AnyCommand | None) -> None:
        """Claims the partition and does one pass, with a command or without."""
        recorder = Recorder(self.store, DEFAULT_WORKFLOW, 100, lambda: self.time[0] + self.skew)  # type: ignore[arg-type]
        share = Share(0, None, [], nothing, [command] if command else [])
        asyncio.run(recorder.record([share]))


def recorded_times(store: MemoryStore) -> dict[tuple[str, object], datetime]:
    """Of everything in the store, by what it is."""
    records = store.records
    return {
        **{("event", event["_id"]): event["recorded_at"] for event in records.events},
        **{("outcome", update["_id"]): update["recorded_at"] for update in records.updates},
        **{("parked", parked["_id"]): parked["parked_at"] for parked in records.parked},
    }


COMMANDS = st.sampled_from(("nothing", "create", "update", "refused", "commit-poison"))
PASSES = st.lists(st.tuples(st.integers(0, 2), COMMANDS, st.integers(0, 3000)), max_size=25)


@given(st.tuples(SKEW_SECONDS, SKEW_SECONDS, SKEW_SECONDS), PASSES)
def test_nothing_is_recorded_before_a_horizon_that_was_there(
    skews: tuple[int, ...], passes: list[tuple[int, str, int]]
) -> None:
    store, time = MemoryStore(), [START]
    owners = [Owner(store, timedelta(seconds=skew), time) for skew in skews]
    horizon = UNIX_EPOCH
    for number, (owner, what, milliseconds) in enumerate(passes):
        before = recorded_times(store)
        time[0] += timedelta(milliseconds=milliseconds)
        owners[owner].record(command_of(what, number))
        after = recorded_times(store)
        assert all(after[name] >= horizon for name in after.keys() - before.keys())
        following = horizon_of(store.records.partitions[0])
        assert following >= horizon
        horizon = following


def command_of(what: str, number: int) -> AnyCommand | None:
    if what == "nothing":
        return None
    if what in ("create", "commit-poison"):
        return create_command(f"o-{number}", update_id=f"{what}-{number}")
    return update_command("o-0" if what == "update" else "o-none", "picked_up", update_id=f"{what}-{number}")


def test_where_there_is_nothing_to_write_the_horizon_moves_on_alone_when_it_is_due() -> None:
    store, time = MemoryStore(), [START]
    owner = Owner(store, timedelta(), time)
    seen = []
    for milliseconds in (0, 100, 300, 200, 1000):
        time[0] += timedelta(milliseconds=milliseconds)
        owner.record(None)
        seen.append((horizon_of(store.records.partitions[0]) - START) / timedelta(milliseconds=1))
    assert seen == [0, 0, 0, 600, 1600]
    assert store.records.partitions[0]["seq"] == 0


def test_a_partition_is_woken_when_its_horizon_stands_still_and_not_too_often() -> None:
    standstills = Standstills()
    moving, still = START, START
    woken: list[tuple[float, int]] = []
    for second in range(REPEAT_SECONDS + STILL_SECONDS + 2):
        moving += timedelta(seconds=1)
        woken += [
            (second, partition)
            for partition in standstills.due({0: moving, 1: still, 2: UNIX_EPOCH}, float(second))
        ]
    assert woken == [(0, 2), (STILL_SECONDS, 1), (REPEAT_SECONDS, 2), (STILL_SECONDS + REPEAT_SECONDS, 1)]


def test_one_that_has_moved_meanwhile_is_woken_again_at_its_next_standstill() -> None:
    standstills = Standstills()
    assert standstills.due({0: START}, 0) == []
    assert standstills.due({0: START}, 2) == [0]
    assert standstills.due({0: START + timedelta(seconds=3)}, 3) == []
    assert standstills.due({0: START + timedelta(seconds=3)}, 5) == [0]


@given(st.integers(1, 64))
def test_the_message_that_wakes_a_partition_is_one_of_its_own_that_earlier_releases_know(
    partitions: int,
) -> None:
    for partition, body in enumerate(wake_messages(partitions)):
        [command] = decode_commands(body)
        assert isinstance(command, ReleaseOrder)
        assert partition_of(command.order_id, partitions) == partition
