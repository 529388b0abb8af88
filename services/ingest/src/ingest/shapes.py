"""What ingest answers with: the public shapes of its documents, beside those of `shared.messages`.

They describe and are not run on the way of an answer; the integration tests check the real answers
against them.
"""

from typing import Annotated, Literal, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from shared.identifiers import Identifier
from shared.messages import DESCRIBED, OrderView, ProblemDetails, Version


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
    outcome: Literal["accepted"]


@with_config(DESCRIBED)
class Line(TypedDict):
    """What became of one operation of a batch."""

    index: Annotated[int, Field(ge=0)]
    """Its place in the batch."""
    update_id: Identifier | None
    """`null`: the operation cannot be read so far."""
    order_id: Identifier | None
    outcome: Literal["applied", "duplicate", "rejected", "accepted"]
    """`accepted`: taken and safe, not decided yet."""
    version: NotRequired[Version]
    """Of the order after an applied update."""
    problem: NotRequired[ProblemDetails]
    """Why it was rejected."""
    replayed: NotRequired[Literal[True]]
    """It was rejected before, under this update id, and was not decided again."""


@with_config(DESCRIBED)
class Results(TypedDict):
    """What became of the operations of a batch, in their order."""

    results: list[Line]
