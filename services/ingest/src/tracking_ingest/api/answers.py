"""The answers to updates: their public shapes, and how they are made from outcomes. Pure.

The shapes describe and do not validate at run time; the integration tests check the real answers against
them.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from tracking_shared.contracts.commands import AnyCommand, Outcome
from tracking_shared.contracts.identifiers import Identifier
from tracking_shared.contracts.messages import DESCRIBED, OrderView, ProblemDetails, Version
from tracking_shared.contracts.problems import Problem


@with_config(DESCRIBED)
class Result(TypedDict):
    """The update was applied, now or before."""

    update_id: Identifier
    """The idempotency key, or the id that was made in its place."""
    order_id: Identifier
    outcome: Literal["applied", "duplicate"]
    """`duplicate`: it had been applied before; nothing happened now."""
    version: Version
    """Of the order after the update."""
    order: OrderView
    """As it was after the update."""


@with_config(DESCRIBED)
class Accepted(TypedDict):
    """The update is taken and safe; it is not decided yet."""

    update_id: Identifier
    order_id: Identifier
    outcome: Literal["accepted", "held"]
    """`held`: it came too early, and is decided when what comes before it has come, or its time is over."""


@with_config(DESCRIBED)
class Line(TypedDict):
    """The result of one operation of a batch."""

    index: Annotated[int, Field(ge=0)]
    """Its place in the batch."""
    update_id: Identifier | None
    """`null`: the operation cannot be read so far."""
    order_id: Identifier | None
    outcome: Literal["applied", "duplicate", "rejected", "accepted", "held"]
    """`accepted`: taken and safe, not decided yet. `held`: it came too early, and is decided when what comes
    before it has come, or its time is over.
    """
    version: NotRequired[Version]
    """Of the order after an applied update."""
    problem: NotRequired[ProblemDetails]
    """Why it was rejected."""
    replayed: NotRequired[Literal[True]]
    """It was rejected, or held, before under this update id, and was not decided again."""


@with_config(DESCRIBED)
class Results(TypedDict):
    """The results of the operations of a batch, in their order."""

    results: list[Line]


def outcome_name(outcome: Outcome) -> str:
    """The public name of an outcome: `applied`, `duplicate`, `rejected` or `held`."""
    if outcome["outcome"] != "applied":
        return outcome["outcome"]
    return "duplicate" if outcome["replayed"] else "applied"


def result_of(outcome: Outcome) -> dict[str, Any]:
    """The `Result` of an update that was applied, now or before."""
    return {
        "update_id": outcome["update_id"],
        "order_id": outcome["order_id"],
        "outcome": outcome_name(outcome),
        "version": outcome["version"],
        "order": outcome["order"],
    }


def problem_of(outcome: Outcome) -> Problem:
    """The problem of a rejected update, with its id."""
    problem = outcome["problem"]
    if problem is None:
        return Problem("internal-error", "The outcome holds no reason.")
    return Problem(
        problem["slug"], problem["detail"], problem["members"] | {"update_id": outcome["update_id"]}
    )


def accepted(command: AnyCommand, *, is_held: bool = False) -> dict[str, Any]:
    """The `Accepted` answer; the outcome can be read at `outcome_location`."""
    outcome = "held" if is_held else "accepted"
    return {"update_id": command.update_id, "order_id": command.order_id, "outcome": outcome}


def unavailable(command: AnyCommand) -> Problem:
    """The problem of an update that the broker may or may not have."""
    return Problem(
        "broker-unavailable",
        "The update may or may not have been taken. Repeat it with the same id; that is safe.",
        {"update_id": command.update_id, "order_id": command.order_id},
    )


def outcome_location(command: AnyCommand) -> str:
    """The path at which the outcome can be read."""
    return f"/v1/updates/{command.order_id}/{command.update_id}"


def batch_line(
    index: int,
    update_id: str | None,
    order_id: str | None,
    result: Outcome | Problem | None,
    *,
    instance: str,
    trace_id: str | None,
) -> dict[str, Any]:
    """Makes the `Line` of one operation. `result` is None if the command was accepted and is not decided yet;
    `instance` and `trace_id` are those of the batch.
    """
    line: dict[str, Any] = {"index": index, "update_id": update_id, "order_id": order_id}
    if result is None:
        return line | {"outcome": "accepted"}
    if isinstance(result, Problem):
        named = {} if update_id is None else {"update_id": update_id}
        return line | {"outcome": "rejected", "problem": result.document(instance, trace_id) | named}
    again = {"replayed": True} if result["replayed"] else {}
    if result["outcome"] == "held":
        return line | {"outcome": "held"} | again
    if result["outcome"] == "rejected":
        rejected = {"outcome": "rejected", "problem": problem_of(result).document(instance, trace_id)}
        return line | rejected | again
    return line | {"outcome": outcome_name(result), "version": result["version"]}
