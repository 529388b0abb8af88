"""The size of the steps of a long piece of work follows how long they last."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tracking_shared.step_size import StepSize

SIZE = StepSize(items=20, least=10, most=100, target_seconds=0.01)

SIZES = st.builds(replace, st.just(SIZE), items=st.integers(10, 100))


def seconds_of(items: int, fixed: float, each: float) -> float:
    return fixed + items * each


@given(st.floats(0, 0.005), st.floats(0.00005, 0.0005), SIZES)
def test_steps_come_to_last_as_long_as_wanted(fixed: float, each: float, size: StepSize) -> None:
    for _ in range(100):
        size = size.after(size.items, seconds_of(size.items, fixed, each))
    seconds = seconds_of(size.items, fixed, each)
    assert seconds <= 1.25 * SIZE.target_seconds or size.items == SIZE.least
    assert seconds >= 0.75 * SIZE.target_seconds or size.items == SIZE.most


@given(SIZES, st.integers(1, 100), st.floats(0, 10))
def test_a_size_is_never_out_of_its_bounds_and_changes_by_a_factor_of_two_at_most(
    size: StepSize, items: int, seconds: float
) -> None:
    after = size.after(min(items, size.items), seconds).items
    assert SIZE.least <= after <= SIZE.most
    assert size.items // 2 <= after <= 2 * size.items


def test_a_quick_step_with_the_rest_of_a_list_changes_nothing() -> None:
    assert SIZE.after(3, 0.002) == SIZE
    assert SIZE.after(3, 0.02).items == 10
