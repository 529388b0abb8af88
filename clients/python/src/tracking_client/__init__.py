"""A Python client of the order tracking services.

- `LiveOrders` follows the live stream.
- `Sender` sends operations (`create`, `update`, `checkpoint`, `correct`) and returns their results;
  `BlockingSender` does the same without asyncio.
- `fake` is an in-memory server for tests.

Imports nothing else of this project. The names below are imported when they are first used, so that a program
loads only what it needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracking_client import fake
    from tracking_client.blocking_sender import BlockingSender
    from tracking_client.errors import (
        BatchRefused,
        SenderClosed,
        TokenUnavailable,
        TrackingClientError,
        Undecided,
    )
    from tracking_client.live_orders import LiveOrders, State, Status, StreamRefused
    from tracking_client.operations import Operation, checkpoint, correct, create, update
    from tracking_client.results import Outcome, Problem, Result
    from tracking_client.sender import Sender

__all__ = [
    "BatchRefused",
    "BlockingSender",
    "LiveOrders",
    "Operation",
    "Outcome",
    "Problem",
    "Result",
    "Sender",
    "SenderClosed",
    "State",
    "Status",
    "StreamRefused",
    "TokenUnavailable",
    "TrackingClientError",
    "Undecided",
    "checkpoint",
    "correct",
    "create",
    "fake",
    "update",
]

_MODULES = {
    "blocking_sender": ("BlockingSender",),
    "errors": ("BatchRefused", "SenderClosed", "TokenUnavailable", "TrackingClientError", "Undecided"),
    "live_orders": ("LiveOrders", "State", "Status", "StreamRefused"),
    "operations": ("Operation", "checkpoint", "correct", "create", "update"),
    "results": ("Outcome", "Problem", "Result"),
    "sender": ("Sender",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "fake":
        return import_module("tracking_client.fake")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"tracking_client.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
