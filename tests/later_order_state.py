"""order-state as a later release will be: it reads commands of format 2, which are those of today."""

from typing import Any

from tracking_order_state.app import serve
from tracking_order_state.settings import OrderStateSettings
from tracking_shared.contracts.formats import COMMANDS
from tracking_shared.serving import run_service


def unchanged(command: dict[str, Any]) -> dict[str, Any]:
    """A command of format 1 in format 2."""
    return command


async def later(settings: OrderStateSettings) -> None:
    """order-state with the formats of a later release."""
    object.__setattr__(COMMANDS, "upcasts", (unchanged,))  # it is frozen
    await serve(settings)


if __name__ == "__main__":
    run_service("order-state", OrderStateSettings, later)
