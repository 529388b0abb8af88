"""The token bucket of a principal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking_shared.policy.limits import RateLimiter, rate_limit_field


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_burst_is_allowed_and_then_the_steady_pace(clock: Clock) -> None:
    limiter = RateLimiter(2, 10, clock=clock)
    assert [limiter.take("ann").allowed for _ in range(11)] == [True] * 10 + [False]
    clock.now += 1
    assert [limiter.take("ann").allowed for _ in range(3)] == [True, True, False]


def test_who_is_refused_is_told_when_to_come_back_and_is_allowed_then(clock: Clock) -> None:
    limiter = RateLimiter(2, 10, clock=clock)
    limiter.take("ann", 10)
    refused = limiter.take("ann", 7)
    assert (refused.allowed, refused.remaining, refused.wait_seconds) == (False, 0, 4)
    clock.now += refused.wait_seconds
    assert limiter.take("ann", 7).allowed


def test_a_refused_request_costs_nothing(clock: Clock) -> None:
    limiter = RateLimiter(1, 4, clock=clock)
    limiter.take("ann", 2)
    assert not limiter.take("ann", 3).allowed
    assert limiter.take("ann", 2).allowed


def test_one_principal_does_not_use_up_what_is_another_ones(clock: Clock) -> None:
    limiter = RateLimiter(1, 1, clock=clock)
    assert limiter.take("ann").allowed
    assert not limiter.take("ann").allowed
    assert limiter.take("bob").allowed


def test_what_costs_more_than_a_burst_is_allowed_after_a_rest_and_paid_for_later(clock: Clock) -> None:
    limiter = RateLimiter(10, 100, clock=clock)
    assert limiter.take("ann", 1000).allowed
    debt = limiter.take("ann")
    assert (debt.allowed, debt.remaining, debt.full_seconds) == (False, 0, 100)
    clock.now += debt.wait_seconds
    assert limiter.take("ann").allowed


def test_principals_are_bounded_and_the_longest_away_is_forgotten(clock: Clock) -> None:
    limiter = RateLimiter(1, 1, clock=clock, max_principals=2)
    for subject in ("ann", "bob", "ann", "cid"):
        limiter.take(subject)
    assert not limiter.take("ann").allowed
    assert limiter.take("bob").allowed  # begins anew


def test_the_fields_say_what_is_left(clock: Clock) -> None:
    limiter = RateLimiter(2, 10, clock=clock)
    assert limiter.policy == '"principal";q=10;w=5'
    assert rate_limit_field(limiter.take("ann", 3)) == '"principal";r=7;t=2'


@given(
    rate=st.floats(0.1, 100),
    burst=st.integers(1, 50),
    steps=st.lists(st.tuples(st.floats(0, 5), st.integers(1, 60)), max_size=60),
)
def test_no_one_ever_gets_more_than_a_burst_and_the_pace(
    rate: float, burst: int, steps: list[tuple[float, int]]
) -> None:
    clock = Clock()
    limiter = RateLimiter(rate, burst, clock=clock)
    begun, allowed, most = clock.now, 0, 0
    for pause, cost in steps:
        clock.now += pause
        state = limiter.take("ann", cost)
        assert 0 <= state.remaining <= burst
        assert (state.wait_seconds == 0) == state.allowed
        if state.allowed:
            allowed, most = allowed + cost, max(most, cost - burst)
        # A cost beyond the burst is a debt: one may be open.
        assert allowed <= burst + rate * (clock.now - begun) + max(most, 0) + 1e-6
