"""The commands that follow orders and report on them."""

import shutil
from functools import partial
from typing import Annotated, Literal

import typer

from tracking.command_options import DataDir, TokenOption, checked_url, run, say
from tracking.data_folder import DEFAULT_FOLDER
from tracking.live import LiveOrders
from tracking.local_stack import address_of, own_token
from tracking.report import Question, Report, fetch_report, time_of_option
from tracking.report_view import report_text
from tracking.tail import print_events


def tail(
    *,
    merchant: Annotated[list[str] | None, typer.Option(help="Only this merchant; may be repeated.")] = None,
    order: Annotated[list[str] | None, typer.Option(help="Only this order; may be repeated.")] = None,
    status: Annotated[
        list[str] | None, typer.Option(help="Only into or out of this status; may be repeated.")
    ] = None,
    after: Annotated[str | None, typer.Option(help="Go on from this cursor; else from now on.")] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="Each event as one line of JSON.")] = False,
    url: Annotated[str, typer.Option(help="The stream; else that of the running stack.")] = "",
    bearer: TokenOption = "",
    data_dir: DataDir = DEFAULT_FOLDER,
) -> None:
    """Follows the live events, one line each, and joins again by itself after a loss."""
    wanted = {"merchant_id": merchant, "order_id": order, "status": status}
    live = LiveOrders(
        checked_url(url, "ws") or address_of(data_dir, "notifier"),
        bearer or partial(own_token, data_dir, "tail", "orders:read"),
        {name: values for name, values in wanted.items() if values},
        after=after,
        snapshot=False,
    )
    run(print_events(live, json_lines=json_lines))


def report(
    name: Annotated[Report, typer.Argument(help="Which one.", show_default=False)],
    *,
    start: Annotated[
        str, typer.Option("--from", help="A date or a time with its offset; else 7 days ago.")
    ] = "",
    end: Annotated[str, typer.Option("--to", help="Up to, not including; else until now.")] = "",
    interval: Annotated[
        Literal["", "hour", "day"], typer.Option(help="Rows for each; else the whole range as one.")
    ] = "",
    time_zone: Annotated[str, typer.Option(help="Whose days and hours: an IANA name.  [default: UTC]")] = "",
    merchant: Annotated[list[str] | None, typer.Option(help="Only this merchant; may be repeated.")] = None,
    by_merchant: Annotated[bool, typer.Option("--by-merchant", help="Rows for each merchant.")] = False,
    clock: Annotated[
        Literal["", "recorded", "occurred"],
        typer.Option(help="When changes were decided, or when they happened.  [default: recorded]"),
    ] = "",
    since: Annotated[
        Literal["", "created", "updated"], typer.Option(help="What ages count from.  [default: created]")
    ] = "",
    whole_way: Annotated[
        bool, typer.Option("--whole-way", help="Durations from creation to the final status.")
    ] = False,
    url: Annotated[str, typer.Option(help="Base URL of query; else that of the running stack.")] = "",
    bearer: TokenOption = "",
    data_dir: DataDir = DEFAULT_FOLDER,
) -> None:
    """Prints a report over many orders, as a table and a chart.

    \b
    durations      how long orders take from status to status, or --whole-way
    status-counts  how many orders came into each status, and left it
    open-orders    how many are open now, by status and age; takes --since, and no time
    refusals       how many updates were refused, by reason and source; takes no --clock
    """
    asked = {
        "from": start and time_of_option("--from", start, time_zone or "UTC"),
        "to": end and time_of_option("--to", end, time_zone or "UTC"),
        "interval": interval,
        "time_zone": time_zone,
        "group_by": "merchant" if by_merchant else "",
        "clock": clock,
        "since": since,
        "per": "order" if whole_way else "",
    }
    question: Question = [(parameter, value) for parameter, value in asked.items() if value]
    question += [("merchant_id", each) for each in merchant or []]
    address = checked_url(url, "http") or address_of(data_dir, "query")
    bearer = bearer or own_token(data_dir, "report", "orders:read")
    document = run(fetch_report(address, bearer, name, question))
    say(report_text(name, document, shutil.get_terminal_size().columns))
