"""Events and refusals in one line each, for a person at a terminal. Pure."""

from datetime import datetime, timedelta
from typing import Any

from rich.text import Text

from tracking.terminal_text import printable

LATE = timedelta(minutes=2)
"""An event that is recorded this long after it happened is marked."""

_STYLES = {
    "created": "cyan",
    "picked_up": "blue",
    "in_transit": "yellow",
    "delivered": "green",
    "cancelled": "red",
}


def event_line(event: dict[str, Any]) -> Text:
    """A CloudEvent: when, which order, of whom, from where to where, by whom, and how late it came."""
    data = event["data"]
    recorded = datetime.fromisoformat(data["recorded_at"]).astimezone()
    line = Text.assemble(
        (f"{recorded:%H:%M:%S}.{recorded.microsecond // 1000:03d}  ", "dim"),
        f"{printable(data['order_id']):<20}  ",
        (f"{printable(data['merchant_id']):<14}  ", "magenta"),
    )
    if data["previous_status"] is not None:
        line.append(f"{printable(data['previous_status'])} → ", "dim")
    line.append(printable(data["status"]), _STYLES.get(data["status"], "bold"))
    source = data["source"]
    line.append(f"  v{data['version']} by {printable(source['type'])} {printable(source['id'])}", "dim")
    line.append(lateness(data), "yellow")
    return line


def lateness(data: dict[str, Any]) -> str:
    """Says how long ago an event happened, if that is worth a word."""
    if data["occurred_at"] is None:
        return ""
    late = datetime.fromisoformat(data["recorded_at"]) - datetime.fromisoformat(data["occurred_at"])
    return f"  reported {describe_duration(late)} late" if late > LATE else ""


def describe_duration(duration: timedelta) -> str:
    """`3 min`, `2.5 h`, `12 d`."""
    minutes = duration.total_seconds() / 60
    if minutes < 90:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h" if minutes < 48 * 60 else f"{minutes / 1440:.0f} d"


def refusal_line(time: datetime, order_id: str, problem: dict[str, Any]) -> Text:
    """A problem document that a caller got."""
    return Text.assemble(
        (f"{time:%H:%M:%S}.{time.microsecond // 1000:03d}  ", "dim"),
        f"{printable(order_id):<20}  ",
        ("refused  ", "bold red"),
        printable(problem["detail"]),
    )
