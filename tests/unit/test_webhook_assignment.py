"""Which process delivers for which webhook."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tracking_webhooks.domain.rendezvous import (
    HELD_SECONDS,
    LEASE_SECONDS,
    LivingSenders,
    Seen,
    preferred_sender,
    steps,
)

SENDERS = ["a", "b", "c"]
WEBHOOKS = [f"wh_{number}" for number in range(300)]


def test_each_sender_gets_its_share() -> None:
    shares = Counter(preferred_sender(webhook, SENDERS) for webhook in WEBHOOKS)

    assert min(shares.values()) > 60


def test_when_a_sender_ends_only_its_webhooks_move() -> None:
    before = {webhook: preferred_sender(webhook, SENDERS) for webhook in WEBHOOKS}
    after = {webhook: preferred_sender(webhook, ["a", "c"]) for webhook in WEBHOOKS}

    assert all(before[webhook] in ("b", after[webhook]) for webhook in WEBHOOKS)


def test_a_free_webhook_is_taken_by_the_one_that_it_belongs_to() -> None:
    webhook = Seen("wh_1", 7, None)

    takers = [me for me in SENDERS if steps([webhook], SENDERS, me, {}).take]

    assert takers == [preferred_sender("wh_1", SENDERS)]


def test_a_webhook_of_a_living_sender_is_not_taken() -> None:
    me = preferred_sender("wh_1", SENDERS)
    other = next(sender for sender in SENDERS if sender != me)

    assert not steps([Seen("wh_1", 7, other)], SENDERS, me, {}).take
    assert steps([Seen("wh_1", 7, "dead")], SENDERS, me, {}).take


def test_a_webhook_that_belongs_to_a_new_sender_is_given_up() -> None:
    me = next(sender for sender in SENDERS if sender != preferred_sender("wh_1", SENDERS))

    found = steps([Seen("wh_1", 7, me)], SENDERS, me, {"wh_1": 7})

    assert (found.give_up, found.drop, found.take) == (["wh_1"], [], [])


def test_a_webhook_that_was_not_given_up_and_belongs_to_another_is_freed() -> None:
    me = next(sender for sender in SENDERS if sender != preferred_sender("wh_1", SENDERS))

    found = steps([Seen("wh_1", 7, me)], SENDERS, me, {})

    assert (found.free, found.take, found.give_up, found.drop) == ([Seen("wh_1", 7, me)], [], [], [])


def test_a_webhook_that_was_changed_taken_over_or_deleted_is_dropped() -> None:
    seen = [Seen("changed", 8, "a"), Seen("taken", 7, "b"), Seen("mine", 7, "a")]

    found = steps(seen, ["a"], "a", {"changed": 7, "taken": 7, "mine": 7, "deleted": 3})

    assert sorted(found.drop) == ["changed", "deleted", "taken"]


def test_a_sender_that_does_not_count_up_is_dead_after_the_lease() -> None:
    living = LivingSenders("a")

    assert living.look({"a": 1, "b": 1}, 0) == {"a", "b"}
    assert living.look({"a": 2, "b": 1}, LEASE_SECONDS - 0.1) == {"a", "b"}
    assert living.look({"a": 3, "b": 1}, LEASE_SECONDS) == {"a"}
    assert living.look({"a": 4, "b": 2}, LEASE_SECONDS + 1) == {"a", "b"}
    assert living.look({"a": 5}, LEASE_SECONDS + 2) == {"a"}


def test_a_sender_stops_before_the_others_take_over() -> None:
    assert HELD_SECONDS < LEASE_SECONDS


@given(st.lists(st.sampled_from(WEBHOOKS), unique=True), st.sets(st.sampled_from(SENDERS), min_size=1))
def test_what_is_free_is_taken_by_exactly_one(webhooks: list[str], senders: set[str]) -> None:
    seen = [Seen(webhook, 0, None) for webhook in webhooks]

    taken = [one.webhook_id for me in senders for one in steps(seen, senders, me, {}).take]

    assert sorted(taken) == sorted(webhooks)
