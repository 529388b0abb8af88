"""The errors of order-state, and the one boundary where an unexpected exception is caught."""

import logging
import traceback
from collections.abc import Awaitable
from types import TracebackType
from typing import TypeVar

from tracking_shared.errors import TrackingError
from tracking_shared.messaging.errors import BrokerUnavailable
from tracking_shared.storage.database import DatabaseUnavailable

log = logging.getLogger(__name__)

MAX_FAULT_CHARS = 200
"""The length of the fault that is stored with a parked command, for an operator."""

_OWN_PACKAGES = ("tracking_order_state", "tracking_shared")


class OrderStateError(TrackingError):
    """The base of the errors of order-state."""


class Fenced(OrderStateError):
    """Another worker has claimed the partition since this one did. Nothing was written."""


class Unwritable(OrderStateError):
    """The database refuses a document for its contents. Nothing was written. The text holds the error codes
    of the database only.
    """


class NotNew(Unwritable):
    """There is already a document with the key of one that was to be inserted."""


class TooManyHeld(OrderStateError):
    """More updates are held of the orders of a batch than one transaction should apply: the batch is to be
    divided.
    """


class LayoutChanged(BrokerUnavailable):
    """The number of partitions was changed: connect anew, and work on the new ones, too."""


class PartitionStalled(OrderStateError):
    """A failing command cannot be parked either, or the database keeps failing for it, so the partition
    waits. Other commands of it may have been written.
    """


class TooManyParked(PartitionStalled):
    """One more order of a partition would have to be parked than may be."""


class BrokerSilent(OrderStateError, BrokerUnavailable):
    """The broker node answers, and delivers nothing although commands wait."""


class Fault(str):
    """The description of a failure that commands may have caused: see `describe`."""

    __slots__ = ()


T = TypeVar("T")

_NOT_CAUSED_BY_A_COMMAND = (Fenced, PartitionStalled, BrokerUnavailable, DatabaseUnavailable, MemoryError)


async def fault_of(work: Awaitable[T], known: Fault | None = None) -> T | Fault:
    """Returns the result of `work`, or its fault if the commands in it may be the cause. The `known` fault is
    not logged again.

    Raises:
        Fenced, PartitionStalled, BrokerUnavailable, DatabaseUnavailable: passed on.
    """
    try:
        return await work
    except _NOT_CAUSED_BY_A_COMMAND:
        raise
    except Exception as error:  # noqa: BLE001 - no fault of a command may hold up others
        fault = describe(error)
        if fault == known:
            return fault
        trace = "".join(traceback.format_tb(error.__traceback__))
        log.error("failed: %s\n%s", fault, trace)  # noqa: TRY400 - not the text of the exception
        return fault


def describe(error: Exception) -> Fault:
    """Describes a failure by its type and place, in at most `MAX_FAULT_CHARS`. The error's own text is left
    out: it may quote the update, which holds names and contacts.
    """
    name = f"{type(error).__name__} ({error})" if isinstance(error, Unwritable) else type(error).__name__
    return Fault(f"{name} {_place_of(error.__traceback__)}"[:MAX_FAULT_CHARS])


def _place_of(trace: TracebackType | None) -> str:
    """The innermost line of the project's own code."""
    places = [
        f"in {frame.f_globals['__name__']}.{frame.f_code.co_name}, line {line}"
        for frame, line in traceback.walk_tb(trace)
        if frame.f_globals["__name__"].partition(".")[0] in _OWN_PACKAGES
    ]
    return places[-1] if places else "elsewhere"
