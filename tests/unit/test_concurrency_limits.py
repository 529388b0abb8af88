"""Shares of what may be in progress: never above a bound, always given back."""

import asyncio
from collections import Counter
from contextlib import ExitStack, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking_shared.contracts.access import Grant, Principal
from tracking_shared.policy.limits import ConcurrencyLimit, Holder, LimitReached, Shares, holder_of

HOLDERS = st.builds(Holder, st.sampled_from("abcd"), st.sampled_from(["x", "y", None]))


@given(
    capacity=st.integers(1, 6),
    per_principal=st.integers(1, 6),
    per_merchant=st.integers(1, 6),
    wishes=st.lists(st.tuples(st.booleans(), HOLDERS), max_size=60),
)
def test_no_bound_is_ever_exceeded_and_all_that_is_given_back_is_free(
    capacity: int, per_principal: int, per_merchant: int, wishes: list[tuple[bool, Holder]]
) -> None:
    limit = ConcurrencyLimit("test", capacity, per_principal, per_merchant)
    open_ones: list[Holder] = []
    for gives_back, holder in wishes:
        if gives_back and open_ones:
            limit.release(open_ones.pop())
            continue
        subjects = Counter(one.subject for one in open_ones)
        merchants = Counter(one.merchant for one in open_ones)
        full = {
            "principal": subjects[holder.subject] >= per_principal,
            "merchant": holder.merchant is not None and merchants[holder.merchant] >= per_merchant,
            "all": len(open_ones) >= capacity,
        }
        if any(full.values()):
            with pytest.raises(LimitReached) as reached:
                limit.acquire(holder)
            assert reached.value.exceeded == next(kind for kind, is_full in full.items() if is_full)
        else:
            limit.acquire(holder)
            open_ones.append(holder)
        assert limit.in_use == len(open_ones) <= capacity
    for holder in open_ones:
        limit.release(holder)
    assert (limit.in_use, limit.holders) == (0, 0)


def test_who_is_refused_is_not_remembered() -> None:
    limit = ConcurrencyLimit("test", 1, 1, 1)
    with limit.held(Holder("a", "x")):
        for number in range(100):
            with pytest.raises(LimitReached):
                limit.acquire(Holder(f"other-{number}", f"m-{number}"))
        assert limit.holders == 2
    assert limit.holders == 0


async def test_a_share_is_given_back_when_its_holder_is_cancelled() -> None:
    limit = ConcurrencyLimit("test", 2, 1, 2)

    async def hold() -> None:
        with limit.held(Holder("a", None)):
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await asyncio.sleep(0)
    assert limit.in_use == 1
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert limit.in_use == 0


@pytest.mark.parametrize(
    ("capacity", "expected"), [(1, (1, 1)), (2, (1, 1)), (8, (4, 6)), (2000, (1000, 1500))]
)
def test_a_share_is_a_part_of_the_whole_and_one_at_least(capacity: int, expected: tuple[int, int]) -> None:
    assert Shares().of(capacity) == expected


def test_a_greedy_merchant_with_many_users_leaves_room_for_others() -> None:
    limit = ConcurrencyLimit.with_shares("test", 8, Shares())
    with ExitStack() as open_ones:
        for number in range(6):
            open_ones.enter_context(limit.held(Holder(f"user-{number}", "greedy")))
        with pytest.raises(LimitReached) as reached:
            limit.acquire(Holder("another user", "greedy"))
        assert reached.value.exceeded == "merchant"
        open_ones.enter_context(limit.held(Holder("another", "modest")))


@pytest.mark.parametrize(
    ("merchants", "merchant"), [({"acme"}, "acme"), ({"acme", "globex"}, None), ({"*"}, None), (set(), None)]
)
def test_only_a_token_for_one_merchant_counts_for_a_merchant(
    merchants: set[str], merchant: str | None
) -> None:
    principal = Principal(
        subject="ann",
        source_type="system",
        scopes=frozenset(),
        grant=Grant(merchants=frozenset(merchants)),
        expires_at=0,
    )
    assert holder_of(principal) == Holder("ann", merchant)
