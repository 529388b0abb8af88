"""Before the horizon of a partition nothing is recorded any more, whatever the clock of its owner says."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from test_recording import MemoryStore, nothing, processor_on

from builders import create_command, update_command
from tracking_order_state.processing.partition_watch import (
    REPEAT_SECONDS,
    STALLED_AFTER_SECONDS,
    StalledHorizons,
    claim_requests,
)
from tracking_order_state.processing.stages import PartitionBatch, PartitionState, ReceivedBatch
from tracking_shared.contracts.commands import AnyCommand, ReleaseOrder, decode_commands
from tracking_shared.contracts.documents import horizon_of
from tracking_shared.contracts.identifiers import partition_of
from tracking_shared.contracts.layout import Layout
from tracking_shared.contracts.timestamps import UNIX_EPOCH, now

SKEW_SECONDS = st.integers(-90, 90)
START = now()


@dataclass
class Owner:
    """An order-state whose clock is wrong by `skew`; all owners have the same time otherwise."""

    store: MemoryStore
    skew: timedelta
    time: list[datetime]

    def record(self, command: AnyCommand | None) -> None:
        """Claims the partition and processes one batch, with a command or without."""
        processor = processor_on(self.store, clock=lambda: self.time[0] + self.skew)
        part = PartitionBatch(PartitionState(0, nothing), commands=[command] if command else [])
        asyncio.run(processor.commit(ReceivedBatch([part])))


def recorded_times(store: MemoryStore) -> dict[tuple[str, object], datetime]:
    """Of everything in the store, by what it is."""
    records = store.records
    return {
        **{("event", event["_id"]): event["recorded_at"] for event in records.events},
        **{("outcome", update["_id"]): update["recorded_at"] for update in records.updates},
        **{("parked", parked["_id"]): parked["parked_at"] for parked in records.parked},
    }


COMMANDS = st.sampled_from(("nothing", "create", "update", "refused", "commit-poison"))
BATCHES = st.lists(st.tuples(st.integers(0, 2), COMMANDS, st.integers(0, 3000)), max_size=25)


@given(st.tuples(SKEW_SECONDS, SKEW_SECONDS, SKEW_SECONDS), BATCHES)
def test_nothing_is_recorded_before_a_horizon_that_was_there(
    skews: tuple[int, ...], batches: list[tuple[int, str, int]]
) -> None:
    store, time = MemoryStore(), [START]
    owners = [Owner(store, timedelta(seconds=skew), time) for skew in skews]
    horizon = UNIX_EPOCH
    for number, (owner, what, milliseconds) in enumerate(batches):
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


def test_a_claim_is_requested_when_a_horizon_is_stalled_and_not_too_often() -> None:
    horizons = StalledHorizons()
    moving, still = START, START
    requested: list[tuple[float, int]] = []
    for second in range(REPEAT_SECONDS + STALLED_AFTER_SECONDS + 2):
        moving += timedelta(seconds=1)
        requested += [
            (second, partition)
            for partition in horizons.due({0: moving, 1: still, 2: UNIX_EPOCH}, float(second))
        ]
    assert requested == [
        (0, 2),
        (STALLED_AFTER_SECONDS, 1),
        (REPEAT_SECONDS, 2),
        (STALLED_AFTER_SECONDS + REPEAT_SECONDS, 1),
    ]


def test_a_horizon_that_has_moved_meanwhile_is_requested_again_when_it_stalls_again() -> None:
    horizons = StalledHorizons()
    assert horizons.due({0: START}, 0) == []
    assert horizons.due({0: START}, 2) == [0]
    assert horizons.due({0: START + timedelta(seconds=3)}, 3) == []
    assert horizons.due({0: START + timedelta(seconds=3)}, 5) == [0]


@given(st.integers(1, 64))
def test_the_request_for_a_claim_is_a_command_of_the_partition_that_earlier_releases_know(
    partitions: int,
) -> None:
    for partition, body in enumerate(claim_requests(Layout((partitions,)))):
        [command] = decode_commands(body)
        assert isinstance(command, ReleaseOrder)
        assert partition_of(command.order_id, partitions) == partition
