"""Outcomes: what became of a command, and how order-state tells the ingest that waits."""

from typing import Literal

import orjson
from pydantic import with_config
from typing_extensions import TypedDict

from shared.documents import ProblemDocument
from shared.identifiers import Identifier
from shared.messages import DESCRIBED, OrderView, Version
from shared.problems import CATALOGUE

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


_OUTCOME_PARTS = Outcome.__annotations__.keys()


@with_config(DESCRIBED)
class Reply(TypedDict):
    """The outcomes of the commands of one message."""

    message_id: str
    """That of the message with the commands."""
    outcomes: list[Outcome | None]
    """In the order of the creates and updates. `null`: not decided, its order waits for an operator."""


class UndecodableReplies(Exception):
    """The body of a message is not a batch of replies."""


def decode_replies(body: bytes) -> list[Reply]:
    """The replies in one message: a JSON array.

    Raises:
        UndecodableReplies: not an array of replies. Of an outcome only that it has all its parts is looked
            at: what is in them, order-state has made.
    """
    try:
        replies: list[Reply] = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UndecodableReplies(f"{len(body)} bytes: {error}") from None
    if not (isinstance(replies, list) and all(map(_is_reply, replies))):
        raise UndecodableReplies(f"{len(body)} bytes: not a list of replies")
    return replies


def _is_reply(reply: object) -> bool:
    if not (isinstance(reply, dict) and isinstance(reply.get("message_id"), str)):
        return False
    outcomes = reply.get("outcomes")
    return isinstance(outcomes, list) and all(map(_is_outcome, outcomes))


def _is_outcome(outcome: object) -> bool:
    if outcome is None:
        return True
    if not (isinstance(outcome, dict) and outcome.keys() >= _OUTCOME_PARTS):
        return False
    problem = outcome["problem"]
    return problem is None or (isinstance(problem, dict) and problem.get("slug") in CATALOGUE)
