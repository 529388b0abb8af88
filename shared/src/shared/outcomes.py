"""Outcomes: what became of a command, and how order-state tells the ingest that waits."""

from typing import Any, Literal, TypedDict

import orjson

from shared.documents import ProblemDocument

REPLIES_MEDIA_TYPE = "application/vnd.tracking.replies+json"


class Outcome(TypedDict):
    """What became of one command. `replayed`: it was decided before, and this is the stored outcome."""

    update_id: str
    order_id: str
    outcome: Literal["applied", "rejected"]
    replayed: bool
    version: int | None
    order: dict[str, Any] | None
    problem: ProblemDocument | None


class Reply(TypedDict):
    """The outcomes of the commands of one message, in their order."""

    message_id: str
    outcomes: list[Outcome]


def decode_replies(body: bytes) -> list[Reply]:
    """The replies in one message: a JSON array."""
    replies: list[Reply] = orjson.loads(body)
    return replies
