"""The results of operations, and the reasons of refusals, as values. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """The kinds of result of an operation."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    """It had been applied before, under the same update id. Nothing happened now."""
    REJECTED = "rejected"
    HELD = "held"
    """It came too early. The server keeps it, and decides it when what comes before it has come, or its time
    is over."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem document (RFC 9457)."""

    slug: str
    """The last part of `type`, such as `invalid-transition`."""
    title: str
    status: int
    """The HTTP status that belongs to the type."""
    detail: str
    document: Mapping[str, Any]
    """The whole document, with the members of this type, such as `allowed_next` or `errors`."""

    def __str__(self) -> str:
        return f"{self.title}: {self.detail}" if self.detail else self.title


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one operation."""

    update_id: str | None
    """None: the server could not read the operation so far."""
    order_id: str | None
    outcome: Outcome
    version: int | None = None
    """The version of the order after an applied operation."""
    problem: Problem | None = None
    """The reason of a rejection."""

    @property
    def is_applied(self) -> bool:
        """True if the operation took effect, now or before."""
        return self.outcome in (Outcome.APPLIED, Outcome.DUPLICATE)


def problem_of(document: object) -> Problem | None:
    """The problem in a document; None if the document is another one."""
    if not isinstance(document, dict) or not isinstance(document.get("type"), str):
        return None
    status = document.get("status")
    return Problem(
        slug=document["type"].rpartition("/")[2],
        title=str(document.get("title") or ""),
        status=status if isinstance(status, int) else 0,
        detail=str(document.get("detail") or ""),
        document=document,
    )


def result_of(document: Mapping[str, Any]) -> Result:
    """The result in a line of a batch's answer, or in the outcome of an update.

    Raises:
        ValueError: the outcome is none of `Outcome`.
    """
    outcome = Outcome(document["outcome"])
    return Result(
        update_id=document.get("update_id"),
        order_id=document.get("order_id"),
        outcome=outcome,
        version=None if outcome is Outcome.REJECTED else document.get("version"),
        problem=problem_of(document.get("problem")),
    )
