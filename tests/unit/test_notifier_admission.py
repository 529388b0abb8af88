"""Bounds on connections and on messages."""

import pytest

from tracking_notifier.errors import Refusal
from tracking_notifier.session.admission import (
    MESSAGES_AT_ONCE,
    MESSAGES_PER_SECOND,
    Admission,
    MessageRate,
)
from tracking_notifier.stream.stream_messages import TOO_MANY
from tracking_shared.policy.limits import Holder, Shares, TokenBucket


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
    admission.acquire(ann)
    admission.acquire(bob)
    with pytest.raises(Refusal) as refused:
        admission.acquire(ann)
    assert refused.value.code == TOO_MANY
    admission.release(ann)
    admission.acquire(ann)


def test_without_a_number_a_principal_and_a_merchant_may_have_their_shares() -> None:
    admission = Admission(8, None, Shares(0.5, 0.75))
    for _ in range(4):
        admission.acquire(Holder("ann", "acme"))
    with pytest.raises(Refusal):
        admission.acquire(Holder("ann", "acme"))
    for _ in range(2):
        admission.acquire(Holder("bob", "acme"))
    with pytest.raises(Refusal):
        admission.acquire(Holder("bob", "acme"))
    admission.acquire(Holder("eve", "globex"))


def test_a_burst_is_let_through_and_a_flood_is_not() -> None:
    rate = MessageRate(now=100.0)
    for _ in range(MESSAGES_AT_ONCE):
        rate.consume(100.0)
    with pytest.raises(Refusal) as refused:
        rate.consume(100.0)
    assert refused.value.code == TOO_MANY


def test_a_steady_pace_is_never_refused() -> None:
    rate = MessageRate(now=0.0)
    for number in range(1000):
        rate.consume(number / MESSAGES_PER_SECOND)


def test_what_was_spent_is_regained_in_time_and_never_more_than_at_first() -> None:
    bucket = TokenBucket(3, 1 / 60, now=0.0)
    assert [bucket.take(1.0).allowed for _ in range(3)] == [True, True, True]
    bucket = TokenBucket(3, 1 / 60, now=0.0)
    assert [bucket.take(float(second)).allowed for second in (0, 1, 2, 3)] == [True, True, True, False]
    bucket = TokenBucket(2, 1 / 60, now=0.0)
    assert [bucket.take(second).allowed for second in (0.0, 0.0, 61.0, 10_000.0, 10_000.0, 10_000.0)] == [
        True,
        True,
        True,
        True,
        True,
        False,
    ]
