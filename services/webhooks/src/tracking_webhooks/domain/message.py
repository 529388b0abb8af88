"""The request that delivers an event. Pure."""

from datetime import datetime
from typing import Any, NamedTuple

import orjson

from tracking_shared.contracts.documents import EventDocument
from tracking_shared.contracts.messages import cloud_event, without_customer
from tracking_shared.contracts.timestamps import format_time
from tracking_shared.contracts.workflow import Workflow

MEDIA_TYPE = "application/cloudevents+json"

TEST_TYPE = "webhook.test"


class Message(NamedTuple):
    """The message that is sent: its id, the same at each attempt, and the body."""

    message_id: str
    body: bytes


def event_message(event: EventDocument, workflow: Workflow, *, with_customer: bool) -> Message:
    """The message of an event."""
    document = cloud_event(event, workflow)
    shown = document if with_customer else without_customer(document)
    return Message(document["id"], orjson.dumps(shown))


def sample_message(webhook_id: str, test_id: str, time: datetime) -> Message:
    """The message of a test delivery: a CloudEvent of a type of its own, about no order."""
    document: dict[str, Any] = {
        "specversion": "1.0",
        "id": test_id,
        "source": "/webhooks",
        "type": TEST_TYPE,
        "subject": webhook_id,
        "time": format_time(time),
        "datacontenttype": "application/json",
        "data": {"webhook_id": webhook_id},
    }
    return Message(test_id, orjson.dumps(document))
