"""A command that runs beside the services uses the database in short steps, one at a time, with pauses."""

import asyncio
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st
from virtual_time import simulate

from tracking.upkeep.pacing import DatabasePace, PacedSteps
from tracking_shared.step_size import StepSize

SIZE = StepSize(items=100, least=40, most=500, target_seconds=0.02)

ORDERS = st.dictionaries(st.uuids().map(str), st.integers(1, 60), max_size=80)


class Work:
    """Takes a time for each event, and notes what it was called with."""

    def __init__(self, events: Mapping[str, int], event_seconds: float) -> None:
        self._events = events
        self._event_seconds = event_seconds
        self.steps: list[list[str]] = []
        self.seconds = 0.0
        self.running = 0
        self.slow_steps = 0
        """So many of the next steps wait for something else."""

    async def __call__(self, order_ids: list[str]) -> int:
        assert self.running == 0
        self.running += 1
        number = sum(self._events[order_id] for order_id in order_ids)
        await asyncio.sleep(number * self._event_seconds + (1.0 if self.slow_steps > 0 else 0.0))
        self.slow_steps -= 1
        self.seconds += number * self._event_seconds
        self.steps.append(order_ids)
        self.running -= 1
        return number


@given(ORDERS, st.floats(0.00001, 0.001))
def test_all_orders_are_taken_once_in_their_order_and_half_of_the_time_is_for_others(
    events: dict[str, int], event_seconds: float
) -> None:
    async def simulation() -> None:
        clock = asyncio.get_running_loop().time
        started, work = clock(), Work(events, event_seconds)
        pace = DatabasePace()
        steps = PacedSteps(pace, SIZE)
        numbers = [number async for number in steps.over(events, work)]
        assert [order_id for some in work.steps for order_id in some] == list(events)
        assert sum(numbers) == sum(events.values())
        for some in work.steps:
            number = sum(events[order_id] for order_id in some)
            assert number <= SIZE.most or len(some) == 1
        assert clock() - started >= 1.99 * work.seconds

    simulate(simulation())


def test_steps_grow_again_after_a_slow_one_however_many_events_an_order_has() -> None:
    async def simulation() -> None:
        events = {str(number): 7 for number in range(2_000)}
        work = Work(events, 0.00005)
        work.slow_steps = 3
        async for _ in PacedSteps(DatabasePace(), SIZE).over(events, work):
            pass
        assert 7 * len(work.steps[3]) < SIZE.items
        assert 7 * len(work.steps[-2]) > 0.75 * 0.02 / 0.00005

    simulate(simulation())


def test_two_pieces_of_work_take_turns_and_an_order_of_very_many_events_is_a_step_of_its_own() -> None:
    async def simulation() -> None:
        pace = DatabasePace()
        events = {"a": 10, "b": 10_000, "c": 10}
        work = Work(events, 0.0001)

        async def whole() -> list[int]:
            return [number async for number in PacedSteps(pace, SIZE).over(events, work)]

        assert await asyncio.gather(whole(), whole()) == [[10, 10_000, 10]] * 2

    simulate(simulation())
