"""The simulated fleet sends believable lives, and the mistakes that it promises."""

from collections import Counter
from random import Random

from tracking.fleet import MERCHANTS, REFERENCES, Plan, plan_order
from tracking_shared.contracts.identifiers import is_identifier
from tracking_shared.contracts.references import referenced_order_id
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW


def _plans(number: int = 500) -> list[Plan]:
    random = Random(7)
    return [plan_order(random) for _ in range(number)]


def _refused(plan: Plan) -> int:
    current = DEFAULT_WORKFLOW.initial
    refused = 0
    for step in plan.steps[1:]:
        if step.kind is not None:
            continue
        if step.reason is not None:
            assert step.status != current
            current = str(step.status)
        elif step.status in DEFAULT_WORKFLOW.allowed_next(current):
            current = str(step.status)
        else:
            refused += 1
    return refused


def test_every_life_begins_with_a_create_of_the_shop() -> None:
    for plan in _plans():
        assert is_identifier(plan.order_id)
        assert plan.merchant in MERCHANTS
        assert plan.steps[0].status is None
        assert (plan.steps[0].kind, plan.steps[0].reason) == (None, None)
        assert plan.steps[0].sender.source_type == "system"
        assert all(
            (step.kind in DEFAULT_WORKFLOW.checkpoints) != (step.status in DEFAULT_WORKFLOW.statuses)
            for step in plan.steps[1:]
        )


def test_most_lives_are_legal_and_some_are_not() -> None:
    refused = sum(_refused(plan) > 0 for plan in _plans())

    assert 20 < refused < 100


def test_there_are_repeats_late_reports_and_cancellations() -> None:
    steps = [step for plan in _plans() for step in plan.steps]
    counts = Counter(step.status for step in steps)

    assert 0.02 < sum(step.repeated for step in steps) / len(steps) < 0.1
    assert 0.02 < sum(step.late_seconds > 0 for step in steps) / len(steps) < 0.1
    assert 10 < counts["cancelled"] < 80
    assert counts["delivered"] > 350


def test_there_are_failed_attempts_notes_estimates_proofs_and_corrections_by_the_desk() -> None:
    steps = [step for plan in _plans() for step in plan.steps]
    kinds = Counter(step.kind for step in steps)
    assert 20 < kinds["delivery_attempted"] < 120
    assert 20 < kinds["note"] < 150
    assert 80 < kinds["proof_added"] < 250
    assert 80 < kinds["eta_changed"] < 300
    assert 40 < kinds["delayed"] < 250
    estimated = {step.kind for step in steps if step.eta_seconds is not None}
    assert estimated == {"eta_changed", "delayed"}
    corrections = [step for step in steps if step.reason]
    assert 3 < len(corrections) < 40
    assert {step.sender.subject for step in corrections} == {"desk"}


def test_most_orders_have_a_due_time_and_some_miss_it() -> None:
    plans = _plans()
    due = [plan for plan in plans if plan.due_seconds is not None]
    assert 0.85 < len(due) / len(plans) < 0.95
    late = [plan for plan in due if sum(step.wait_seconds for step in plan.steps) > (plan.due_seconds or 0)]
    assert 0.15 < len(late) / len(due) < 0.35


def test_some_merchants_have_numbers_of_their_own() -> None:
    for plan in _plans():
        assert (plan.reference is not None) == (plan.merchant in REFERENCES)
        if plan.reference is not None:
            assert plan.order_id == referenced_order_id(plan.merchant, plan.reference)


def test_order_ids_differ() -> None:
    assert len({plan.order_id for plan in _plans()}) == 500
