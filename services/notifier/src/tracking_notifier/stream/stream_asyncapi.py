"""The AsyncAPI 3 document of the system: the stream, and the broker's channels from `shared`.

It describes the messages of the server as types, and the close codes. None of it runs while messages are
sent: `messages` encodes them by hand, because that is the hot path.
"""

from dataclasses import asdict, dataclass
from functools import cache
from typing import Literal

import orjson
from pydantic import with_config
from typing_extensions import TypedDict

from tracking_notifier.stream.sse import COMMENT_SECONDS, EVENT_STREAM, PARAMETERS
from tracking_notifier.stream.stream_messages import (
    BAD_MESSAGE,
    FORBIDDEN,
    MAX_CLIENT_MESSAGE_BYTES,
    NO_SUBSCRIBE,
    NOT_AUTHENTICATED,
    OVERLOADED,
    RESTARTING,
    STREAM_PATH,
    SUBPROTOCOL,
    TOO_BIG,
    TOO_MANY,
    Refresh,
    ResyncReason,
    Subscribe,
)
from tracking_shared.api_docs.asyncapi import (
    BROKER_MESSAGES,
    Message,
    broker_channels,
    broker_operations,
    channel_messages,
    components,
    on_channel,
    ref,
)
from tracking_shared.api_docs.schemas import Document
from tracking_shared.contracts.messages import DESCRIBED, CloudEvent, CursorText, OrderView, ProblemDetails


@with_config(DESCRIBED)
class Snapshot(TypedDict):
    """A page of the orders that match the filter."""

    type: Literal["snapshot"]
    orders: list[OrderView]
    more: bool
    """`true` if further pages follow."""


@with_config(DESCRIBED)
class Events(TypedDict):
    """Changes of orders that match the filter, or matched before the change: missed ones first, then live
    ones. A heartbeat is this message without events, for clients that asked for heartbeats.
    """

    type: Literal["events"]
    events: list[CloudEvent]
    """The events of one order are sorted by version."""
    cursor: CursorText
    """The position up to which the client has received everything. Store it after the message is handled."""


@with_config(DESCRIBED)
class Live(TypedDict):
    """The client has caught up, and live events follow. Sent once per subscription."""

    type: Literal["live"]
    cursor: CursorText


@with_config(DESCRIBED)
class Resync(TypedDict):
    """The client must discard its orders, because they cannot be brought up to date. A snapshot follows."""

    type: Literal["resync"]
    reason: ResyncReason
    cursor: CursorText


@with_config(DESCRIBED)
class ProblemMessage(TypedDict):
    """The reason why a message was refused, or why the connection will be closed."""

    type: Literal["problem"]
    problem: ProblemDetails


@dataclass(frozen=True, slots=True)
class CloseCode:
    """A code with which the server closes a connection, and the advice to the client."""

    code: int
    meaning: str
    advice: str
    reconnect: bool
    """True if the client should reconnect with its cursor after a wait. False if the same request would be
    refused again."""


_RECONNECT = "reconnect with your cursor"

CLOSE_CODES = (
    CloseCode(1011, "internal error; it is logged", _RECONNECT, reconnect=True),
    CloseCode(RESTARTING, "the server restarts, or the log was replaced", _RECONNECT, reconnect=True),
    CloseCode(
        OVERLOADED,
        "the client reads too slowly, missed events cannot be read, or this replica gets no new events",
        _RECONNECT,
        reconnect=True,
    ),
    CloseCode(BAD_MESSAGE, "a message that is not valid", "fix the request", reconnect=False),
    CloseCode(
        NOT_AUTHENTICATED,
        "no valid token, or it has expired or was revoked",
        "get a new token first",
        reconnect=False,
    ),
    CloseCode(FORBIDDEN, "the token does not allow this", "ask for the permission", reconnect=False),
    CloseCode(NO_SUBSCRIBE, "no subscribe in time", _RECONNECT, reconnect=True),
    CloseCode(TOO_BIG, "a message over 64 KiB", "fix the request", reconnect=False),
    CloseCode(
        TOO_MANY,
        "too many connections or messages",
        f"wait, then {_RECONNECT}",
        reconnect=True,
    ),
)
"""All close codes except the ordinary ones. The table of `docs/live-updates.md` is the same one."""


