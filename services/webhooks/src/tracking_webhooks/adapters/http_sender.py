"""Requests to receivers: one address, no redirect, and bounds on everything that comes back."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache
from time import monotonic, time
from typing import NamedTuple

import aiohttp
from aiohttp.http import HttpProcessingError
from aiohttp.streams import StreamReader
from yarl import URL

from tracking_shared.policy.receivers import Network
from tracking_webhooks.adapters.http_post import Destination, Response, destination, post
from tracking_webhooks.adapters.resolver import CheckedResolver, Resolve, resolve_by_system
from tracking_webhooks.errors import AddressRefused

ANSWER_SECONDS = 15.0
"""From the beginning of the connection to the end of the head of the answer."""

CONNECT_SECONDS = 5.0

BODY_BYTES = 16 * 1024
"""Of an answer that is read, and thrown away, so that its connection serves the next request. A longer one
costs its receiver the connection."""

BODY_SECONDS = 0.5
"""The same for the time, once the head has arrived."""

KEEP_ALIVE_SECONDS = 30.0

MAX_DESTINATIONS = 4_096
"""URLs that are remembered as parsed and checked, some 3 KB each."""


class Answer(NamedTuple):
    """The result of a request."""

    status: int | None
    """None: there was no answer."""
    error: str | None = None
    """Why there was none: `timeout`, `connection`, `certificate`, `tls`, `address`, `name`, `protocol`."""
    retry_after: float | None = None
    """Seconds."""
    duration_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Scheme:
    """What requests of one scheme share."""

    connector: aiohttp.TCPConnector
    resolver: CheckedResolver


class HttpSender:
    """Sends requests. The caller bounds how many at a time."""

    def __init__(self, schemes: Mapping[str, Scheme]) -> None:
        """For the running loop."""
        self._schemes = schemes
        self._loop = asyncio.get_running_loop()
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        self._destination = lru_cache(MAX_DESTINATIONS)(self._new_destination)
        self.in_flight = 0
        """Requests that were not answered yet."""

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, *, seconds: float = ANSWER_SECONDS
    ) -> Answer:
        """Sends one request and returns what came of it, whatever the receiver does."""
        started = monotonic()
        self.in_flight += 1
        try:
            status, error, retry_after = await self._status_or_error(url, headers, body, seconds)
        finally:
            self.in_flight -= 1
        return Answer(status, error, retry_after, monotonic() - started)

    async def _status_or_error(
        self, url: str, headers: Mapping[str, str], body: bytes, seconds: float
    ) -> tuple[int | None, str | None, float | None]:
        try:
            async with asyncio.timeout(seconds):
                response = await post(self._destination(url), headers, body)
        except aiohttp.ConnectionTimeoutError:
            return None, "connection", None  # a TimeoutError, too; but nobody has seen the request
        except TimeoutError:
            return None, "timeout", None
        except (aiohttp.ClientError, HttpProcessingError, AddressRefused, OSError, ValueError) as error:
            return None, _error_of(error), None
        await _finish(response)
        message = response.message
        return message.code, None, retry_after_seconds(message.headers.get("Retry-After"), time())

    def _new_destination(self, text: str) -> Destination:
        url = URL(text, encoded=True)
        scheme = self._schemes[url.scheme]
        # The connector asks its resolver for names alone.
        scheme.resolver.check_literal(url.host or "")
        return destination(url, scheme.connector, self._timeout, self._loop)


async def _finish(response: Response) -> None:
    """Reads the body if it is short, so that the connection can be used again; else it is closed."""
    if response.body.is_eof():
        response.release()
        return
    try:
        async with asyncio.timeout(BODY_SECONDS):
            await _discard(response.body)
        response.release()  # closes it, if the body has not ended
    except (TimeoutError, aiohttp.ClientError, OSError):
        return
    finally:
        response.close()


async def _discard(body: StreamReader) -> None:
    left = BODY_BYTES
    while left > 0 and (chunk := await body.read(left)):
        left -= len(chunk)


_ERRORS: Sequence[tuple[type[BaseException], str]] = (
    (AddressRefused, "address"),
    (aiohttp.InvalidURL, "address"),
    (aiohttp.ClientConnectorCertificateError, "certificate"),
    (aiohttp.ClientConnectorSSLError, "tls"),
    (aiohttp.ClientConnectorDNSError, "name"),
    (aiohttp.ClientConnectorError, "connection"),
    (aiohttp.ClientResponseError, "protocol"),
    (aiohttp.ClientPayloadError, "protocol"),
    (HttpProcessingError, "protocol"),
    (ValueError, "protocol"),
)


def _error_of(error: BaseException) -> str:
    # aiohttp wraps what a resolver raises.
    cause = error.__cause__
    if isinstance(cause, AddressRefused):
        return "address"
    return next((name for kind, name in _ERRORS if isinstance(error, kind)), "connection")


def retry_after_seconds(field: str | None, now: float) -> float | None:
    """The value of `Retry-After`, in seconds from `now`; None: there is none that can be read."""
    if field is None or len(field) > 64:
        return None
    if field.strip().isascii() and field.strip().isdigit():
        return float(field)
    try:
        return max(parsedate_to_datetime(field).timestamp() - now, 0.0)
    except (ValueError, OverflowError, TypeError):
        return None


@asynccontextmanager
async def open_sender(
    allowed: Sequence[Network],
    *,
    resolve: Resolve = resolve_by_system,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[HttpSender]:
    """A sender for the running loop. `allowed`: networks that are not refused, and may be asked by http."""
    resolvers = {
        "https": CheckedResolver(allowed, only_named=False, resolve=resolve),
        "http": CheckedResolver(allowed, only_named=True, resolve=resolve),
    }
    context = tls or ssl.create_default_context()
    schemes = {name: Scheme(_connector(resolver, context), resolver) for name, resolver in resolvers.items()}
    try:
        yield HttpSender(schemes)
    finally:
        for scheme in schemes.values():
            await scheme.connector.close()
            await scheme.resolver.close()


def _connector(resolver: CheckedResolver, tls: ssl.SSLContext) -> aiohttp.TCPConnector:
    return aiohttp.TCPConnector(
        resolver=resolver,
        use_dns_cache=False,  # each new connection resolves, and what it gets is checked
        limit=0,  # the caller bounds them
        ssl=tls,
        keepalive_timeout=KEEP_ALIVE_SECONDS,
    )
