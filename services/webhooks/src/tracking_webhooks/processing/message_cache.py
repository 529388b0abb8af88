"""Messages of events that were made a moment ago: an event is encoded once for all webhooks that get it."""

from tracking_shared.contracts.documents import EventDocument
from tracking_shared.contracts.workflow import Workflow
from tracking_webhooks.domain.message import Message, event_message

MAX_MESSAGES = 2_000
"""Some 2 KB each."""


class MessageCache:
    """The messages of one process."""

    def __init__(self, workflow: Workflow) -> None:
        self._workflow = workflow
        self._made: dict[tuple[int, bool], tuple[EventDocument, Message]] = {}

    def of(self, event: EventDocument, *, with_customer: bool) -> Message:
        """The message of an event."""
        key = (event["_id"], with_customer)
        known = self._made.get(key)
        # One that was read again may have lost its customer meanwhile.
        if known is not None and known[0] is event:
            return known[1]
        message = event_message(event, self._workflow, with_customer=with_customer)
        self._made.pop(key, None)
        self._made[key] = event, message
        if len(self._made) > MAX_MESSAGES:
            del self._made[next(iter(self._made))]
        return message
