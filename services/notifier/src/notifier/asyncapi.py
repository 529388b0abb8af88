"""The AsyncAPI 3 document of the system: the stream here, and the broker's part from `shared`."""

from dataclasses import asdict
from functools import cache

import orjson

from notifier.messages import CLOSE_CODES, Events, Live, ProblemMessage, Resync, Snapshot
from notifier.protocol import (
    MAX_CLIENT_MESSAGE_BYTES,
    STREAM_PATH,
    SUBPROTOCOL,
    Refresh,
    Subscribe,
)
from shared.asyncapi import (
    BROKER_MESSAGES,
    Message,
    broker_channels,
    broker_operations,
    channel_messages,
    components,
    on_channel,
    ref,
)
from shared.json_schemas import Document

CLIENT_MESSAGES = (
    Message("subscribe", Subscribe, "Ask for the orders of a filter; again: replace the filter"),
    Message("refresh", Refresh, "Hand over a fresh token before the old one expires"),
)
SERVER_MESSAGES = (
    Message("snapshot", Snapshot, "A page of the orders that match"),
    Message("events", Events, "Changes, missed ones first"),
    Message("live", Live, "The past is through"),
    Message("resync", Resync, "Drop what you hold; a snapshot follows"),
    Message("problem", ProblemMessage, "Why something was refused"),
)

_DESCRIPTION = """\
What travels as messages: the live updates that the notifier streams to dashboards over WebSockets, and
the commands, events and replies of the services on the broker.

Receivers ignore members, and types of server messages, that they do not know. In what clients and
callers send, unknown members are refused."""

_STREAM = f"""\
One subscription a connection. The client sends `subscribe` within 5 seconds and gets a snapshot, or what
it missed since its cursor, then `live`, then what happens. A message of a client has at most
{MAX_CLIENT_MESSAGE_BYTES // 1024} KiB. `x-close-codes` says what each close code asks for; any other end
asks for a reconnect with the cursor."""


@cache
def encoded_document() -> bytes:
    """The document as JSON, for people to read too."""
    return orjson.dumps(asyncapi_document(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def asyncapi_document() -> Document:
    """The whole document, made of the models."""
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
        "x-close-codes": [asdict(close_code) for close_code in CLOSE_CODES],
    }


def _stream_operations() -> Document:
    tags = [{"name": "notifier"}]
    return {
        "receiveRequests": {
            "action": "receive",
            "summary": "What a client asks for",
            "tags": tags,
            **on_channel("stream", *CLIENT_MESSAGES),
        },
        "sendUpdates": {
            "action": "send",
            "summary": "What a client is shown",
            "tags": tags,
            **on_channel("stream", *SERVER_MESSAGES),
        },
    }
