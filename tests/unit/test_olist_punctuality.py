"""The punctuality of orders in the shape of the Olist set: what the report counts is what the files say."""

import csv
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from builders import TIME, create_command, update_command
from tracking.load.olist import read_olist
from tracking.load.records import Operation
from tracking_order_state.domain.batch import decide_batch
from tracking_order_state.domain.decisions import NOTHING_KNOWN
from tracking_query.reports.figures import Punctuality, count_steps, cut
from tracking_shared.contracts.commands import AnyCommand, Customer
from tracking_shared.contracts.documents import EventDocument
from tracking_shared.contracts.timestamps import parse_time
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

ZONE = ZoneInfo("America/Sao_Paulo")
FORM = "%Y-%m-%d %H:%M:%S"
EVER = cut(datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC), None, ZoneInfo("UTC"))

Row = dict[str, str]
Figures = dict[str, list[Any]]


def sample(orders: int) -> dict[str, list[Row]]:
    """The three files: orders of one seller and of two, delivered early, late and not at all, some without an
    estimate, and across the start and the end of summer time.
    """
    random = Random(11)
    files: dict[str, list[Row]] = {"orders": [], "items": [], "customers": []}
    for number in range(orders):
        bought = datetime(2017, 9, 20, 8, tzinfo=UTC) + timedelta(hours=random.randrange(24 * 180))
        carrier = bought + timedelta(hours=random.randrange(-2, 100))
        delivered = carrier + timedelta(minutes=random.randrange(60, 60 * 24 * 30))
        estimate = (bought + timedelta(days=random.randrange(5, 30))).replace(hour=0, minute=0)
        if number % 10 == 0:
            estimate = delivered  # exactly in time
        is_delivered = random.random() < 0.9
        files["orders"].append(
            {
                "order_id": f"order{number}",
                "customer_id": f"c{number}",
                "order_status": "delivered" if is_delivered else "canceled",
                "order_purchase_timestamp": bought.strftime(FORM),
                "order_approved_at": "",
                "order_delivered_carrier_date": carrier.strftime(FORM),
                "order_delivered_customer_date": delivered.strftime(FORM) if is_delivered else "",
                "order_estimated_delivery_date": estimate.strftime(FORM) if random.random() < 0.9 else "",
            }
        )
        files["customers"].append(
            {
                "customer_id": f"c{number}",
                "customer_unique_id": f"unique{number}",
                "customer_city": "campinas",
                "customer_state": "SP",
            }
        )
        sellers = random.sample(["s1", "s2", "s3"], random.choice([1, 1, 2]))
        files["items"] += [
            {"order_id": f"order{number}", "seller_id": seller, "price": "10", "freight_value": "2"}
            for seller in sellers
        ]
    return files


def write(files: dict[str, list[Row]], folder: Path) -> list[Path]:
    paths = []
    for name, rows in files.items():
        paths.append(folder / f"{name}.csv")
        with paths[-1].open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    return paths


def command_of(operation: Operation) -> AnyCommand:
    time = parse_time(operation["occurred_at"]) if "occurred_at" in operation else None
    fields = {"occurred_at": time, "update_id": operation["update_id"]}
    if operation["op"] == "update":
        return update_command(operation["order_id"], operation["status"], **fields)
    if "due_at" in operation:
        fields["due_at"] = parse_time(operation["due_at"])
    fields["customer"] = Customer(**operation["customer"])
    return create_command(operation["order_id"], operation["merchant_id"], **fields)


def reported(paths: list[Path]) -> Figures:
    """What the report counts once the files are loaded, by merchant."""
    commands: dict[str, list[AnyCommand]] = defaultdict(list)
    for record in read_olist(paths):
        if record.fault is None:
            commands[record.order_key].append(command_of(record.operation))
    figures = Punctuality(["delivered"])
    for of_order in commands.values():
        made: list[EventDocument] = decide_batch(
            of_order, NOTHING_KNOWN, partition=0, seq=0, time=TIME, workflow=DEFAULT_WORKFLOW
        ).events
        if made:
            count_steps(made, "occurred", EVER, figures, by_merchant=True)
    return {merchant: cells for _, merchant, cells in figures.rows()}


def delay_of(order: Row) -> float | None:
    columns = ("order_delivered_customer_date", "order_estimated_delivery_date")
    times = [
        order[column] and datetime.strptime(order[column], FORM).replace(tzinfo=ZONE) for column in columns
    ]
    delivered, estimate = (time and time.timestamp() for time in times)
    return float(delivered) - float(estimate) if estimate else None


def computed(files: dict[str, list[Row]]) -> Figures:
    """The same from the rows of the files alone."""
    sellers: dict[str, list[str]] = defaultdict(list)
    for item in files["items"]:
        if item["seller_id"] not in sellers[item["order_id"]]:
            sellers[item["order_id"]].append(item["seller_id"])
    delays: dict[str, list[float | None]] = defaultdict(list)
    for order in files["orders"]:
        if order["order_delivered_carrier_date"] and order["order_delivered_customer_date"]:
            for seller in sellers[order["order_id"]]:
                delays[seller].append(delay_of(order))
    found: Figures = {}
    for seller, told in delays.items():
        late = sorted(delay for delay in told if delay is not None and delay > 0)
        on_time = sum(delay is not None and delay <= 0 for delay in told)
        ranks = [late[(len(late) * percent + 99) // 100 - 1] if late else None for percent in (50, 90, 99)]
        found[seller] = [on_time, len(late), told.count(None), *ranks]
    return found


@pytest.mark.parametrize("orders", [40, 400])
def test_the_report_agrees_with_the_files(orders: int, tmp_path: Path) -> None:
    files = sample(orders)
    expected = computed(files)
    assert reported(write(files, tmp_path)) == expected
    assert all(sum(cells[column] for cells in expected.values()) > 0 for column in range(3))
