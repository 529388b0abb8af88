"""What corrections leave of a history, once more in the plainest words, for tests to compare with."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from tracking_shared.contracts.documents import EventDocument


def as_corrected(history: list[EventDocument]) -> list[EventDocument]:
    """The changes of status that were right, in plain words: where a correction leads back to a status that
    the order had, all since was wrong; else what it leaves was wrong if that was the end.
    """
    right: list[EventDocument] = []
    for event in history:
        if event["status"] == event["previous_status"]:
            continue
        if "reason" in event:
            statuses = [earlier["status"] for earlier in right]
            if event["status"] in statuses:
                right = right[: statuses.index(event["status"]) + 1]
                continue
            if statuses[-1] in ("delivered", "cancelled"):
                right.pop()
        right.append(event)
    return right


def corrected_steps(events: Iterable[EventDocument]) -> Iterator[EventDocument]:
    """The changes of status that were right, of all orders."""
    histories: dict[str, list[EventDocument]] = defaultdict(list)
    for event in events:
        histories[event["order_id"]].append(event)
    for history in histories.values():
        yield from as_corrected(sorted(history, key=lambda event: event["version"]))
