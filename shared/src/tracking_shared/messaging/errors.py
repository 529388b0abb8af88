"""The errors of the broker, made of those of the driver.

A refusal is distinguished from a loss: a service that lost the broker tries again, one that is
refused needs another configuration first.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aio_pika
import aiormq.exceptions

from tracking_shared.errors import TrackingError

DRIVER_ERRORS = (
    aio_pika.exceptions.AMQPError,
    aiormq.exceptions.AMQPError,
    aiormq.exceptions.ChannelInvalidStateError,
    OSError,
    asyncio.TimeoutError,
    RuntimeError,  # aio-pika: "Connection was not opened", and the like, while a connection dies
)

ACCESS_REFUSED = 403
NOT_ALLOWED = 530

_PASSING = "limit"
"""In the text of a 530 for too many connections ("connection limit (100) is reached"): some may end."""


class BrokerUnavailable(TrackingError):
    """The broker could not be reached, or did not confirm in time: what became of the message is unknown."""

    summary = "the broker does not answer"
    """The beginning of the line of an operators' command."""


class PublishRefused(BrokerUnavailable):
    """The broker answered that it did not take the message (queue full, or no queue)."""

    summary = "the broker does not take the message"


class BrokerBlocked(BrokerUnavailable):
    """The broker takes no messages: it has an alarm (memory, disk). The connection lives."""

    summary = "the broker takes no messages"


class NotDeclared(BrokerUnavailable):
    """An exchange or a queue is not there yet. order-state declares them all when it starts."""

    summary = "the broker is not set up"


class BrokerRefused(BrokerUnavailable):
    """The broker answered that this may not be, and will say so again: the user or its password, its rights,
    the virtual host, or an exchange or queue that exists with other arguments.
    """

    summary = "the broker refuses"


class AccessRefused(BrokerRefused):
    """The user does not have the right that this takes."""


def fault_of(what: str, error: BaseException) -> BrokerUnavailable:
    """The project's own error for one of `DRIVER_ERRORS` that came of doing `what`."""
    match error:
        case aiormq.exceptions.ChannelAccessRefused():
            return AccessRefused(f"{what}: {_text(error)}")
        case aiormq.exceptions.ProbableAuthenticationError() | aiormq.exceptions.ChannelPreconditionFailed():
            return BrokerRefused(f"{what}: {_text(error)}")
        case aiormq.exceptions.AuthenticationError():
            return BrokerRefused(f"{what}: there is no way to sign in that both sides know")
        case aiormq.exceptions.ChannelNotFoundEntity():
            return NotDeclared(f"{what}: {_text(error)}")
    return BrokerUnavailable(f"{what}: {error!r}")


def refusal_of(what: str, code: int, text: str) -> BrokerUnavailable:
    """The error for a connection that the broker closed instead of opening it, with this code."""
    if code == ACCESS_REFUSED or (code == NOT_ALLOWED and _PASSING not in text):
        return BrokerRefused(f"{what}: {text}")
    return BrokerUnavailable(f"{what}: {code} {text}")


def _text(error: BaseException) -> str:
    return str(error.args[0]) if error.args else repr(error)


def refusal_in(error: BaseException) -> BrokerRefused | None:
    """The refusal that `error` is, or holds as a group (of tasks that shared the connection)."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(refusal_in, error.exceptions)), None)
    return error if isinstance(error, BrokerRefused) else None


def is_broker_loss(error: BaseException) -> bool:
    """Also true for a group (of tasks that shared the connection) in which all fell to the loss."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(BrokerUnavailable)[1] is None
    return isinstance(error, BrokerUnavailable)


SETUP_TIMEOUT_SECONDS = 4
"""For opening a channel, declaring a queue, subscribing. Milliseconds, but a node that lost its peers may
never answer, and the next connection may reach another one."""


@asynccontextmanager
async def bounded(what: str) -> AsyncIterator[None]:
    """Ends in time, and with our own error: a broken queue may never answer."""
    try:
        async with asyncio.timeout(SETUP_TIMEOUT_SECONDS):
            yield
    except DRIVER_ERRORS as error:
        raise fault_of(what, error) from error
