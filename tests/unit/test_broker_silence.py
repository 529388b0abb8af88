"""When order-state believes that its broker node is silent."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from tracking_order_state.processing.silence import (
    MAX_SILENCE_SECONDS,
    STANDBY_FACTOR,
    Observation,
    SilenceDetector,
)
from tracking_shared.contracts.timestamps import UNIX_EPOCH

BOUND_SECONDS = 10.0
WAITING = Observation(ready=5, arrived=False, has_unsettled=False, is_active=True, horizon=UNIX_EPOCH)

sights = st.builds(
    Observation,
    ready=st.integers(0, 3),
    arrived=st.booleans(),
    has_unsettled=st.booleans(),
    is_active=st.booleans(),
    horizon=st.integers(0, 2).map(lambda number: UNIX_EPOCH + timedelta(seconds=number)),
)
steps = st.floats(0.1, BOUND_SECONDS)


def silent_after(
    silences: SilenceDetector, sight: Observation, *, step: float = 2.0, limit: float = 1000
) -> float:
    """How many seconds of always the same sight it takes."""
    at = 1000.0
    while at < 1000 + limit:
        if silences.observe({0: sight}, at):
            return at - 1000
        at += step
    return limit


@given(st.lists(st.tuples(steps, sights), max_size=60))
def test_whoever_has_nothing_to_wait_for_or_work_in_hand_never_takes_the_node_for_silent(
    seen: list[tuple[float, Observation]],
) -> None:
    silences = SilenceDetector(BOUND_SECONDS)
    for at, sight in at_times(seen):
        harmless = replace(sight, ready=0) if int(at) % 2 else replace(sight, has_unsettled=True)
        assert silences.observe({0: harmless}, at) == []


@given(st.lists(st.tuples(steps, sights), max_size=60))
def test_a_node_is_silent_only_after_the_whole_bound_without_anything_delivered(
    seen: list[tuple[float, Observation]],
) -> None:
    silences = SilenceDetector(BOUND_SECONDS)
    harmless_at = 0.0
    for at, sight in at_times(seen):
        if sight.arrived or not sight.ready or sight.has_unsettled:
            harmless_at = at
        if silences.observe({0: sight}, at):
            assert at - harmless_at >= BOUND_SECONDS


@given(st.lists(st.tuples(steps, st.dictionaries(st.integers(0, 3), sights)), max_size=40))
def test_one_partition_that_rests_says_nothing_about_the_others(
    seen: list[tuple[float, dict[int, Observation]]],
) -> None:
    silences = SilenceDetector(BOUND_SECONDS)
    at = 0.0
    for step, by_partition in seen:
        at += step
        stalled = replace(WAITING, has_unsettled=True)
        assert 9 not in silences.observe(by_partition | {9: stalled}, at)


def test_an_active_consumer_waits_for_the_bound_and_a_standby_for_longer() -> None:
    assert silent_after(SilenceDetector(BOUND_SECONDS), WAITING) == BOUND_SECONDS
    standby = replace(WAITING, is_active=False)
    waited = silent_after(SilenceDetector(BOUND_SECONDS), standby)
    assert BOUND_SECONDS * STANDBY_FACTOR <= waited <= BOUND_SECONDS * STANDBY_FACTOR + 2


def test_a_standby_whose_queue_somebody_works_on_is_given_nothing_rightly() -> None:
    silences = SilenceDetector(BOUND_SECONDS)
    for second in range(100):
        moving = replace(WAITING, is_active=False, horizon=UNIX_EPOCH + timedelta(seconds=second))
        assert silences.observe({0: moving}, float(second)) == []


def test_a_standby_of_one_partition_that_is_given_those_of_another_does_not_suspect_its_node() -> None:
    silences = SilenceDetector(BOUND_SECONDS)
    for second in range(100):
        seen = {0: replace(WAITING, is_active=False), 1: replace(WAITING, arrived=True)}
        assert silences.observe(seen, float(second)) == []


def test_a_process_that_was_frozen_begins_anew() -> None:
    silences = SilenceDetector(BOUND_SECONDS)
    assert silences.observe({0: WAITING}, 100) == []
    assert silences.observe({0: WAITING}, 200) == []


def test_connections_are_given_up_less_and_less_often_until_something_arrives() -> None:
    silences = SilenceDetector(BOUND_SECONDS)
    bounds = []
    for _ in range(10):
        bounds.append(silences.bound_seconds)
        silences.give_up()
    assert bounds[:3] == [10, 20, 40]
    assert bounds[-1] == MAX_SILENCE_SECONDS
    silences.observe({0: replace(WAITING, arrived=True)}, 1000)
    assert silences.bound_seconds == BOUND_SECONDS


def test_a_new_connection_that_brings_nothing_either_does_not_end_the_silence() -> None:
    silences = SilenceDetector(BOUND_SECONDS)
    assert silent_after(silences, WAITING) == BOUND_SECONDS
    silences.give_up()
    stands_still = replace(WAITING, is_active=False, horizon=UNIX_EPOCH + timedelta(seconds=1))
    for second in range(3):
        silences.observe({0: stands_still}, 1020.0 + second)
        assert not silences.is_over
    assert silences.bound_seconds == 2 * BOUND_SECONDS
    silences.observe({0: replace(stands_still, horizon=UNIX_EPOCH + timedelta(seconds=2))}, 1024.0)
    assert silences.is_over  # another replica is at work


def at_times(seen: list[tuple[float, Observation]]) -> Iterator[tuple[float, Observation]]:
    """What is seen, with the time at which."""
    at = 0.0
    for step, sight in seen:
        at += step
        yield at, sight
