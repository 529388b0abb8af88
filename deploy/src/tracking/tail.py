"""Prints the live events: for a person, or as JSON for a program."""

import asyncio
import logging
import sys

from rich.console import Console

from tracking.event_lines import event_line
from tracking.json_lines import json_line
from tracking.live import LiveOrders
from tracking.supervisor import first_of
from tracking.terminal_text import printable


async def print_events(live: LiveOrders, *, json_lines: bool) -> None:
    """Prints one line an event until cancelled; what happens to the connection goes to standard error.

    Raises:
        StreamRefused: the server does not want this client.
    """
    logging.getLogger("tracking.live").setLevel(logging.INFO)
    asked = live.cursor
    try:
        await first_of(_print(live, json_lines=json_lines), _announce(live))
    finally:
        if live.cursor and live.cursor != asked:
            sys.stderr.write(f"go on from here with --after {printable(live.cursor)}\n")


async def _print(live: LiveOrders, *, json_lines: bool) -> None:
    console = Console(highlight=False)
    async for event in live.events():
        if json_lines:
            sys.stdout.write(json_line(event, sys.stdout.encoding) + "\n")
        else:
            console.print(event_line(event), soft_wrap=True)
        sys.stdout.flush()


async def _announce(live: LiveOrders) -> None:
    await live.live.wait()
    sys.stderr.write("live from here; Ctrl-C stops\n")
    await asyncio.Event().wait()
