"""Answers to HTTP/1.0, which knows no chunks: one without a length ends by closing (RFC 9112, 6.1)."""

import socket
import struct
import sys

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

_AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER that makes a close a reset."""


def ended_by_closing(app: ASGIApp, cycle: RequestResponseCycle) -> ASGIApp:
    """`app`, whose answer the server sends by `cycle`: without chunks if its length is not known.

    One that is broken off ends with a reset: a mere close would make it look whole.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        has_length = True

        async def send_plainly(message: Message) -> None:
            nonlocal has_length
            if message["type"] == "http.response.start":
                has_length = any(name == b"content-length" for name, _ in message["headers"])
                if not has_length:
                    cycle.chunked_encoding, cycle.expected_content_length = False, sys.maxsize
            elif not has_length and not message.get("more_body", False):
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        try:
            await app(scope, receive, send_plainly)
        finally:
            if not has_length and not cycle.response_complete:
                _reset(cycle)

    return answer


def _reset(cycle: RequestResponseCycle) -> None:
    connection = cycle.transport.get_extra_info("socket")
    if connection is not None and not cycle.transport.is_closing():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        cycle.transport.abort()
