"""AsyncAPI 3: what such a document is made with, and the broker's part of it.

The schemas are those of the models, which the services themselves read messages with, or are checked
against in the tests.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from tracking_shared.api_docs.schemas import Document, PlainSchema
from tracking_shared.contracts import formats
from tracking_shared.contracts.commands import (
    COMMANDS_MEDIA_TYPE,
    MAX_COMMANDS_PER_MESSAGE,
    REPLIES_MEDIA_TYPE,
    Command,
    Reply,
)
from tracking_shared.contracts.formats import FORMAT, Format
from tracking_shared.contracts.messages import EVENTS_MEDIA_TYPE, CloudEvent
from tracking_shared.messaging.topology import (
    COMMANDS_EXCHANGE,
    DEAD_QUEUE,
    EVENTS_EXCHANGE,
    partition_queue,
    partition_queue_name,
    routing_key,
)

AMQP_BINDING = "0.3.0"


@dataclass(frozen=True, slots=True)
class Message:
    """One kind of message: its name in the document, and the type of its payload."""

    name: str
    payload: Any
    summary: str
    content_type: str = "application/json"
    correlation: str | None = None
    """The location of its correlation id, as a runtime expression."""
    form: Format | None = None
    """The format of a message on the broker."""


def ref(*path: str) -> Document:
    """A reference to another part of the document."""
    return {"$ref": "/".join(("#", *path))}


def components(messages: Sequence[Message]) -> Document:
    """The messages, and the schemas of everything that is in them."""
    inputs = [(message.name, "validation", TypeAdapter(message.payload)) for message in messages]
    payloads, definitions = TypeAdapter.json_schemas(
        inputs,  # type: ignore[arg-type] # its keys are Hashable, and lists are invariant
        ref_template="#/components/schemas/{model}",
        schema_generator=PlainSchema,
    )
    return {
        "messages": {
            message.name: _message(message, payloads[message.name, "validation"]) for message in messages
        },
        "schemas": _draft_7(definitions["$defs"]),
    }


def _message(message: Message, payload: Document) -> Document:
    document = {
        "name": message.name,
        "summary": message.summary,
        "contentType": message.content_type,
        "payload": _draft_7(payload),
    }
    if message.form is not None:
        document["headers"] = {
            "type": "object",
            "properties": {
                FORMAT: {
                    "type": "integer",
                    "minimum": 1,
                    "default": 1,
                    "description": f"Version of the format. This release writes {message.form.written}.",
                }
            },
        }
    if message.correlation:
        document["correlationId"] = {"location": message.correlation}
    return document


def _draft_7(schema: Any) -> Any:
    """The schema without what draft 7, which AsyncAPI builds on, has otherwise: members beside a `$ref`
    are not seen there, and AsyncAPI's `discriminator` is not OpenAPI's.
    """
    if isinstance(schema, list):
        return [_draft_7(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {name: _draft_7(value) for name, value in schema.items() if name != "discriminator"}
    if "$ref" in plain and len(plain) > 1:
        plain["allOf"] = [{"$ref": plain.pop("$ref")}]
    return plain


COMMANDS = Message(
    "commands",
    Annotated[list[Command], Field(min_length=1, max_length=MAX_COMMANDS_PER_MESSAGE)],
    "What callers asked for: creates and updates of one partition, in their order; rarely, a release",
    COMMANDS_MEDIA_TYPE,
    "$message.header#/message_id",
    form=formats.COMMANDS,
)
ANNOUNCED_EVENTS = Message(
    "announcedEvents",
    Annotated[list[CloudEvent], Field(min_length=1)],
    "Changes, those of each partition in the order of their sequence. May repeat; a hole is a missed message",
    EVENTS_MEDIA_TYPE,
    form=formats.EVENTS,
)
REPLIES = Message(
    "replies",
    Annotated[list[Reply], Field(min_length=1)],
    "What became of the commands of one or more messages",
    REPLIES_MEDIA_TYPE,
    form=formats.REPLIES,
)

BROKER_MESSAGES = (COMMANDS, ANNOUNCED_EVENTS, REPLIES)


def broker_channels() -> Document:
    """The channels on the broker."""
    servers = [ref("servers", "broker")]
    queue_arguments = partition_queue(0).arguments
    return {
        "commands": {
            "address": _any(routing_key(0)),
            "title": "Commands of a partition",
            "description": (
                f"A direct exchange with one queue a partition, `{_any(partition_queue_name(0))}`. A full"
                f" queue refuses; what is no batch of commands for its partition ends in `{DEAD_QUEUE}`."
                " After a change of the number of partitions the address is `r1.p{partition}`, then `r2.p…`."
            ),
            "servers": servers,
            "parameters": {"partition": {"description": "0 up to `PARTITIONS` - 1, by the order id"}},
            "messages": channel_messages(COMMANDS),
            "bindings": _exchange(COMMANDS_EXCHANGE, "direct", **{"x-queue-arguments": queue_arguments}),
        },
        "events": {
            "address": EVENTS_EXCHANGE,
            "title": "Committed changes",
            "description": (
                "A fanout exchange; the routing key is empty. A consumer binds a queue of its own."
                " Only what is committed is announced. A message may be lost when a node or order-state dies;"
                " the log has everything."
            ),
            "servers": servers,
            "messages": channel_messages(ANNOUNCED_EVENTS),
            "bindings": _exchange(EVENTS_EXCHANGE, "fanout"),
        },
        "replies": {
            "address": None,
            "title": "Outcomes for one ingest",
            "description": "The exclusive queue that the commands named in `reply_to`.",
            "servers": servers,
            "messages": channel_messages(REPLIES),
            "bindings": {
                "amqp": {
                    "is": "queue",
                    "queue": {"durable": False, "exclusive": True, "autoDelete": True},
                    "bindingVersion": AMQP_BINDING,
                }
            },
        },
    }


def _any(name_of_partition_0: str) -> str:
    return name_of_partition_0.removesuffix("0") + "{partition}"


def channel_messages(*messages: Message) -> Document:
    """The `messages` of a channel."""
    return {message.name: ref("components", "messages", message.name) for message in messages}


def _exchange(name: str, kind: str, **extensions: Any) -> Document:
    exchange = {"name": name, "type": kind, "durable": True, "autoDelete": False}
    binding = {"is": "routingKey", "exchange": exchange, "bindingVersion": AMQP_BINDING}
    return {"amqp": binding | extensions}


def broker_operations() -> Document:
    """The operations on the broker: senders and receivers."""
    reply = {
        "address": {
            "location": "$message.header#/reply_to",
            "description": "An AMQP property of the message; without it nobody waits.",
        },
        **on_channel("replies", REPLIES),
    }
    return {
        "sendCommands": _operation("ingest", "send", "commands", COMMANDS, mandatory=True) | {"reply": reply},
        "receiveCommands": _operation("order-state", "receive", "commands", COMMANDS, ack=True)
        | {"reply": reply},
        "sendEvents": _operation("order-state", "send", "events", ANNOUNCED_EVENTS),
        "receiveEvents": _operation("notifier", "receive", "events", ANNOUNCED_EVENTS, ack=True),
    }


def _operation(service: str, action: str, channel: str, message: Message, **binding: bool) -> Document:
    amqp = {"deliveryMode": 2, **binding, "bindingVersion": AMQP_BINDING}
    return {
        "action": action,
        "summary": message.summary,
        "tags": [{"name": service}],
        **on_channel(channel, message),
        "bindings": {"amqp": amqp},
    }


def on_channel(channel: str, *messages: Message) -> Document:
    """The `channel` and `messages` of an operation."""
    return {
        "channel": ref("channels", channel),
        "messages": [ref("channels", channel, "messages", message.name) for message in messages],
    }
