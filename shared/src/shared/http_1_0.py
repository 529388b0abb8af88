"""Answers to clients of HTTP/1.0, which know no chunked bodies (RFC 9112, 6.1)."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


def ended_by_closing(app: ASGIApp, cycle: RequestResponseCycle) -> ASGIApp:
    """`app`, whose bodies without a length end with the connection (RFC 9112, 6.3). The server closes it
    after each answer to HTTP/1.0, but would send such a body in chunks, which a client takes for content.

    `cycle` is the server's account of the request and its answer.
    """

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        has_length = True

        async def send_whole(message: Message) -> None:
            nonlocal has_length
            if message["type"] == "http.response.start":
                has_length = any(name == b"content-length" for name, _ in message["headers"])
                if not has_length:
                    cycle.chunked_encoding = False
            elif not has_length:  # the server compares each part with what is left of the length
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, send_whole)

    return answered
