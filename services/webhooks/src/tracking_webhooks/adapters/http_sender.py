"""Requests to receivers: one address, no redirect, and bounds on everything that comes back."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import monotonic, time

import aiohttp
from yarl import URL

from tracking_shared.policy.receivers import Network
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

HEAD_FIELD_BYTES = 8 * 1024

KEEP_ALIVE_SECONDS = 30.0

USER_AGENT = "tracking-webhooks/1"


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a request."""

    status: int | None
    """None: there was no answer."""
    error: str | None = None
    """Why there was none: `timeout`, `connection`, `certificate`, `tls`, `address`, `name`, `protocol`."""
    retry_after: float | None = None
    """Seconds."""
    duration_seconds: float = 0.0


class HttpSender:
    """Sends requests. The caller bounds how many at a time."""

    def __init__(self, sessions: Mapping[str, tuple[aiohttp.ClientSession, CheckedResolver]]) -> None:
        """`sessions`: by scheme."""
        self._sessions = sessions
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
                response = await self._begin(URL(url, encoded=True), headers, body)
        except aiohttp.ConnectionTimeoutError:
            return None, "connection", None  # a TimeoutError, too; but nobody has seen the request
        except TimeoutError:
            return None, "timeout", None
        except (aiohttp.ClientError, AddressRefused, OSError, ValueError) as error:
            return None, _error_of(error), None
        try:
            await _finish(response)
        finally:
            response.close()
        return response.status, None, retry_after_seconds(response.headers.get("Retry-After"), time())

    async def _begin(self, url: URL, headers: Mapping[str, str], body: bytes) -> aiohttp.ClientResponse:
        session, resolver = self._sessions[url.scheme]
        resolver.check_literal(url.host or "")
        return await session.post(url, data=body, headers=headers, allow_redirects=False)


async def _finish(response: aiohttp.ClientResponse) -> None:
    """Reads the body if it is short, so that the connection can be used again; else it is closed."""
    if response.content.is_eof() or (response.content_length or 0) > BODY_BYTES:
        return
    left = BODY_BYTES
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while left > 0 and (chunk := await response.content.read(left)):
                left -= len(chunk)
            if left > 0:
                response.release()
    except (TimeoutError, aiohttp.ClientError, OSError):
        return


_ERRORS: Sequence[tuple[type[BaseException], str]] = (
    (AddressRefused, "address"),
    (aiohttp.InvalidURL, "address"),
    (aiohttp.ClientConnectorCertificateError, "certificate"),
    (aiohttp.ClientConnectorSSLError, "tls"),
    (aiohttp.ClientConnectorDNSError, "name"),
    (aiohttp.ClientConnectorError, "connection"),
    (aiohttp.ClientResponseError, "protocol"),
    (aiohttp.ClientPayloadError, "protocol"),
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
    sessions = {scheme: _session(resolver, context) for scheme, resolver in resolvers.items()}
    try:
        yield HttpSender({scheme: (sessions[scheme], resolvers[scheme]) for scheme in resolvers})
    finally:
        for session in sessions.values():
            await session.close()
        for resolver in resolvers.values():
            await resolver.close()


def _session(resolver: CheckedResolver, tls: ssl.SSLContext) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        resolver=resolver,
        use_dns_cache=False,  # each new connection resolves, and what it gets is checked
        limit=0,  # the caller bounds them
        ssl=tls,
        keepalive_timeout=KEEP_ALIVE_SECONDS,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        auto_decompress=False,
        max_line_size=HEAD_FIELD_BYTES,
        max_field_size=HEAD_FIELD_BYTES,
        headers={"User-Agent": USER_AGENT, "Accept": "*/*"},
        skip_auto_headers=("Accept-Encoding",),
    )
