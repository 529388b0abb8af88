"""The checker itself: it must notice each fault that it is there for."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta

import pytest

from builders import TIME, checkpoint_command, correct_command, create_command, update_command
from tracking.upkeep.checker import Acknowledged, Inspection, Records, corrections_in, find_faults
from tracking_order_state.domain.batch import decide_batch
from tracking_order_state.domain.decisions import Known
from tracking_order_state.domain.parking import park
from tracking_order_state.domain.partition import NOTHING_PARKED, Slot, encode_parked_orders
from tracking_shared.contracts.commands import AnyCommand
from tracking_shared.contracts.documents import EventDocument, applied_outcome, correction_entry, update_key
from tracking_shared.contracts.messages import cloud_event
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

Seed = Callable[[Records], None]


def sound(*more: AnyCommand) -> Records:
    commands = [
        create_command("a", update_id="1"),
        create_command("b", update_id="2"),
        update_command("a", "picked_up", update_id="3"),
        update_command("a", "delivered", update_id="4"),
        update_command("a", "in_transit", update_id="5"),
        *more,
    ]
    decided = decide_batch(
        commands, Known({}, {}, {}), partition=0, seq=0, time=TIME, workflow=DEFAULT_WORKFLOW
    )
    return Records(
        list(decided.orders.values()),
        decided.events,
        list(decided.refusals.values()),
        [{"_id": 0, "seq": len(decided.events), "commits": 1, "worker": "w", "epoch": "e", "parked": []}],
        audit=[correction_entry(event, 400) for event in corrections_in(decided.events)],
    )


def announced(records: Records) -> list[dict[str, object]]:
    return [cloud_event(event, DEFAULT_WORKFLOW) for event in records.events]


ACKNOWLEDGED = [
    Acknowledged("a", "1", "applied", 1),
    Acknowledged("a", "3", "duplicate", 2),
    Acknowledged("a", "4", "rejected", None, "invalid-transition"),
    Acknowledged("a", "5", "accepted"),
]


def test_sound_records_have_no_faults() -> None:
    records = sound()
    assert find_faults(records, ACKNOWLEDGED, announced(records)) == []


def drop_an_event(records: Records) -> None:
    del records.events[1]


def drop_the_newest_event(records: Records) -> None:
    records.events.pop()


def apply_twice(records: Records) -> None:
    again = deepcopy(records.events[-1])
    again |= {"version": 4, "seq": 5, "_id": 5, "previous_status": "in_transit"}
    records.events.append(again)
    records.partitions[0]["seq"] = 5


def skip_a_version(records: Records) -> None:
    records.events[-1]["version"] = 4


def skip_a_seq(records: Records) -> None:
    records.events[-1]["seq"] = 9


def break_the_state(records: Records) -> None:
    records.orders[0]["status"] = "delivered"


def make_an_illegal_step(records: Records) -> None:
    records.events[-1]["status"] = "delivered"


def lose_an_outcome(records: Records) -> None:
    records.updates[:] = [update for update in records.updates if update["update_id"] != "4"]


def lose_an_effect(records: Records) -> None:
    del records.events[-1]["update_key"]


def give_an_effect_to_another_update(records: Records) -> None:
    records.events[-1]["update_key"] = "a/6"


def refuse_what_took_effect(records: Records) -> None:
    [refusal], [*_, event] = records.updates, records.events
    key = update_key(event["order_id"], event["update_id"])
    records.updates.append(refusal | {"_id": key})


def store_the_outcome_of_another_event(records: Records) -> None:
    records.updates.append(applied_outcome(records.events[-1]) | {"version": 1})


def turn_an_outcome(records: Records) -> None:
    next(update for update in records.updates if update["update_id"] == "4")["outcome"] = "applied"


def move_to_a_foreign_partition(records: Records) -> None:
    records.partitions.append({"_id": 1, "seq": 0, "commits": 0, "worker": "", "epoch": "e", "parked": []})


def lose_every_trace_of_an_order(records: Records) -> None:
    records.orders[:] = [order for order in records.orders if order["_id"] != "b"]
    records.events[:] = [event for event in records.events if event["order_id"] != "b"]
    records.updates[:] = [update for update in records.updates if update["order_id"] != "b"]


def lose_an_order(records: Records) -> None:
    records.orders.pop()


@pytest.mark.parametrize(
    "seed",
    [
        drop_an_event,
        drop_the_newest_event,
        apply_twice,
        skip_a_version,
        skip_a_seq,
        break_the_state,
        make_an_illegal_step,
        lose_an_outcome,
        lose_an_effect,
        give_an_effect_to_another_update,
        refuse_what_took_effect,
        store_the_outcome_of_another_event,
        turn_an_outcome,
        move_to_a_foreign_partition,
        lose_every_trace_of_an_order,
        lose_an_order,
    ],
)
def test_a_seeded_fault_is_noticed(seed: Seed) -> None:
    records = sound()
    seed(records)
    assert find_faults(records, ACKNOWLEDGED)


def with_parked() -> Records:
    """Sound records, and an update that waits."""
    records = sound()
    parked = park(update_command("b", update_id="6"), None, NOTHING_PARKED, Slot(0, 4, TIME), "an error")
    records.parked.extend(parked.parked.values())
    records.partitions[0]["parked"] = encode_parked_orders(parked.parked_ranges)
    return records


def test_an_accepted_update_that_is_parked_is_not_lost() -> None:
    assert find_faults(with_parked(), [*ACKNOWLEDGED, Acknowledged("b", "6", "accepted")]) == []
    assert find_faults(with_parked(), [Acknowledged("b", "6", "applied", 2)])
    assert find_faults(sound(), [Acknowledged("b", "6", "accepted")])


def decide_a_parked_one(records: Records) -> None:
    records.parked[0]["_id"] = "a/5"


def lose_a_parked_one(records: Records) -> None:
    records.parked.clear()


def move_a_parked_one(records: Records) -> None:
    records.parked[0]["place"] = 2


def forget_a_line(records: Records) -> None:
    records.partitions[0]["parked"] = []


@pytest.mark.parametrize("seed", [decide_a_parked_one, lose_a_parked_one, move_a_parked_one, forget_a_line])
def test_a_fault_of_what_is_parked_is_noticed(seed: Seed) -> None:
    records = with_parked()
    seed(records)
    assert find_faults(records)


def with_held() -> Records:
    """Sound records, and an update that is held."""
    records = sound()
    early = update_command("c", update_id="6")
    holding = replace(DEFAULT_WORKFLOW, hold_early_seconds=60)
    decided = decide_batch([early], Known({}, {}, {}), partition=0, seq=5, time=TIME, workflow=holding)
    records.held.extend(decided.held.values())
    records.partitions[0] |= {"held": 1, "horizon": TIME + timedelta(seconds=120)}
    return records


def test_a_held_update_is_not_lost() -> None:
    for outcome in ("held", "accepted"):
        assert find_faults(with_held(), [*ACKNOWLEDGED, Acknowledged("c", "6", outcome)]) == []
        assert find_faults(sound(), [Acknowledged("c", "6", outcome)])
    assert find_faults(with_held(), [Acknowledged("c", "6", "applied", 2)])
    assert find_faults(sound(), [Acknowledged("a", "3", "held"), Acknowledged("a", "4", "held")]) == []


def hold_a_decided_one(records: Records) -> None:
    records.held[0] |= {"order_id": "a", "update_id": "3"}


def hold_a_refused_one(records: Records) -> None:
    records.held[0] |= {"order_id": "a", "update_id": "4"}


def lose_a_held_one(records: Records) -> None:
    records.held.clear()


def let_its_time_be_over(records: Records) -> None:
    records.partitions[0]["horizon"] = TIME + timedelta(seconds=400)


@pytest.mark.parametrize(
    "seed", [hold_a_decided_one, hold_a_refused_one, lose_a_held_one, let_its_time_be_over]
)
def test_a_fault_of_what_is_held_is_noticed(seed: Seed) -> None:
    records = with_held()
    seed(records)
    assert len(find_faults(records)) == 1


def with_corrections() -> Records:
    """Sound records: order b gets a checkpoint, a correction to a final status, and a checkpoint there."""
    return sound(
        checkpoint_command("b", update_id="6", metadata={"gate": 7}),
        correct_command("b", "delivered", update_id="7"),
        checkpoint_command("b", "proof_added", update_id="8"),
    )


def test_checkpoints_and_corrections_are_sound() -> None:
    records = with_corrections()
    assert [event["version"] for event in records.events if event["order_id"] == "b"] == [1, 2, 3, 4]
    assert find_faults(records, ACKNOWLEDGED, announced(records)) == []


def correction_of(records: Records) -> EventDocument:
    [correction] = corrections_in(records.events)
    return correction


def lose_an_entry(records: Records) -> None:
    records.audit = []


def tell_of_another_actor(records: Records) -> None:
    assert records.audit
    records.audit[0]["actor"]["sub"] = "mallory"


def tell_of_another_reason(records: Records) -> None:
    assert records.audit
    records.audit[0]["details"]["reason"] = "because"


def tell_of_a_correction_that_never_was(records: Records) -> None:
    assert records.audit
    records.audit.append(records.audit[0] | {"_id": "correction/a:2"})


def step_where_only_a_correction_leads(records: Records) -> None:
    del correction_of(records)["type"]


def correct_to_nowhere(records: Records) -> None:
    correction_of(records)["status"] = "eaten"


def move_by_a_checkpoint(records: Records) -> None:
    records.events[-1]["status"] = records.orders[-1]["status"] = "cancelled"


def change_the_metadata_by_a_checkpoint(records: Records) -> None:
    records.events[-1]["order_metadata"] = records.orders[-1]["metadata"] = {"gate": 8}


def close_at_another_time(records: Records) -> None:
    del records.events[-1]["closed_at"], records.orders[-1]["closing"]


@pytest.mark.parametrize(
    "seed",
    [
        lose_an_entry,
        tell_of_another_actor,
        tell_of_another_reason,
        tell_of_a_correction_that_never_was,
        step_where_only_a_correction_leads,
        correct_to_nowhere,
        move_by_a_checkpoint,
        change_the_metadata_by_a_checkpoint,
        close_at_another_time,
    ],
)
def test_a_fault_of_checkpoints_and_corrections_is_noticed(seed: Seed) -> None:
    records = with_corrections()
    seed(records)
    assert find_faults(records)


def test_a_correction_that_is_older_than_the_audit_trail_needs_no_entry() -> None:
    records = with_corrections()
    lose_an_entry(records)
    late = Inspection(records.partitions, audited_since=TIME + timedelta(days=1))
    assert [*late.order_faults(records)] == []
    assert [*Inspection(records.partitions, audited_since=TIME).order_faults(records)]


def test_an_announcement_that_is_missing_invented_changed_or_early_is_noticed() -> None:
    records = sound()
    good = announced(records)
    assert find_faults(records, (), good + good) == [], "repeats are allowed"
    assert find_faults(records, (), good[:-1])
    assert find_faults(records, (), [*good[:2], good[3], good[2]])
    assert find_faults(records, (), [*good, good[-1] | {"sequence": "9"}])
    assert find_faults(records, (), [*good[:-1], good[-1] | {"subject": "b"}])
