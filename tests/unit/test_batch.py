"""A micro-batch: every command once, in order, whatever it repeats."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from builders import (
    EVERYONE,
    TIME,
    checkpoint_command,
    correct_command,
    create_command,
    update_command,
)
from property_examples import max_examples
from tracking.upkeep.checker import Records, find_faults
from tracking_order_state.domain.batch import decide_batch
from tracking_order_state.domain.decisions import Decisions, Known
from tracking_shared.contracts.access import Grant
from tracking_shared.contracts.commands import AnyCommand, Source
from tracking_shared.contracts.documents import EventDocument, OrderDocument, UpdateDocument, update_key
from tracking_shared.contracts.identifiers import content_update_id
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

NOTHING = Known({}, {}, {})


def batch(commands: list[AnyCommand], known: Known = NOTHING, seq: int = 0) -> Decisions:
    return decide_batch(commands, known, partition=0, seq=seq, time=TIME, workflow=DEFAULT_WORKFLOW)


def known_after(*results: Decisions) -> Known:
    orders: dict[str, OrderDocument] = {}
    events: dict[str, EventDocument] = {}
    refusals: dict[str, UpdateDocument] = {}
    for result in results:
        orders |= result.orders
        made = {update_key(event["order_id"], event["update_id"]): event for event in result.events}
        assert not events.keys() & made.keys()
        events |= made
        refusals = {key: one for key, one in refusals.items() if key not in result.replaced & made.keys()}
        refusals |= result.refusals
    return Known(orders, events, refusals)


def summary(decided: Decisions) -> list[tuple[str, bool, int | None, str | None]]:
    return [
        (o["outcome"], o["replayed"], o["version"], o["problem"]["slug"] if o["problem"] else None)
        for o in decided.outcomes
    ]


def test_commands_of_one_order_build_on_each_other() -> None:
    decided = batch([create_command(), update_command(), update_command(status="in_transit")])
    assert summary(decided) == [("applied", False, v, None) for v in (1, 2, 3)]
    assert [event["seq"] for event in decided.events] == [1, 2, 3]
    assert decided.orders["o-1"]["status"] == "in_transit"


def test_a_repeat_gets_the_stored_outcome_and_has_no_effect() -> None:
    create, update = create_command(), update_command()
    first = batch([create, update, create])
    assert summary(first)[2] == ("applied", True, 1, None)
    again = batch([create, update], known_after(first), seq=2)
    assert summary(again) == [("applied", True, 1, None), ("applied", True, 2, None)]
    assert again.is_empty
    assert not again.events
    assert again.outcomes[0]["order"] == first.outcomes[0]["order"]


def test_a_refusal_is_stored_and_repeated_even_when_it_would_be_legal_by_now() -> None:
    early = update_command(status="in_transit")
    first = batch([create_command(), early, update_command()])
    assert summary(first)[1] == ("rejected", False, None, "invalid-transition")
    again = batch([early], known_after(first), seq=2)
    assert summary(again) == [("rejected", True, None, "invalid-transition")]


def test_the_same_id_with_another_body_is_refused_and_stores_nothing() -> None:
    first = batch([create_command(), update_command(update_id="u")])
    again = batch([update_command(update_id="u", status="cancelled")], known_after(first), seq=2)
    assert summary(again) == [("rejected", False, None, "idempotency-key-reused")]
    assert again.is_empty


def test_a_repeated_checkpoint_or_correction_gets_the_stored_outcome_and_has_no_effect() -> None:
    commands = [create_command(), checkpoint_command(), correct_command(status="delivered")]
    first = batch([*commands, *commands[1:]])
    assert summary(first)[3:] == [("applied", True, 2, None), ("applied", True, 3, None)]
    again = batch(commands, known_after(first), seq=3)
    assert [o["order"] for o in again.outcomes if o] == [o["order"] for o in first.outcomes[:3] if o]
    assert again.is_empty


def test_an_update_id_names_one_change_of_whichever_kind() -> None:
    first = batch([create_command(), checkpoint_command(update_id="u")])
    others: list[AnyCommand] = [
        update_command(update_id="u"),
        correct_command(update_id="u"),
        checkpoint_command(update_id="u", message="another one"),
    ]
    again = batch(others, known_after(first), seq=2)
    assert summary(again) == [("rejected", False, None, "idempotency-key-reused")] * 3


def test_a_refused_checkpoint_is_stored_with_its_kind() -> None:
    decided = batch([create_command(), checkpoint_command(kind="delayed", expected_version=7, update_id="u")])
    [refusal] = decided.refusals.values()
    assert (refusal["requested_status"], refusal["kind"]) == ("", "delayed")
    assert summary(decided)[1] == ("rejected", False, None, "version-conflict")


def test_a_foreign_order_does_not_exist_and_keeps_no_trace_of_the_caller() -> None:
    first = batch([create_command(merchant_id="m-1")])
    stranger = Grant(merchants=frozenset({"m-2"}))
    again = batch(
        [update_command(grant=stranger), create_command(merchant_id="m-2", grant=stranger)],
        known_after(first),
        seq=1,
    )
    assert summary(again) == [
        ("rejected", False, None, "order-not-found"),
        ("rejected", False, None, "order-exists"),
    ]
    assert again.outcomes[1]["problem"] == {
        "slug": "order-exists",
        "detail": "The order id o-1 is taken.",
        "members": {},
    }
    assert again.is_empty


def test_who_asks_for_an_order_before_it_is_there_takes_no_update_id_from_it() -> None:
    early = Source(type="driver", id="a-stranger")
    first = batch([update_command(update_id="u", source=early), update_command(update_id="c", source=early)])
    assert summary(first) == [("rejected", False, None, "order-not-found")] * 2
    again = batch(
        [create_command(update_id="c"), update_command(update_id="u"), update_command(update_id="u")],
        known_after(first),
    )
    assert summary(again) == [
        ("applied", False, 1, None),
        ("applied", False, 2, None),
        ("applied", True, 2, None),
    ]
    assert again.replaced == {"o-1/c", "o-1/u"}
    late = batch([update_command(update_id="u", source=early)], known_after(first, again), seq=2)
    assert summary(late) == [("applied", True, 2, None)]


def test_who_asks_for_an_order_before_it_is_there_is_answered_alike_when_it_is_there() -> None:
    early = update_command(update_id="u")
    first = batch([early, create_command()])
    assert summary(batch([early], known_after(first), seq=1)) == [("rejected", True, None, "order-not-found")]


def test_an_id_that_is_derived_from_content_does_not_pin_a_refusal_that_depends_on_the_order() -> None:
    early = update_command(status="in_transit", update_id=content_update_id(b"in transit"))
    missing = update_command("o-2", update_id=content_update_id(b"missing"))
    first = batch([create_command(), early, missing])
    assert summary(first)[1:] == [
        ("rejected", False, None, "invalid-transition"),
        ("rejected", False, None, "order-not-found"),
    ]
    again = batch([early, missing], known_after(first), seq=1)
    assert [outcome["replayed"] for outcome in again.outcomes if outcome] == [False, False]

    later = batch(
        [update_command(), early, create_command("o-2", update_id="c2"), missing], known_after(first), 1
    )
    assert summary(later) == [("applied", False, version, None) for version in (2, 3, 1, 2)]
    once_more = batch([early, missing], known_after(first, later), seq=5)
    assert summary(once_more) == [("applied", True, 3, None), ("applied", True, 2, None)]
    assert once_more.is_empty


def test_an_id_that_is_derived_from_content_still_names_that_content_alone() -> None:
    name = content_update_id(b"some row")
    first = batch([create_command(), update_command(status="in_transit", update_id=name)])
    other = batch([update_command(status="picked_up", update_id=name)], known_after(first), seq=1)
    assert summary(other) == [("rejected", False, None, "idempotency-key-reused")]


def test_a_token_for_single_orders_is_not_shown_the_customer() -> None:
    narrow = Grant(merchants=frozenset({"m-1"}), orders=frozenset({"o-1"}))
    decided = batch([create_command(), update_command(grant=narrow), update_command(status="in_transit")])
    assert [bool(o["order"] and "customer" in o["order"]) for o in decided.outcomes] == [True, False, True]


def test_an_event_of_an_earlier_release_is_recognised_by_what_it_says_where_its_fingerprint_is_gone() -> None:
    create, update = create_command(), update_command(update_id="u", metadata={"gate": 7})
    known = known_after(batch([create, update]))
    for event in known.events.values():
        del event["fingerprint"]
    other = [
        update_command(update_id="u", metadata={"gate": 8}),
        update_command(update_id="u", status="cancelled", metadata={"gate": 7}),
        create_command(update_id="u", metadata={"gate": 7}),
        update_command(update_id=create.update_id),
        create_command(update_id=create.update_id, merchant_id="m-2"),
        checkpoint_command(update_id="u", metadata={"gate": 7}),
        correct_command(update_id="u", status="picked_up", metadata={"gate": 7}),
    ]
    again = batch([create, update, *other], known, seq=2)
    assert summary(again) == [
        ("applied", True, 1, None),
        ("applied", True, 2, None),
        *[("rejected", False, None, "idempotency-key-reused")] * 7,
    ]
    assert again.is_empty


_ids = st.sampled_from(["o-1", "o-2", "o-3"])
_commands = st.one_of(
    st.builds(create_command, _ids, update_id=st.sampled_from(["c1", "c2", "c3"])),
    st.builds(
        update_command,
        _ids,
        st.sampled_from(sorted(DEFAULT_WORKFLOW.statuses)),
        update_id=st.sampled_from([f"u{n}" for n in range(12)]),
        grant=st.sampled_from([EVERYONE, Grant(merchants=frozenset({"other"}))]),
    ),
    st.builds(
        checkpoint_command,
        _ids,
        st.sampled_from(DEFAULT_WORKFLOW.checkpoints),
        update_id=st.sampled_from([f"u{n}" for n in range(12)]),
        metadata=st.sampled_from([{}, {"gate": 7}]),
        expected_version=st.sampled_from([None, 2]),
    ),
    st.builds(
        correct_command,
        _ids,
        st.sampled_from(sorted(DEFAULT_WORKFLOW.statuses)),
        update_id=st.sampled_from([f"u{n}" for n in range(12)]),
        expected_version=st.sampled_from([None, 3]),
        # The sender of the updates: of an order that does not exist, another sender's refusal under the
        # same update id takes the place of the first one, which is then forgotten.
        source=st.just(Source(type="driver", id="dora")),
    ),
)


@max_examples(200)
@given(st.lists(_commands, max_size=30), st.data())
def test_however_commands_are_cut_into_batches_and_repeated_the_records_hold(
    commands: list[AnyCommand], data: Any
) -> None:
    results: list[Decisions] = []
    position = 0
    while position < len(commands):
        end = data.draw(st.integers(position + 1, len(commands)))
        start = data.draw(st.integers(0, position))  # what was handled before may come again
        known = known_after(*results)
        results.append(batch(commands[start:end], known, seq=len(known.events)))
        position = end
    whole = batch(commands)
    known = known_after(*results)
    assert known.orders == whole.orders
    assert list(known.events.values()) == whole.events
    records = Records(
        list(known.orders.values()),
        list(known.events.values()),
        list(known.refusals.values()),
        [{"_id": 0, "seq": len(known.events), "commits": 0, "worker": "", "epoch": "e", "parked": []}],
    )
    assert find_faults(records) == []


_named_by_content = [content_update_id(name) for name in (b"1", b"2", b"3")]
_of_many_senders = st.one_of(
    st.builds(create_command, _ids, update_id=st.sampled_from(["c1", "u1", *_named_by_content])),
    st.builds(
        update_command,
        _ids,
        st.sampled_from(sorted(DEFAULT_WORKFLOW.statuses)),
        update_id=st.sampled_from(["c1", "u1", "u2", *_named_by_content]),
        source=st.builds(Source, type=st.just("driver"), id=st.sampled_from(["dora", "emil"])),
    ),
    st.builds(checkpoint_command, _ids, update_id=st.sampled_from(["u1", "u2", *_named_by_content])),
    st.builds(
        correct_command,
        _ids,
        st.sampled_from(sorted(DEFAULT_WORKFLOW.statuses)),
        update_id=st.sampled_from(["u1", "u2", *_named_by_content]),
    ),
)


@max_examples(200)
@given(st.lists(st.lists(_of_many_senders, max_size=8), max_size=8), st.sets(st.integers(0, 60)))
def test_whoever_sends_whatever_how_often_an_update_takes_effect_once_and_is_then_never_refused(
    batches: list[list[AnyCommand]], without_fingerprint: set[int]
) -> None:
    results: list[Decisions] = []
    for commands in batches:
        known = known_after(*results)
        for event in known.events.values():
            if event["seq"] in without_fingerprint:
                event.pop("fingerprint", None)
        results.append(batch(commands, known, seq=len(known.events)))
    known = known_after(*results)
    assert not known.events.keys() & known.refusals.keys()
    records = Records(
        list(known.orders.values()),
        list(known.events.values()),
        list(known.refusals.values()),
        [{"_id": 0, "seq": len(known.events), "commits": 0, "worker": "", "epoch": "e", "parked": []}],
    )
    assert find_faults(records) == []
    again = batch([command for commands in batches for command in commands], known, seq=len(known.events))
    assert (
        not {update_key(event["order_id"], event["update_id"]) for event in again.events}
        & known.events.keys()
    )
