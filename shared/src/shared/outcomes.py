"""Outcomes: what became of a command, and how order-state tells the ingest that waits."""

from typing import Literal

import orjson
from pydantic import with_config
from typing_extensions import TypedDict

from shared.documents import ProblemDocument
from shared.identifiers import Identifier
from shared.messages import DESCRIBED, OrderView, Version

REPLIES_MEDIA_TYPE = "application/vnd.tracking.replies+json"


@with_config(DESCRIBED)
class Outcome(TypedDict):
    """What became of one command."""

    update_id: Identifier
    order_id: Identifier
    outcome: Literal["applied", "rejected"]
    replayed: bool
    """Whether it was decided before, and this is the stored outcome."""
    version: Version | None
    """Of the order after an applied command."""
    order: OrderView | None
    """The order after an applied command, as the caller may see it."""
    problem: ProblemDocument | None
    """Why a rejected command was refused."""


@with_config(DESCRIBED)
class Reply(TypedDict):
    """The outcomes of the commands of one message."""

    message_id: str
    """That of the message with the commands."""
    outcomes: list[Outcome | None]
    """In the order of the creates and updates. `null`: not decided, its order waits for an operator."""


def decode_replies(body: bytes) -> list[Reply]:
    """The replies in one message: a JSON array."""
    replies: list[Reply] = orjson.loads(body)
    return replies