CLIENT_MESSAGES = (
    Message("subscribe", Subscribe, "Subscribes to the orders of a filter; a second one replaces the filter"),
    Message("refresh", Refresh, "Replaces the token before it expires"),
)
SERVER_MESSAGES = (
    Message("snapshot", Snapshot, "A page of the orders that match"),
    Message("events", Events, "Changes, missed ones first"),
    Message("live", Live, "The client has caught up"),
    Message("resync", Resync, "Discard all orders; a snapshot follows"),
    Message("problem", ProblemMessage, "The reason of a refusal"),
)

_DESCRIPTION = """\
The messages of the system: the live updates that the notifier streams to dashboards over WebSockets, or as
server-sent events, and the commands, events and replies of the services on the broker.

Unknown members: clients ignore them in all messages of the server, and skip server messages of an unknown
type. The services ignore them in events and replies, and keep them in commands. Unknown members in messages
of clients and callers are refused.

On the broker, the header `format` of a message is the version of its format; without it, that is 1. A
partition whose next message is in a newer format than its order-state reads waits for one that reads it.
ingest and notifier skip such replies and events: callers get 202, and events are read from the log."""

_STREAM = f"""\
A connection has one subscription. The client sends `subscribe` within 5 seconds and gets a snapshot, or
the events since its cursor, then `live`, then live events. A message of a client has at most
{MAX_CLIENT_MESSAGE_BYTES // 1024} KiB. `x-close-codes` lists the close codes; after any other end the client
should reconnect with its cursor.

`x-event-stream`: with this `Accept`, the messages come as server-sent events. `event` is the type of a
message, `id` its cursor if it has one, and `data` the message. The query has the members of `subscribe`."""


@cache
def encoded_document() -> bytes:
    """The document as indented JSON."""
    return orjson.dumps(asyncapi_document(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def asyncapi_document() -> Document:
    """Builds the document from the models."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Live order tracking: messages",
            "version": "1",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": {"stream": _stream_channel(), **broker_channels()},
        "operations": {**_stream_operations(), **broker_operations()},
        "components": {
            **components((*CLIENT_MESSAGES, *SERVER_MESSAGES, *BROKER_MESSAGES)),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "account": {"type": "userPassword", "description": "An account of the broker"},
            },
        },
    }


def _servers() -> Document:
    return {
        "notifier": {
            "host": "localhost:8003",
            "protocol": "ws",
            "description": "The port is `NOTIFIER_PORT`",
            "security": [ref("components", "securitySchemes", "token")],
        },
        "broker": {
            "host": "localhost:5672",
            "protocol": "amqp",
            "protocolVersion": "0.9.1",
            "description": "RabbitMQ, as in `AMQP_URL`; for the services, not for callers",
            "security": [ref("components", "securitySchemes", "account")],
        },
    }


def _stream_channel() -> Document:
    protocols = f"`{SUBPROTOCOL}`, and from a browser `bearer.<token>`"
    headers = {
        "Authorization": {"type": "string", "description": "`Bearer <token>`; or in `subscribe`"},
        "Sec-WebSocket-Protocol": {"type": "string", "description": protocols},
    }
    return {
        "address": STREAM_PATH,
        "title": "Live updates",
        "description": _STREAM,
        "servers": [ref("servers", "notifier")],
        "messages": channel_messages(*CLIENT_MESSAGES, *SERVER_MESSAGES),
        "bindings": {
            "ws": {
                "method": "GET",
                "headers": {"type": "object", "properties": headers},
                "bindingVersion": "0.1.0",
            }
        },
        "x-event-stream": _event_stream(),
        "x-close-codes": [asdict(close_code) for close_code in CLOSE_CODES],
    }


def _event_stream() -> Document:
    text = {"type": "string"}
    return {
        "method": "GET",
        "headers": {
            "Accept": text | {"const": EVENT_STREAM},
            "Authorization": text | {"description": "`Bearer <token>`"},
            "Last-Event-ID": text | {"description": "The last `id`: continue after it"},
        },
        "query": {name: {"type": kind} for name, kind in PARAMETERS.items()},
        "comment_seconds": COMMENT_SECONDS,
    }


def _stream_operations() -> Document:
    tags = [{"name": "notifier"}]
    return {
        "receiveRequests": {
            "action": "receive",
            "summary": "Requests of a client",
            "tags": tags,
            **on_channel("stream", *CLIENT_MESSAGES),
        },
        "sendUpdates": {
            "action": "send",
            "summary": "Updates to a client",
            "tags": tags,
            **on_channel("stream", *SERVER_MESSAGES),
        },
    }
