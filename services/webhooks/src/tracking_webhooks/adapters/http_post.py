"""A POST over a connection of aiohttp's connector, without the session above it.

A session keeps cookies, follows redirects, and makes a request, a response and a task for each call. That is
half of the processor time of a delivery, for what a delivery must not do (docs/decisions/0031).
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import aiohttp
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage, StreamWriter
from aiohttp.streams import StreamReader
from multidict import CIMultiDict
from yarl import URL

HEAD_FIELD_BYTES = 8 * 1024

USER_AGENT = "tracking-webhooks/1"


@dataclass(frozen=True, slots=True)
class Destination:
    """Where requests go, and what is the same in each of them."""

    connector: aiohttp.TCPConnector
    timeout: aiohttp.ClientTimeout
    request: ClientRequest
    """Tells the connector which connections fit, and how a new one is made. It is never sent."""
    request_line: str
    headers: CIMultiDict[str]


def destination(
    url: URL, connector: aiohttp.TCPConnector, timeout: aiohttp.ClientTimeout, loop: asyncio.AbstractEventLoop
) -> Destination:
    """The destination of an absolute URL.

    Raises:
        aiohttp.InvalidURL: it has no host.
    """
    headers = {"User-Agent": USER_AGENT, "Accept": "*/*"}
    request = ClientRequest("POST", url, headers=headers, skip_auto_headers=("Accept-Encoding",), loop=loop)
    return Destination(connector, timeout, request, f"POST {url.raw_path_qs} HTTP/1.1", request.headers)


class Response(NamedTuple):
    """The head of an answer, and its body as it comes. The caller ends it."""

    message: RawResponseMessage
    body: StreamReader
    connection: Connection

    def release(self) -> None:
        """Lets the next request have the connection, if it can be used again; else closes it."""
        protocol = self.connection.protocol
        if protocol is None or protocol.writing_paused:
            self.connection.close()
        else:
            self.connection.release()

    def close(self) -> None:
        """Closes the connection, unless it was released."""
        self.connection.close()


async def post(to: Destination, headers: Mapping[str, str], body: bytes) -> Response:
    """Sends a request, once, and returns when the head of the answer is there.

    Raises:
        aiohttp.ClientError: there is none.
        aiohttp.http.HttpProcessingError: what came is no HTTP.
    """
    try:
        connection = await to.connector.connect(to.request, traces=[], timeout=to.timeout)
    except TimeoutError as error:
        raise aiohttp.ConnectionTimeoutError("no connection in time") from error
    try:
        message, content = await _exchange(connection, to, headers, body)
    except BaseException:
        connection.close()
        raise
    return Response(message, content, connection)


async def _exchange(
    connection: Connection, to: Destination, headers: Mapping[str, str], body: bytes
) -> tuple[RawResponseMessage, StreamReader]:
    protocol = connection.protocol
    assert protocol is not None  # noqa: S101 - the connector has just given it
    protocol.set_response_params(
        read_until_eof=True,
        auto_decompress=False,
        max_line_size=HEAD_FIELD_BYTES,
        max_field_size=HEAD_FIELD_BYTES,
    )
    head = to.headers.copy()
    head.update(headers)
    head["Content-Length"] = str(len(body))
    writer = StreamWriter(protocol, to.request.loop)
    await writer.write_headers(to.request_line, head)
    await writer.write_eof(body)
    while True:
        message, content = await protocol.read()
        # Interim answers (1xx) come before the answer. After a switch of protocols (101), no other one comes.
        if message.code == 101 or not 100 <= message.code < 200:
            return message, content
