"""A database that charges what a cursor reads to the `maxTimeMS` of its query, as MongoDB does.

MongoDB's manual on `maxTimeMS`: it is a cumulative limit for processing operations on a cursor; of the time
between two batches nothing is charged. The embedded database takes the option and keeps no account.
"""

from dataclasses import dataclass, field

from wire_tap import Document

_EXPIRED: Document = {
    "ok": 0.0,
    "code": 50,
    "codeName": "MaxTimeMSExpired",
    "errmsg": "operation exceeded time limit",
}


@dataclass
class CursorBudgets:
    """The `answer` of a tap."""

    document_ms: float
    """What each document costs."""
    left_ms: dict[int, float] = field(default_factory=dict)
    """Of each open cursor, by its id."""
    expired: int = 0
    """Commands that were answered with an error."""

    def __call__(self, command: Document, answer: Document) -> Document:
        cursor = answer.get("cursor")
        if cursor is None:
            return answer
        documents = cursor.get("firstBatch", cursor.get("nextBatch", ()))
        if "getMore" in command:
            left = self.left_ms.pop(command["getMore"], float("inf"))
        else:
            left = command.get("maxTimeMS", float("inf"))
        left -= self.document_ms * len(documents)
        if left < 0:
            self.expired += 1
            return _EXPIRED
        if cursor["id"]:
            self.left_ms[cursor["id"]] = left
        return answer
