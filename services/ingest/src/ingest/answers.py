"""From outcomes to answers: what a single request and a line of a batch are told. Pure."""

from typing import Any

from shared.commands import CreateOrder, UpdateOrder
from shared.outcomes import Outcome
from shared.problems import Problem

AnyCommand = CreateOrder | UpdateOrder


def outcome_name(outcome: Outcome) -> str:
    """`applied`, `duplicate` or `rejected`: what callers see."""
    if outcome["outcome"] == "rejected":
        return "rejected"
    return "duplicate" if outcome["replayed"] else "applied"


def result_of(outcome: Outcome) -> dict[str, Any]:
    """The body of the answer to an update that was applied, now or before."""
    return {
        "update_id": outcome["update_id"],
        "order_id": outcome["order_id"],
        "outcome": outcome_name(outcome),
        "version": outcome["version"],
        "order": outcome["order"],
    }


def problem_of(outcome: Outcome) -> Problem:
    """Why it was refused, with the update id in it."""
    problem = outcome["problem"]
    if problem is None:
        return Problem("internal-error", "The outcome holds no reason.")
    return Problem(
        problem["slug"], problem["detail"], problem["members"] | {"update_id": outcome["update_id"]}
    )


def accepted(command: AnyCommand) -> dict[str, Any]:
    """The broker has it; the outcome can be read at `outcome_location`."""
    return {"update_id": command.update_id, "order_id": command.order_id, "outcome": "accepted"}


def outcome_location(command: AnyCommand) -> str:
    """Where query serves the outcome."""
    return f"/v1/updates/{command.order_id}/{command.update_id}"


def batch_line(
    index: int,
    update_id: str | None,
    order_id: str | None,
    told: Outcome | Problem | None,
    *,
    instance: str,
    trace_id: str | None,
) -> dict[str, Any]:
    """One line of a batch's answer. `told` is None where the command was accepted and not decided yet;
    `instance` and `trace_id` are those of the batch.
    """
    line: dict[str, Any] = {"index": index, "update_id": update_id, "order_id": order_id}
    if told is None:
        return line | {"outcome": "accepted"}
    if isinstance(told, Problem):
        named = {} if update_id is None else {"update_id": update_id}
        return line | {"outcome": "rejected", "problem": told.document(instance, trace_id) | named}
    if told["outcome"] == "rejected":
        rejected = {"outcome": "rejected", "problem": problem_of(told).document(instance, trace_id)}
        return line | rejected | ({"replayed": True} if told["replayed"] else {})
    return line | {"outcome": outcome_name(told), "version": told["version"]}
