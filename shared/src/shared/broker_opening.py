"""Opens the driver's connection to one address: bounded, verified under the name of the host, and with the
broker's reason where it refuses.
"""

import asyncio
import ssl
from contextlib import suppress
from struct import error as StructError
from struct import unpack_from
from typing import Any

import aio_pika
import aiormq.connection
from aiormq.exceptions import InvalidFrameError

from shared.broker_addresses import Address
from shared.broker_faults import DRIVER_ERRORS, fault_of, refusal_of

CONNECT_TIMEOUT_SECONDS = 5
"""For one address, until the broker has opened the virtual host. A silent one must not hide the others."""

HEARTBEAT_SECONDS = 6
"""A dead peer is noticed after about three of them. `?heartbeat=` in the URL says otherwise."""

READ_BUFFER_BYTES = 64 * 1024

_METHOD_FRAME = 1
_CONNECTION_CLOSE = (10, 50)


async def open_address(address: Address, name: str) -> aio_pika.Connection:
    """A connection to this address, which the caller closes.

    Raises:
        BrokerRefused: the broker does not let this user in, or not into this virtual host.
        BrokerUnavailable: no answer within `CONNECT_TIMEOUT_SECONDS`, or not one of a broker.
    """
    # The class, not aio_pika's `connect`: that leaves a failed attempt to the garbage collector, which
    # may come when no event loop runs.
    heartbeat = None if "heartbeat=" in address.url else HEARTBEAT_SECONDS
    connection = aio_pika.Connection(
        aio_pika.connection.make_url(address.url, heartbeat=heartbeat),
        client_properties={"connection_name": name},
    )
    transports = _Transports(address)
    connection.kwargs["transport_factory"] = transports
    try:
        await connection.connect(timeout=CONNECT_TIMEOUT_SECONDS)
    except BaseException as error:
        await close_quietly(connection)
        if not isinstance(error, (*DRIVER_ERRORS, ValueError)):
            raise
        what = f"connect to {address.ip}:{address.port}"
        closed = transports.closed_by_broker() if isinstance(error, InvalidFrameError) else None
        raise (refusal_of(what, *closed) if closed else fault_of(what, error)) from error
    return connection


async def close_quietly(connection: aio_pika.abc.AbstractConnection) -> None:
    """Closes it, whatever state it is in."""
    with suppress(*DRIVER_ERRORS):
        await connection.close()


class _Transports(aiormq.connection.TransportFactory):
    """Connects to the address instead of resolving the name again, and keeps what the broker says last."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._reader: _Reader | None = None

    async def create(self, url: Any, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Called by the driver."""
        context: ssl.SSLContext | None = None
        if url.scheme == "amqps":
            context = await options["ssl_context_provider"].get_context()
        loop = asyncio.get_running_loop()
        self._reader = reader = _Reader(limit=READ_BUFFER_BYTES, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.create_connection(
            lambda: protocol,
            self._address.ip,
            self._address.port,
            ssl=context,
            server_hostname=url.host if context else None,
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    def closed_by_broker(self) -> tuple[int, str] | None:
        """Code and text of the close with which the broker answered; None: it was something else.

        The driver keeps neither when a virtual host is refused, and takes the answer for a broken one.
        """
        return _close_in(self._reader.latest) if self._reader else None


class _Reader(asyncio.StreamReader):
    """A reader that remembers the newest bytes, as they came."""

    latest = b""

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]  # what transports call it with
        """Called by the transport."""
        self.latest = bytes(data) if len(data) < _CLOSE_BYTES else b""
        super().feed_data(data)


_CLOSE_BYTES = 512
"""More than a frame that closes a connection has: its text is one of 255 bytes at most."""


def _close_in(data: bytes) -> tuple[int, str] | None:
    """Reads a `connection.close` frame (AMQP 0-9-1, sections 2.3.5 and 1.4.2)."""
    try:
        kind, _, _, class_id, method_id, code, length = unpack_from(">BHIHHHB", data)
    except StructError:
        return None
    if kind != _METHOD_FRAME or (class_id, method_id) != _CONNECTION_CLOSE:
        return None
    return code, data[14 : 14 + length].decode(errors="replace")
