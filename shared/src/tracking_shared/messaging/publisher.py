"""Publishes messages, and waits for the confirms of the broker."""

import asyncio
from collections.abc import Callable
from typing import Any

import aio_pika
import aiormq.exceptions
from aio_pika.abc import AbstractExchange

from tracking_shared.messaging.errors import (
    DRIVER_ERRORS,
    BrokerBlocked,
    PublishRefused,
    fault_of,
)

PUBLISH_TIMEOUT_SECONDS = 5
"""A confirm takes milliseconds; one that takes this long is treated as unknown."""

ALARM = "it has an alarm (memory or disk)"


class Publisher:
    """Publishes to one exchange, persistent, mandatory where asked for, and waits for the confirm."""

    def __init__(
        self, exchange: AbstractExchange, *, mandatory: bool, is_blocked: Callable[[], bool]
    ) -> None:
        self._exchange = exchange
        self._mandatory = mandatory
        self._is_blocked = is_blocked

    async def publish(
        self,
        routing_key: str,
        body: bytes,
        *,
        content_type: str,
        message_id: str | None = None,
        reply_to: str | None = None,
        headers: dict[str, Any] | None = None,
        timeout_seconds: float | None = PUBLISH_TIMEOUT_SECONDS,
    ) -> None:
        """Returns when the broker has the message (with confirms) or the socket has (without). Without
        `timeout_seconds` it waits as long as the connection lasts.

        Raises:
            PublishRefused: the broker said no: a full queue, or none bound (if mandatory).
            BrokerBlocked: the broker has an alarm. Nothing was sent, or it may be taken when that is over.
            BrokerUnavailable: no answer in time, or the connection is gone.
        """
        if self._is_blocked():
            raise BrokerBlocked(ALARM)
        message = aio_pika.Message(
            body,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            content_type=content_type,
            message_id=message_id,
            reply_to=reply_to,
            headers=headers,
        )
        try:
            await self._exchange.publish(
                message, routing_key, mandatory=self._mandatory, timeout=timeout_seconds
            )
        except (aio_pika.exceptions.DeliveryError, aiormq.exceptions.PublishError) as error:
            raise PublishRefused(f"{self._exchange.name}/{routing_key}: {error!r}") from error
        except DRIVER_ERRORS as error:
            if isinstance(error, asyncio.TimeoutError) and self._is_blocked():
                raise BrokerBlocked(ALARM) from error
            raise fault_of(f"{self._exchange.name}/{routing_key}", error) from error
