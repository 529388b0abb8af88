"""Serves with one connection after the other: waits, and tries again after a loss."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from random import uniform
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_never

from tracking_shared.messaging.connection import Connection, connect
from tracking_shared.messaging.errors import (
    BrokerUnavailable,
    is_broker_loss,
    refusal_in,
)
from tracking_shared.messaging.opening import Address

log = logging.getLogger(__name__)

T = TypeVar("T")


MAX_RECONNECT_WAIT_SECONDS = 5

REFUSALS_AT_START = 3
"""So many in a row, `REFUSED_WAIT_SECONDS` apart, are believed: a node that has just started, or cannot reach
its metadata store for a moment, may say that a user or a virtual host is not there (RabbitMQ 4.3.0 does)."""

REFUSED_WAIT_SECONDS = 1.0


async def serve_connections(
    url: str,
    name: str,
    serve: Callable[[Connection], Awaitable[None]],
    on_loss: Callable[[BrokerUnavailable], None] = lambda _: None,
) -> None:
    """Runs `serve` with a connection, and again with a new one whenever the broker was lost.

    Waits between attempts grow to `MAX_RECONNECT_WAIT_SECONDS`, with jitter. `on_loss` gets the error, which
    is a `BrokerRefused` after a refusal. Ends when `serve` returns, or with what it raises other than
    `BrokerUnavailable`.

    Raises:
        BrokerRefused: `REFUSALS_AT_START` times in a row, and no connection was ever in service. Later on
            somebody has changed something under a running service, and may change it back: it is tried again.
    """
    serving = _Serving(url, name, serve, on_loss)
    async for attempt in AsyncRetrying(
        retry=retry_if_exception(serving.is_tried_again), wait=serving.wait_seconds, stop=stop_never
    ):
        with attempt:
            await cancellable(serving.serve())


class _Serving:
    """Connections one after the other, and what the ones before say about the next one."""

    def __init__(
        self,
        url: str,
        name: str,
        serve: Callable[[Connection], Awaitable[None]],
        on_loss: Callable[[BrokerUnavailable], None],
    ) -> None:
        self._url = url
        self._name = name
        self._serve = serve
        self._on_loss = on_loss
        self._lost: Address | None = None
        self._was_in_service = False
        self._failures = 0
        """In a row, since a connection was last in service."""
        self._refusals = 0

    async def serve(self) -> None:
        async with connect(self._url, self._name, lost=self._lost) as connection:
            self._lost = connection.address
            log.info("broker connected: %s:%d", connection.address.ip, connection.address.port)
            try:
                await self._serve(connection)
            finally:
                if connection.in_service:
                    self._was_in_service, self._failures = True, 0

    def is_tried_again(self, error: BaseException) -> bool:
        """Takes note of how a connection ended."""
        if not is_broker_loss(error):
            return False
        self._failures += 1
        refusal = refusal_in(error)
        self._refusals = self._refusals + 1 if refusal else 0
        if refusal is None:
            log.warning("broker away: %s", error)
        else:
            log.error("the broker refuses: %s", refusal)
        self._on_loss(refusal or BrokerUnavailable("not connected"))
        return self._was_in_service or self._refusals < REFUSALS_AT_START

    def wait_seconds(self, _: RetryCallState) -> float:
        if self._refusals and not self._was_in_service:
            return REFUSED_WAIT_SECONDS
        return uniform(0, min(MAX_RECONNECT_WAIT_SECONDS, 0.1 * 2 ** min(self._failures, 10)))


async def cancellable(work: Coroutine[None, None, T]) -> T:
    """Returns the result of `work`. Cancelled meanwhile, it raises that, whatever error `work` ends with.

    The driver answers a cancellation with an error of its own while it connects, and in a task group
    the error of a member goes before it. `gather` remembers; `Task.cancelling` cannot tell, since a
    task group of Python 3.11 that has fallen may leave it raised.
    """
    (outcome,) = await asyncio.gather(work, return_exceptions=True)
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome
