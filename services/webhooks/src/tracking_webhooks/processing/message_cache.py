"""Messages of new events: an event is encoded once for all webhooks that get it."""

from collections import OrderedDict

from tracking_shared.contracts.documents import EventDocument
from tracking_shared.contracts.workflow import Workflow
from tracking_webhooks.domain.message import Message, event_message

MAX_MESSAGES = 2_000
"""Some 2 KB each."""


class MessageCache:
    """The messages of one process."""

    def __init__(self, workflow: Workflow) -> None:
        self._workflow = workflow
        # A plain dictionary looks for its oldest entry among those that were removed before it.
        self._made: OrderedDict[tuple[int, bool], tuple[EventDocument, Message]] = OrderedDict()

    def of(self, event: EventDocument, *, with_customer: bool, is_shared: bool) -> Message:
        """The message of an event. `is_shared`: other webhooks may send the same object. One that a
        webhook has read for itself is not remembered.
        """
        if not is_shared:
            return event_message(event, self._workflow, with_customer=with_customer)
        key = (event["_id"], with_customer)
        known = self._made.get(key)
        # One that was read again may have lost its customer meanwhile.
        if known is not None and known[0] is event:
            return known[1]
        message = event_message(event, self._workflow, with_customer=with_customer)
        self._made.pop(key, None)
        self._made[key] = event, message
        if len(self._made) > MAX_MESSAGES:
            self._made.popitem(last=False)
        return message
