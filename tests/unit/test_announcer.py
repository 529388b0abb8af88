"""Messages to the broker stay well below what it takes, whatever is in them."""

from pathlib import Path
from typing import Any

from builders import create_command
from tracking_order_state.adapters.result_publisher import (
    MAX_RESULTS_MESSAGE_BYTES,
    EventPublisher,
    ResultPublisher,
)
from tracking_order_state.domain.batch import decide_batch
from tracking_order_state.domain.decisions import Known
from tracking_shared.contracts.commands import MAX_COMMANDS_PER_MESSAGE, Customer, Outcome, Reply
from tracking_shared.contracts.documents import EventDocument
from tracking_shared.contracts.timestamps import now
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

CONF = Path(__file__).parents[2] / "deploy/rabbitmq/rabbitmq.conf"
LARGEST_METADATA = {"a": "b" * 4088}
LARGEST_CUSTOMER = Customer(name="\U0001f69a" * 200, contact_ref="\U0001f69a" * 128)


class KeptMessages:
    """A publisher to nobody."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    async def publish(self, routing_key: str, body: bytes, **options: Any) -> None:
        self.sizes.append(len(body))


def largest() -> tuple[EventDocument, Outcome]:
    """An event and an outcome with as much in them as there may be."""
    command = create_command("o" * 64, "m" * 64, metadata=LARGEST_METADATA, customer=LARGEST_CUSTOMER)
    nothing = Known(orders={}, events={}, refusals={})
    decided = decide_batch([command], nothing, partition=0, seq=0, time=now(), workflow=DEFAULT_WORKFLOW)
    [outcome] = decided.outcomes
    assert outcome is not None
    return decided.events[0], outcome


async def test_the_largest_answers_and_events_leave_in_messages_that_the_broker_takes() -> None:
    event, outcome = largest()
    events, replies = KeptMessages(), KeptMessages()
    sender = EventPublisher(events)  # type: ignore[arg-type]  # a fake
    publisher = ResultPublisher(sender, replies, DEFAULT_WORKFLOW)  # type: ignore[arg-type]  # a fake
    reply: Reply = {"message_id": "m", "outcomes": [outcome] * MAX_COMMANDS_PER_MESSAGE}
    await publisher.publish_events([event] * 1000)
    await publisher.reply("ingest", [reply] * 4)
    [line] = [line for line in CONF.read_text().splitlines() if line.startswith("max_message_size")]
    limit = int(line.rpartition("=")[2])
    assert len(events.sizes) > 1
    assert max(events.sizes) < MAX_RESULTS_MESSAGE_BYTES + 12 * 1024
    assert len(replies.sizes) > 1
    assert max(replies.sizes) < 4 * 1024 * 1024 < limit / 2
