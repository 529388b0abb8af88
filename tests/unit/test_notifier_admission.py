"""Bounds on connections and on messages."""

import pytest

from notifier.admission import MESSAGES_AT_ONCE, MESSAGES_PER_SECOND, Admission, Allowance, MessageRate
from notifier.protocol import TOO_MANY, Refusal
from shared.concurrency_limits import Holder, Shares


def test_connections_are_limited_in_all_and_freed() -> None:
    admission = Admission(2, 10, Shares())
    with admission.connection():
        with admission.connection(), pytest.raises(Refusal) as refused, admission.connection():
            pass
        assert refused.value.code == TOO_MANY
        with admission.connection():
            pass


def test_connections_are_limited_per_principal_and_freed() -> None:
    admission = Admission(10, 1, Shares())
    ann, bob = Holder("ann", None), Holder("bob", None)
    admission.enter(ann)
    admission.enter(bob)
    with pytest.raises(Refusal) as refused:
        admission.enter(ann)
    assert refused.value.code == TOO_MANY
    admission.leave(ann)
    admission.enter(ann)


def test_without_a_number_a_principal_and_a_merchant_may_have_their_shares() -> None:
    admission = Admission(8, None, Shares(0.5, 0.75))
    for _ in range(4):
        admission.enter(Holder("ann", "acme"))
    with pytest.raises(Refusal):
        admission.enter(Holder("ann", "acme"))
    for _ in range(2):
        admission.enter(Holder("bob", "acme"))
    with pytest.raises(Refusal):
        admission.enter(Holder("bob", "acme"))
    admission.enter(Holder("eve", "globex"))


def test_a_burst_is_let_through_and_a_flood_is_not() -> None:
    rate = MessageRate(now=100.0)
    for _ in range(MESSAGES_AT_ONCE):
        rate.spend(100.0)
    with pytest.raises(Refusal) as refused:
        rate.spend(100.0)
    assert refused.value.code == TOO_MANY


def test_a_steady_pace_is_never_refused() -> None:
    rate = MessageRate(now=0.0)
    for number in range(1000):
        rate.spend(number / MESSAGES_PER_SECOND)


def test_what_was_spent_is_regained_in_time_and_never_more_than_at_first() -> None:
    allowance = Allowance(3, 1 / 60, now=0.0)
    assert [allowance.spend(1.0) for _ in range(3)] == [True, True, True]
    allowance = Allowance(3, 1 / 60, now=0.0)
    assert [allowance.spend(float(second)) for second in (0, 1, 2, 3)] == [True, True, True, False]
    allowance = Allowance(2, 1 / 60, now=0.0)
    assert [allowance.spend(second) for second in (0.0, 0.0, 61.0, 10_000.0, 10_000.0, 10_000.0)] == [
        True,
        True,
        True,
        True,
        True,
        False,
    ]
