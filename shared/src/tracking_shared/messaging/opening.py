"""Opens connections: the addresses of an `AMQP_URL`, and the driver's connection to one of them."""

import asyncio
import random
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from struct import error as StructError
from struct import unpack_from
from typing import Any, cast
from urllib.parse import urlsplit

import aio_pika
import aiormq.connection
from aiormq.exceptions import InvalidFrameError

from tracking_shared.errors import TrackingError
from tracking_shared.joined_writes import JoinedWrites
from tracking_shared.messaging.errors import DRIVER_ERRORS, fault_of, refusal_of

DEFAULT_PORTS = {"amqp": 5672, "amqps": 5671}

RESOLVE_TIMEOUT_SECONDS = 5
"""For the name service. One that does not answer for one host must not hide the others."""


@dataclass(frozen=True, slots=True)
class Address:
    """One address of one host."""

    url: str
    """The `AMQP_URL` with this host alone: user, virtual host, options and the name that TLS verifies."""
    ip: str
    port: int


class NotResolved(TrackingError):
    """The name of a host has no address, or the name service does not answer."""


def single_host_urls(url: str) -> list[str]:
    """The URL of each host, in their order: `amqp://u:p@a,b:1/v` is `amqp://u:p@a/v` and `amqp://u:p@b:1/v`."""
    scheme, separator, rest = url.partition("://")
    end = min((place for sign in "/?#" if (place := rest.find(sign)) >= 0), default=len(rest))
    credentials, at, hosts = rest[:end].rpartition("@")
    return [f"{scheme}{separator}{credentials}{at}{host}{rest[end:]}" for host in hosts.split(",")]


Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The numeric addresses of a host. Raises `OSError`."""


async def resolve(host: str, port: int) -> Sequence[str]:
    """Asks the name service."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for _, _, _, _, address in found]


async def addresses(
    url: str, lost: Address | None = None, resolve: Resolve = resolve
) -> AsyncGenerator[Address | NotResolved, None]:
    """Each address of each host, the one that was just lost at the end; or why a host has none.

    The hosts follow each other as in the URL, from any one of them on, and the addresses of a host in any
    order, so that replicas spread over the nodes of a cluster. A name is asked for when its turn comes.
    """
    urls = single_host_urls(url)
    first = random.randrange(len(urls))
    last: list[Address] = []
    for host_url in urls[first:] + urls[:first]:
        try:
            found = await _addresses_of(host_url, resolve)
        except NotResolved as error:
            yield error
            continue
        for address in found:
            if lost is not None and (address.ip, address.port) == (lost.ip, lost.port):
                last.append(address)
            else:
                yield address
    for address in last:
        yield address


async def _addresses_of(url: str, resolve: Resolve) -> list[Address]:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT_SECONDS):
            ips = list(dict.fromkeys(await resolve(host, port)))
    except (OSError, TimeoutError) as error:
        raise NotResolved(f"{host}: {type(error).__name__}, the name has no address") from error
    random.shuffle(ips)
    return [Address(url, ip, port) for ip in ips]


CONNECT_TIMEOUT_SECONDS = 5
"""For one address, until the broker has opened the virtual host. A silent one must not hide the others."""

HEARTBEAT_SECONDS = 3
"""The driver gives up a peer from which nothing came for three times this and a second each, 12 s. The nodes
of a cluster need 6 to 10 s for one of their own (`net_ticktime` in deploy/rabbitmq/rabbitmq.conf).
`?heartbeat=` in the URL says otherwise."""

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


async def close_quietly(connection: aio_pika.abc.AbstractConnection, *, is_lost: bool = False) -> None:
    """Closes it, whatever state it is in. If it is lost, without the two seconds for which the driver waits
    for the broker's last answer: a node that has not answered so far delays the next connection.
    """
    if is_lost:
        connection.kwargs["transport_factory"].abort()
    with suppress(*DRIVER_ERRORS):
        await connection.close()


class _Transports(aiormq.connection.TransportFactory):
    """Connects to the address instead of resolving the name again, and keeps what the broker says last."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._reader: _Reader | None = None
        self._transport: asyncio.WriteTransport | None = None

    def abort(self) -> None:
        """Ends the connection at once."""
        if self._transport is not None:
            self._transport.abort()

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
        # The driver writes each frame by itself: those of a batch are an event, a reply and acknowledgements.
        self._transport = joined = cast(asyncio.WriteTransport, JoinedWrites(transport, loop))
        return reader, asyncio.StreamWriter(joined, protocol, reader, loop)

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
