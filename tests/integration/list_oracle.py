"""What a list of orders must hold, in plain Python, and random questions to compare it by."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from query_stack import CONTACTS, MERCHANTS, REFERENCES, START, World, random_world

from tracking_shared.contracts.access import Grant, reaches, sees_customer
from tracking_shared.contracts.documents import OrderDocument
from tracking_shared.contracts.messages import order_view
from tracking_shared.contracts.timestamps import format_time
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

Pairs = list[tuple[str, str]]


def _world() -> World:
    """One in which half of the closed orders got a checkpoint half an hour later."""
    world = random_world(orders=300, steps=3)
    for order in [order for order in world.orders.values() if not order["active"]][::2]:
        world.checkpoint(order["_id"], order["updated_at"] + timedelta(minutes=30))
    return world


WORLD = _world()
END = max(order["updated_at"] for order in WORLD.orders.values())
SORTS = ["-created_at", "created_at", "-updated_at", "updated_at", "due_at", "-due_at"]
EVERYTHING = Grant(merchants=frozenset({"*"}))

CLOSED_FROM_A_CHANGE: Pairs = [
    ("active", "false"),
    (
        "updated_from",
        format_time(min(order["updated_at"] for order in WORLD.orders.values() if not order["active"])),
    ),
]
"""The bound is in an index, behind another field, and so is an order that equals it."""

CLOSED_BEFORE_A_CHECKPOINT: Pairs = [
    (
        "closed_to",
        format_time(max(order["closing"]["at"] for order in WORLD.orders.values() if "closing" in order)),
    ),
]
"""Later checkpoints change neither the bound nor what it leaves."""

TIMES = st.one_of(
    st.sampled_from([order["updated_at"] for order in WORLD.orders.values()]),
    st.datetimes(START.replace(tzinfo=None), END.replace(tzinfo=None)).map(
        lambda time: time.replace(microsecond=0, tzinfo=START.tzinfo)
    ),
)
GRANTS = st.builds(
    Grant,
    merchants=st.one_of(
        st.just(frozenset({"*"})), st.frozensets(st.sampled_from([*MERCHANTS, "m-other"]), max_size=4)
    ),
    orders=st.one_of(
        st.none(), st.none(), st.frozensets(st.sampled_from([*WORLD.orders, "o-none"]), max_size=80)
    ),
)


@st.composite
def filters(draw: st.DrawFn) -> Pairs:
    """Query parameters in any mixture."""
    merchants = st.sampled_from([*MERCHANTS, "m-other"])
    pairs = [
        ("status", status)
        for status in draw(st.lists(st.sampled_from(sorted(DEFAULT_WORKFLOW.statuses)), max_size=3))
    ]
    pairs += [("merchant_id", merchant) for merchant in draw(st.lists(merchants, max_size=3))]
    if draw(st.integers(0, 3)) == 0:
        pairs.append(("customer_ref", draw(st.sampled_from([*CONTACTS, "+1"]))))
    if draw(st.integers(0, 3)) == 0:
        pairs.append(("reference", draw(st.sampled_from([*REFERENCES, "#9"]))))
    if draw(st.booleans()):
        pairs.append(("active", draw(st.sampled_from(["true", "false"]))))
    if draw(st.integers(0, 2)) == 0:
        pairs.append(("overdue", draw(st.sampled_from(["true", "false"]))))
    for name in ("created", "updated", "closed", "due"):
        start, end = sorted([draw(TIMES), draw(TIMES)])
        pairs += [(f"{name}_from", format_time(start))] * draw(st.booleans())
        pairs += [(f"{name}_to", format_time(end))] * draw(st.booleans())
    return pairs


def closed_at(order: OrderDocument) -> datetime:
    """When it came into its final status."""
    return order["closing"]["at"] if "closing" in order else order["updated_at"]


def matches(order: OrderDocument, pairs: Pairs, grant: Grant) -> bool:
    """The filter in plain words."""

    def asked(name: str) -> list[str]:
        return [value for key, value in pairs if key == name]

    checks: dict[str, Callable[[str], bool]] = {
        "customer_ref": lambda value: order["customer"]["contact_ref"] == value,
        "reference": lambda value: order.get("reference") == value,
        "active": lambda value: order["active"] is (value == "true"),
        "overdue": lambda value: order.get("overdue", False) is (value == "true"),
        "due_from": lambda value: "due_at" in order and order["due_at"] >= datetime.fromisoformat(value),
        "due_to": lambda value: "due_at" in order and order["due_at"] < datetime.fromisoformat(value),
        "closed_from": lambda value: (
            not order["active"] and closed_at(order) >= datetime.fromisoformat(value)
        ),
        "closed_to": lambda value: not order["active"] and closed_at(order) < datetime.fromisoformat(value),
        "created_from": lambda value: order["created_at"] >= datetime.fromisoformat(value),
        "created_to": lambda value: order["created_at"] < datetime.fromisoformat(value),
        "updated_from": lambda value: order["updated_at"] >= datetime.fromisoformat(value),
        "updated_to": lambda value: order["updated_at"] < datetime.fromisoformat(value),
    }
    return (
        reaches(grant, order["_id"], order["merchant_id"])
        and (not asked("status") or order["status"] in asked("status"))
        and (not asked("merchant_id") or order["merchant_id"] in asked("merchant_id"))
        and all(checks[key](value) for key, value in pairs if key in checks)
    )


def expected(world: World, pairs: Pairs, grant: Grant, sort: str) -> list[dict[str, Any]]:
    field = sort.removeprefix("-")
    found = [order for order in world.orders.values() if field in order and matches(order, pairs, grant)]
    found.sort(key=lambda order: (order[field], order["_id"]), reverse=sort.startswith("-"))  # type: ignore[literal-required]
    return [order_view(order, DEFAULT_WORKFLOW, with_customer=sees_customer(grant)) for order in found]
