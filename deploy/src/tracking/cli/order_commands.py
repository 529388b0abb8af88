"""The commands `tail` and `report`: they follow orders, and report on many of them."""

import asyncio
import logging
import shutil
import sys
from functools import partial
from typing import Annotated, Literal

import typer
from rich.console import Console

from tracking.cli.command_options import DataDir, MerchantOption, TokenOption, checked_url, run
from tracking.cli.report import QueryParameters, Report, fetch_report, report_text, time_of_option
from tracking.devstack.data_folder import DEFAULT_FOLDER, address_of, own_token
from tracking.tasks import first_of
from tracking.terminal import echo, event_line, json_line, printable
from tracking_client.live_orders import LiveOrders


def tail(
    *,
    merchant: MerchantOption = None,
    order: Annotated[list[str] | None, typer.Option(help="Only this order; may be repeated.")] = None,
    status: Annotated[
        list[str] | None, typer.Option(help="Only changes into or out of this status; may be repeated.")
    ] = None,
    active: Annotated[
        bool | None, typer.Option("--active/--final", help="Only changes of active, or of final orders.")
    ] = None,
    overdue: Annotated[
        bool | None, typer.Option("--overdue/--in-time", help="Only changes of overdue, or of other orders.")
    ] = None,
    after: Annotated[str | None, typer.Option(help="Resume after this cursor; else from now on.")] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="Each event as one line of JSON.")] = False,
    url: Annotated[str, typer.Option(help="The stream; else that of the running stack.")] = "",
    bearer: TokenOption = "",
    data_dir: DataDir = DEFAULT_FOLDER,
) -> None:
    """Follows the live events, one line each, and reconnects by itself."""
    filters = {"merchant_id": merchant, "order_id": order, "status": status}
    flags = {"active": active, "overdue": overdue}
    live = LiveOrders(
        checked_url(url, "ws") or address_of(data_dir, "notifier"),
        bearer or partial(own_token, data_dir, "tail", "orders:read"),
        {name: values for name, values in filters.items() if values}
        | {name: wanted for name, wanted in flags.items() if wanted is not None},
        after=after,
        snapshot=False,
    )
    run(_print_events(live, json_lines=json_lines))


async def _print_events(live: LiveOrders, *, json_lines: bool) -> None:
    """Prints a line for each event until cancelled. Connection messages go to standard error.

    Raises:
        StreamRefused: the server refuses this client.
    """
    logging.getLogger("tracking_client.live_orders").setLevel(logging.INFO)
    first_cursor = live.cursor
    try:
        await first_of(_print_each(live, json_lines=json_lines), _announce(live))
    finally:
        if live.cursor and live.cursor != first_cursor:
            sys.stderr.write(f"go on from here with --after {printable(live.cursor)}\n")


async def _print_each(live: LiveOrders, *, json_lines: bool) -> None:
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


def report(
    name: Annotated[Report, typer.Argument(help="The report.", show_default=False)],
    *,
    start: Annotated[
        str, typer.Option("--from", help="A date or a time with its offset; else 7 days ago.")
    ] = "",
    end: Annotated[str, typer.Option("--to", help="The end, not included; else now.")] = "",
    interval: Annotated[
        Literal["", "hour", "day"], typer.Option(help="Rows per interval; else one for the whole range.")
    ] = "",
    time_zone: Annotated[
        str, typer.Option(help="The time zone of days and hours: an IANA name.  [default: UTC]")
    ] = "",
    merchant: MerchantOption = None,
    by_merchant: Annotated[bool, typer.Option("--by-merchant", help="Rows per merchant.")] = False,
    clock: Annotated[
        Literal["", "recorded", "occurred"],
        typer.Option(help="The time of the decision, or of the event.  [default: recorded]"),
    ] = "",
    since: Annotated[
        Literal["", "created", "updated"], typer.Option(help="The start of ages.  [default: created]")
    ] = "",
    whole_way: Annotated[
        bool, typer.Option("--whole-way", help="Durations from creation to the final status.")
    ] = False,
    status: Annotated[
        list[str] | None,
        typer.Option(
            help="A status that means delivered; may be repeated.  [default: delivered]", show_default=False
        ),
    ] = None,
    url: Annotated[str, typer.Option(help="Base URL of query; else that of the running stack.")] = "",
    bearer: TokenOption = "",
    data_dir: DataDir = DEFAULT_FOLDER,
) -> None:
    """Prints a report over many orders, as a table and a chart.

    \b
    durations      time of orders from status to status, or --whole-way
    status-counts  number of orders that entered and left each status
    punctuality    number of deliveries on time and late, and how late; takes --status
    open-orders    number of open orders now, by status and age; takes --since, and no time
    refusals       number of refused updates, by reason and source; takes no --clock
    """
    options = {
        "from": start and time_of_option("--from", start, time_zone or "UTC"),
        "to": end and time_of_option("--to", end, time_zone or "UTC"),
        "interval": interval,
        "time_zone": time_zone,
        "group_by": "merchant" if by_merchant else "",
        "clock": clock,
        "since": since,
        "per": "order" if whole_way else "",
    }
    parameters: QueryParameters = [(name, value) for name, value in options.items() if value]
    parameters += [("merchant_id", each) for each in merchant or []]
    parameters += [("status", each) for each in status or []]
    address = checked_url(url, "http") or address_of(data_dir, "query")
    bearer = bearer or own_token(data_dir, "report", "orders:read")
    document = run(fetch_report(address, bearer, name, parameters))
    echo(report_text(name, document, shutil.get_terminal_size().columns))
