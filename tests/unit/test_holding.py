"""Updates that come too early are held, and decided when what they wait for has come."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import TIME, checkpoint_command, correct_command, create_command, update_command
from property_examples import max_examples
from shelf import HOLD_SECONDS, HOLDING, Shelf
from tracking_order_state.domain.holding import MAX_HELD_PER_ORDER, MAX_WAITING_PER_SENDER
from tracking_shared.contracts.access import Grant
from tracking_shared.contracts.commands import AnyCommand, Source
from tracking_shared.contracts.identifiers import content_update_id
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW, Workflow

HELD, AGAIN, APPLIED = ("held", None), ("held again", None), ("applied", None)
EARLY, UNKNOWN = ("rejected", "invalid-transition"), ("rejected", "order-not-found")
REUSED = ("rejected", "idempotency-key-reused")

STRANGER = Grant(merchants=frozenset({"m-2"}))
OWNER = Grant(merchants=frozenset({"m-1"}))


def at(minutes: int) -> Any:
    return TIME + timedelta(minutes=minutes)


def update(status: str, minutes: int | None = None, **fields: Any) -> AnyCommand:
    occurred_at = None if minutes is None else at(minutes)
    return update_command(status=status, occurred_at=occurred_at, **({"update_id": status} | fields))


def create(**fields: Any) -> AnyCommand:
    return create_command(**({"update_id": "created"} | fields))


def test_an_update_waits_for_its_order_and_for_the_steps_before_it() -> None:
    shelf = Shelf()
    assert shelf.send(update("delivered", 3)) == [HELD]
    assert shelf.send(update("picked_up", 1)) == [HELD]
    assert shelf.send(create()) == [APPLIED]
    assert shelf.steps() == ["created", "picked_up"]
    assert shelf.send(update("in_transit", 2)) == [APPLIED]
    assert shelf.steps() == ["created", "picked_up", "in_transit", "delivered"]
    assert not shelf.held
    assert not shelf.faults()


def test_a_released_update_makes_an_event_like_any_other() -> None:
    early = update("picked_up", 1, metadata={"van": 7}, received_at=at(2), traceparent="00-1-2-01")
    held, direct = Shelf(), Shelf()
    held.send(early)
    held.send(create())
    direct.send(create())
    direct.send(early)
    assert held.events == direct.events
    assert held.orders == direct.orders


def test_off_it_refuses_as_before() -> None:
    shelf = Shelf(DEFAULT_WORKFLOW)
    assert shelf.send(update("picked_up"), create(), update("delivered")) == [UNKNOWN, APPLIED, EARLY]
    assert not shelf.held


def test_what_cannot_be_reached_is_refused_at_once() -> None:
    shelf = Shelf()
    shelf.send(create(), update("picked_up"), update("cancelled"))
    assert shelf.send(update("delivered"), update("in_transit")) == [EARLY] * 2


def test_whoever_asks_for_a_version_does_not_wait() -> None:
    shelf = Shelf()
    assert shelf.send(update("picked_up", expected_version=1)) == [UNKNOWN]
    shelf.send(create())
    late = update("delivered", expected_version=1)
    assert shelf.send(late) == [EARLY]
    assert shelf.send(checkpoint_command("o-2", expected_version=1)) == [UNKNOWN]


def test_a_checkpoint_waits_for_its_order_and_a_correction_does_not() -> None:
    shelf = Shelf()
    assert shelf.send(checkpoint_command(update_id="note"), correct_command()) == [HELD, UNKNOWN]
    assert [one["kind"] for one in shelf.held.values()] == ["note"]
    shelf.send(create())
    assert shelf.steps() == ["created", "note"]


def test_a_correction_makes_way_for_a_held_update() -> None:
    shelf = Shelf()
    shelf.send(create(), update("delivered"))
    assert shelf.send(correct_command(status="in_transit", update_id="put-right")) == [APPLIED]
    assert shelf.steps() == ["created", "put-right", "delivered"]


def test_what_can_be_reached_no_more_waits_for_a_correction_until_its_time_is_over() -> None:
    shelf = Shelf()
    shelf.send(create(), update("delivered"))
    assert shelf.send(update("cancelled")) == [APPLIED]
    assert len(shelf.held) == 1
    assert shelf.send(correct_command(status="in_transit", update_id="put-right")) == [APPLIED]
    assert shelf.steps() == ["created", "cancelled", "put-right", "delivered"]


def test_a_repeat_of_a_held_update_is_answered_like_the_first_and_then_like_any() -> None:
    shelf = Shelf()
    early = update("picked_up")
    assert shelf.send(early, early) == [HELD, AGAIN]
    assert shelf.send(early) == [AGAIN]
    assert shelf.send(update("cancelled", update_id="picked_up")) == [REUSED]
    assert shelf.send(create(update_id="picked_up", source=early.source)) == [REUSED]
    shelf.send(create())
    assert shelf.send(early) == [("applied again", None)]


def test_the_time_is_over_for_an_order_that_never_came_and_for_a_step_that_never_came() -> None:
    shelf = Shelf()
    shelf.send(create(), update("delivered"), update_command("o-2", update_id="u"))
    assert shelf.pass_time(HOLD_SECONDS - 1) == []
    assert sorted(shelf.pass_time(1)) == sorted([EARLY, UNKNOWN])
    assert not shelf.held
    assert shelf.send(update("delivered")) == [("rejected again", "invalid-transition")]
    assert shelf.send(update("picked_up"), update("in_transit")) == [APPLIED] * 2
    assert shelf.steps() == ["created", "picked_up", "in_transit"]


def test_the_33rd_is_refused_at_once() -> None:
    shelf = Shelf()
    some = [update("in_transit", n, update_id=f"u{n}") for n in range(MAX_HELD_PER_ORDER + 1)]
    assert shelf.send(*some) == [HELD] * MAX_HELD_PER_ORDER + [UNKNOWN]
    shelf.send(create())
    assert shelf.send(update("in_transit", update_id="one-more")) == [EARLY]
    assert shelf.send(update("picked_up")) == [APPLIED]
    assert shelf.steps() == ["created", "picked_up", *(f"u{n}" for n in range(MAX_HELD_PER_ORDER))]


def test_whoever_invents_order_ids_fills_no_disk() -> None:
    shelf = Shelf()
    invented = [update_command(f"x-{n}", update_id="u") for n in range(MAX_WAITING_PER_SENDER + 1)]
    assert shelf.send(*invented[:100]) == [HELD] * 100
    assert shelf.send(*invented[100:]) == [HELD] * (MAX_WAITING_PER_SENDER - 100) + [UNKNOWN]
    assert shelf.send(update("picked_up", source=Source(type="driver", id="somebody else"))) == [HELD]
    assert shelf.send(create_command("x-7", update_id="c")) == [APPLIED]
    assert shelf.send(update_command("y-1", update_id="u")) == [HELD]


def test_a_stranger_gets_no_update_id_no_room_and_no_word_of_the_order() -> None:
    shelf = Shelf()
    source = Source(type="driver", id="a stranger")
    theirs = [
        update("picked_up", update_id=f"u{n}", grant=STRANGER, source=source)
        for n in range(MAX_HELD_PER_ORDER)
    ]
    assert shelf.send(*theirs) == [HELD] * MAX_HELD_PER_ORDER
    assert shelf.send(create(grant=OWNER)) == [APPLIED]
    assert shelf.steps() == ["created"]
    ours = update("in_transit", update_id="u0", grant=OWNER)
    assert shelf.send(ours) == [HELD]
    assert shelf.send(ours) == [AGAIN]
    assert shelf.send(update("picked_up", grant=OWNER)) == [APPLIED]
    assert shelf.steps() == ["created", "picked_up", "u0"]
    # Like for an order that is not there.
    assert sorted(shelf.pass_time()) == [REUSED] + [UNKNOWN] * (MAX_HELD_PER_ORDER - 1)
    assert {one["merchant_id"] for one in shelf.refusals.values()} == {None}


def test_two_senders_of_one_update_id_have_one_effect() -> None:
    shelf = Shelf()
    for name in ("one", "other"):
        assert shelf.send(update("picked_up", source=Source(type="driver", id=name))) == [HELD]
    shelf.send(create())
    assert shelf.steps() == ["created", "picked_up"]
    assert shelf.pass_time() == [REUSED]
    assert not shelf.refusals


def test_an_id_that_is_derived_from_content_is_decided_again_and_then_held() -> None:
    shelf = Shelf(DEFAULT_WORKFLOW)
    early = update("picked_up", update_id=content_update_id(b"picked up"))
    assert shelf.send(early) == [UNKNOWN]
    shelf.workflow = HOLDING
    assert shelf.send(early) == [HELD]
    assert not shelf.refusals


def test_what_is_held_is_decided_after_it_is_switched_off() -> None:
    shelf = Shelf()
    shelf.send(update("picked_up", 1), update_command("o-2", update_id="u"))
    shelf.workflow = DEFAULT_WORKFLOW
    assert shelf.send(create()) == [APPLIED]
    assert shelf.steps() == ["created", "picked_up"]
    assert shelf.pass_time() == [UNKNOWN]


def test_what_may_follow_under_another_table_is_applied_when_its_time_is_over() -> None:
    shelf = Shelf()
    shelf.send(create(), update("in_transit", 1), update("delivered", 2))
    rows = {**DEFAULT_WORKFLOW.transitions, "created": ("picked_up", "in_transit", "cancelled")}
    shelf.workflow = replace(HOLDING, transitions=rows)
    assert shelf.pass_time() == [APPLIED]
    assert shelf.steps() == ["created", "in_transit", "delivered"]


def test_at_one_moment_the_final_status_comes_last() -> None:
    shelf = Shelf()
    shelf.send(update("cancelled", 1, update_id="a"), update("picked_up", 1, update_id="b"))
    shelf.send(create())
    assert shelf.steps() == ["created", "b", "a"]


# In any order.

LINES = [f"s{n}" for n in range(7)]


@st.composite
def histories(draw: st.DrawFn) -> tuple[Workflow, list[AnyCommand]]:
    """A table of statuses, and a legal history in which each step can follow only the one before it.
    Otherwise one that overtakes another is applied at once, and the other is refused.
    """
    length = draw(st.integers(2, len(LINES)))
    line = LINES[:length]
    table = {status: [line[n + 1]] if n + 1 < length else [] for n, status in enumerate(line)}
    for status in line:  # ways back, and ways to elsewhere
        earlier = line[: line.index(status) + 1] if table[status] else []
        table[status] += draw(st.lists(st.sampled_from([*earlier, "elsewhere"]), max_size=2, unique=True))
    table["elsewhere"] = draw(st.lists(st.sampled_from(line), max_size=2, unique=True))
    if not table[line[-1]]:
        table[line[-1]] = []
    rows = {status: tuple(followers) for status, followers in table.items()}
    gaps = draw(st.lists(st.integers(0, 2), min_size=length, max_size=length))
    commands: list[AnyCommand] = [create(update_id="s0")]
    for n, status in enumerate(line[1:], start=1):
        when = sum(gaps[:n]) if draw(st.booleans()) else None
        commands.append(update(status, when, metadata={"n": n, status: n}))
    workflow = Workflow(line[0], rows, hold_early_seconds=HOLD_SECONDS)
    return workflow, commands


@st.composite
def cuts(draw: st.DrawFn, commands: list[Any]) -> list[list[Any]]:
    """The commands in any order, in batches of any size."""
    shuffled = draw(st.permutations(commands))
    batches: list[list[Any]] = [[]]
    for command in shuffled:
        if draw(st.booleans()):
            batches.append([])
        batches[-1].append(command)
    return [one for one in batches if one]


@max_examples(300)
@given(st.data())
def test_in_whichever_order_a_history_comes_the_order_ends_the_same(data: st.DataObject) -> None:
    workflow, history = data.draw(histories())
    notes: list[AnyCommand] = [
        checkpoint_command(update_id=f"note-{n}", occurred_at=at(n))
        for n in range(data.draw(st.integers(0, 3)))
    ]
    repeats = data.draw(st.lists(st.sampled_from([*history, *notes]), max_size=4))
    shelf, expected = Shelf(workflow), Shelf(workflow)
    expected.send(*history)
    for batch in data.draw(cuts([*history, *notes, *repeats])):
        assert "rejected" not in {outcome for outcome, _ in shelf.send(*batch)}
    steps = [step for step in shelf.steps() if not step.startswith("note")]
    assert steps == expected.steps() == [command.update_id for command in history]
    assert sorted(shelf.steps()) == sorted([*steps, *(note.update_id for note in notes)])
    ended, usual = shelf.orders["o-1"], expected.orders["o-1"]
    assert (ended["status"], ended["metadata"]) == (usual["status"], usual["metadata"])
    assert not shelf.held
    assert not shelf.faults()


@pytest.mark.parametrize("scans", [1, 2, 4])
@max_examples(50)
@given(data=st.data())
def test_repeated_scans_are_all_recorded_in_whichever_order_they_come(
    scans: int, data: st.DataObject
) -> None:
    history = [create(), update("picked_up", 0)]
    history += [update("in_transit", n, update_id=f"scan-{n}") for n in range(1, scans + 1)]
    shelf = Shelf()
    for batch in data.draw(cuts(history)):
        shelf.send(*batch)
    assert sorted(shelf.steps()) == sorted(command.update_id for command in history)
    assert shelf.orders["o-1"]["status"] == "in_transit"
    assert not shelf.held


_anything = st.one_of(
    st.builds(create_command, st.sampled_from(["o-1", "o-2"]), update_id=st.sampled_from(["c1", "c2"])),
    st.builds(
        update_command,
        st.sampled_from(["o-1", "o-2"]),
        st.sampled_from(sorted(DEFAULT_WORKFLOW.statuses)),
        update_id=st.sampled_from([f"u{n}" for n in range(8)]),
        grant=st.sampled_from([OWNER, STRANGER]),
        source=st.sampled_from([Source(type="driver", id="dora"), Source(type="driver", id="dan")]),
        occurred_at=st.one_of(st.none(), st.integers(0, 3).map(at)),
    ),
    st.builds(correct_command, st.sampled_from(["o-1", "o-2"]), update_id=st.sampled_from(["k1", "k2"])),
)


@max_examples(300)
@given(st.lists(st.one_of(_anything, st.just(None)), max_size=30))
def test_whatever_comes_nothing_that_could_follow_is_held_and_every_update_is_decided_in_the_end(
    sent: list[AnyCommand | None],
) -> None:
    shelf = Shelf()
    asked: set[tuple[str, str]] = set()
    for command in sent:
        if command is None:
            shelf.pass_time(HOLD_SECONDS // 3)
            continue
        [(outcome, _)] = shelf.send(command)
        if outcome == "held":
            asked.add((command.order_id, command.update_id))
        for one in shelf.held.values():
            order = shelf.orders.get(one["order_id"])
            entitled = order is not None and "m-1" in one["command"]
            assert not entitled or one["requested_status"] not in DEFAULT_WORKFLOW.allowed_next(
                order["status"]
            )
    shelf.pass_time()
    assert not shelf.held
    decided = shelf.events.keys() | shelf.refusals.keys()
    assert {f"{order_id}/{update_id}" for order_id, update_id in asked} <= decided
    assert not shelf.faults()
