"""Faults of our own: the one boundary where an exception that nobody expected is caught."""

import logging
import traceback
from collections.abc import Awaitable
from types import TracebackType

from shared.broker import BrokerUnavailable
from shared.database import DatabaseUnavailable

log = logging.getLogger(__name__)

MAX_FAULT_CHARS = 200
"""Kept with a parked command, for an operator."""

_OWN_PACKAGES = ("order_state", "shared")


class Fenced(Exception):
    """Another worker has claimed the partition since this one did. Nothing was written."""


class Unwritable(Exception):
    """The database refuses what was decided, for what is in it. Nothing was written. The text holds its error
    codes only.
    """


class CannotGoOn(Exception):
    """What fails cannot be parked either, so the partition waits. Other commands may have been written."""


class TooManyParked(CannotGoOn):
    """More orders of a partition would be parked than may be."""


_NOT_OF_A_COMMAND = (Fenced, CannotGoOn, BrokerUnavailable, DatabaseUnavailable, MemoryError)


async def fault_of(work: Awaitable[None]) -> str | None:
    """None if the work was done, else how it failed, if its commands may be the reason: see `describe`.

    Raises:
        Fenced, CannotGoOn, BrokerUnavailable, DatabaseUnavailable: as they are.
    """
    try:
        await work
    except _NOT_OF_A_COMMAND:
        raise
    except Exception as error:  # noqa: BLE001 - whatever is wrong with a command must not hold up others
        fault = describe(error)
        trace = "".join(traceback.format_tb(error.__traceback__))
        log.error("failed: %s\n%s", fault, trace)  # noqa: TRY400 - not the text of the exception
        return fault
    return None


def describe(error: Exception) -> str:
    """What failed and where, in at most `MAX_FAULT_CHARS`. Not the error's own text, which may quote the
    update: that holds names and contacts.
    """
    name = f"{type(error).__name__} ({error})" if isinstance(error, Unwritable) else type(error).__name__
    return f"{name} {_place_of(error.__traceback__)}"[:MAX_FAULT_CHARS]


def _place_of(trace: TracebackType | None) -> str:
    """The innermost line of our own."""
    places = [
        f"in {frame.f_globals['__name__']}.{frame.f_code.co_name}, line {line}"
        for frame, line in traceback.walk_tb(trace)
        if frame.f_globals["__name__"].partition(".")[0] in _OWN_PACKAGES
    ]
    return places[-1] if places else "elsewhere"
