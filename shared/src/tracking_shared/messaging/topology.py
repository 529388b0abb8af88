"""Exchanges and queues, by name and argument. Pure: the broker adapter declares what stands here."""

import re
from dataclasses import dataclass, replace
from typing import Any

COMMANDS_EXCHANGE = "orders.commands"
EVENTS_EXCHANGE = "orders.events"
DEAD_EXCHANGE = "orders.dead"
DEAD_QUEUE = "orders.dead"

DELIVERY_LIMIT = 50
"""Returns of a message before the broker dead-letters it. High, because a crash returns everything that
was prefetched, innocent messages too: at 20 prefetched, 50 crashes in a row are an incident, not a blip."""

QUEUE_MAX_MESSAGES = 20_000
"""Per partition. A full queue refuses publishes, which ingest turns into a 503."""

QUEUE_MAX_BYTES = 1024 * 1024 * 1024
"""Per partition; bounds what order-state may be behind by in bytes on disk."""

DEAD_MAX_MESSAGES = 100_000

DEAD_DELIVERY_LIMIT = 1_000_000
"""To look at a dead letter counts as a delivery, and by default RabbitMQ 4 drops it after 20."""


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue with its binding."""

    name: str
    exchange: str
    routing_key: str
    arguments: dict[str, Any]


MAY_DIFFER = (
    "x-delivery-limit",
    "x-max-length",
    "x-max-length-bytes",
    "x-queue-leader-locator",
    "x-quorum-initial-group-size",
)
"""Arguments by which a queue that exists may differ: bounds and placement. The broker never changes those of
a queue, so one of an earlier release, or of an operator, has others. Every other argument is a guarantee."""

_INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<name>[^']+)' for queue .* but current is "
    r"(?:none|(?:the value )?'(?P<value>[^']*)')"
)
"""RabbitMQ 3.10 says neither `the value` nor a type. The text ends at 255 bytes, for which the name of a
virtual host must be long."""


def as_it_exists(queue: Queue, refusal: str) -> Queue | None:
    """The queue with the argument that it has on the broker, by the text with which that refused the
    declaration. None: it differs in a guarantee, or the refusal says something else.
    """
    found = _INEQUIVALENT.search(refusal)
    if found is None or found["name"] not in MAY_DIFFER:
        return None
    arguments = {name: value for name, value in queue.arguments.items() if name != found["name"]}
    if found["value"] is not None:
        value = found["value"]
        arguments[found["name"]] = int(value) if value.lstrip("-").isdigit() else value
    return replace(queue, arguments=arguments)


def differences(declared: Queue, existing: Queue) -> str:
    """The arguments of a queue that are others than this release declares."""
    names = sorted(declared.arguments.keys() | existing.arguments.keys())
    return ", ".join(
        f"{name} is {existing.arguments.get(name, 'not set')}, not {declared.arguments.get(name, 'set')}"
        for name in names
        if declared.arguments.get(name) != existing.arguments.get(name)
    )


def routing_key(partition: int, route: int = 0) -> str:
    """The routing key of a partition on the commands exchange. `route` goes up when the number of partitions
    changes, and the keys before are not bound any more.
    """
    return f"r{route}.p{partition}" if route else f"p{partition}"


def partition_queue_name(partition: int) -> str:
    """The name of the queue that holds the commands of a partition."""
    return f"orders.commands.p{partition}"


def partition_queue(partition: int, route: int = 0) -> Queue:
    """The queue of one partition: replicated, bounded, one active consumer, nothing dropped silently."""
    return Queue(
        name=partition_queue_name(partition),
        exchange=COMMANDS_EXCHANGE,
        routing_key=routing_key(partition, route),
        arguments={
            "x-queue-type": "quorum",
            "x-single-active-consumer": True,
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-overflow": "reject-publish",
            "x-max-length": QUEUE_MAX_MESSAGES,
            "x-max-length-bytes": QUEUE_MAX_BYTES,
            "x-dead-letter-exchange": DEAD_EXCHANGE,
            "x-dead-letter-strategy": "at-least-once",
        },
    )


def dead_queue() -> Queue:
    """The queue of messages that cannot be decoded; kept for an operator."""
    return Queue(
        name=DEAD_QUEUE,
        exchange=DEAD_EXCHANGE,
        routing_key="",
        arguments={
            "x-queue-type": "quorum",
            "x-delivery-limit": DEAD_DELIVERY_LIMIT,
            "x-overflow": "reject-publish",
            "x-max-length": DEAD_MAX_MESSAGES,
        },
    )
