"""The list of orders: from parameters to a database query, and from its answer to a page. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, cast

import orjson
from pydantic import Field, ValidationInfo, field_validator

from tracking_query.api.page_cursors import KeysetPosition
from tracking_query.api.parameters import Flag, Identifiers, Parameters, Statuses, Time, WholeNumber
from tracking_shared.contracts.access import ReadableOrders
from tracking_shared.contracts.documents import OrderDocument, overdue_condition
from tracking_shared.contracts.references import Reference
from tracking_shared.contracts.texts import CONTROL_FREE_PATTERN, canonical_forms, searched_words
from tracking_shared.storage.embedded_database import ANY_TIME, time_range
from tracking_shared.storage.keyset import KeyOrder

MAX_ORDERS = 500

SortField = Literal["created_at", "updated_at", "due_at"]

_SELECTIVE = (
    "_id",
    "reference",
    "customer.contact_ref",
    "merchant_id",
    "due_at",
    "status",
    "created_at",
)
"""Fields with an index, the one that leaves the fewest orders first."""

_MORE_SELECTIVE_THAN_OVERDUE = frozenset(_SELECTIVE[:3])
"""What is overdue now, of all merchants, is less than what one of them ever had."""


class ListParameters(Parameters):
    """The filters, the sort and the page of `GET /v1/orders`."""

    status: Statuses
    """Only orders, or changes, of these statuses. May be repeated."""
    merchant_id: Identifiers
    """Only these merchants. May be repeated."""
    reference: Reference | None = None
    """Only orders with this number of their merchant, exactly."""
    customer_ref: Annotated[str | None, Field(min_length=1, max_length=128, pattern=CONTROL_FREE_PATTERN)] = (
        None
    )
    """Only orders of this customer, by `contact_ref`."""
    active: Flag | None = None
    """Only orders to which something may still happen, or only the others."""
    created_from: Time | None = None
    """Created at this time or later."""
    created_to: Time | None = None
    """Created before this time."""
    updated_from: Time | None = None
    """Last changed at this time or later."""
    updated_to: Time | None = None
    """Last changed before this time."""
    closed_from: Time | None = None
    """Came into its final status at this time or later. Open orders are left out."""
    closed_to: Time | None = None
    """Came into its final status before this time. Open orders are left out."""
    overdue: Flag | None = None
    """Only open orders whose `due_at` has passed, or only the others."""
    due_from: Time | None = None
    """Due at this time or later. Orders without a `due_at` are left out."""
    due_to: Time | None = None
    """Due before this time. Orders without a `due_at` are left out."""
    sort: Literal["-created_at", "created_at", "-updated_at", "updated_at", "due_at", "-due_at"] = (
        "-created_at"
    )
    """By which time; with `-`, the newest first. By `due_at`, orders without one are left out."""
    q: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=200,
            pattern=r"^[^\x00-\x1f\x7f-\x9f]*$",
            description=(
                "Only orders of which a word begins with each of these words, without regard to case and"
                " accents: order id, merchant, reference, customer reference, name, and who reported the"
                " newest change. The newest 2,000 that match; a moment behind the changes. Tokens that are"
                " not shown the customer search order ids, merchants and whole references. Not for files."
            ),
        ),
    ] = None
    limit: Annotated[WholeNumber, Field(ge=1, le=MAX_ORDERS)] = 50
    """At most so many on a page."""
    cursor: str | None = None
    """The `next_cursor` of the page before, for the same request."""
    bom: Flag = False
    """Only with `text/csv`: a byte order mark in front, by which Excel knows UTF-8."""

    @field_validator("q")
    @classmethod
    def _asks_for_something(cls, text: str | None) -> str | None:
        if text is not None and not searched_words(text):
            raise ValueError("must hold a word")
        return text

    @field_validator("created_to", "updated_to", "closed_to", "due_to")
    @classmethod
    def _not_before_from(cls, to: datetime | None, info: ValidationInfo) -> datetime | None:
        start_name = f"{str(info.field_name).removesuffix('_to')}_from"
        start = info.data.get(start_name)
        if to is not None and start is not None and to < start:
            raise ValueError(f"must not be before {start_name}")
        return to

    @property
    def sort_field(self) -> SortField:
        """The time that the list is sorted by."""
        return cast(SortField, self.sort.removeprefix("-"))

    @property
    def is_by_time(self) -> bool:
        """True if it is bounded by a time at which something was recorded."""
        bounds = (self.created_from, self.created_to, self.updated_from, self.updated_to)
        return self.is_by_closing or any(bound is not None for bound in bounds)

    @property
    def is_by_closing(self) -> bool:
        """True if it is bounded by the time at which orders came into their final status."""
        return self.closed_from is not None or self.closed_to is not None

    @property
    def binding(self) -> bytes:
        """The part of the request that a cursor is bound to: all but the page and the form of a file."""
        fields = self.model_dump(mode="json", exclude={"cursor", "limit", "bom"})
        for name in (
            "q",
            "reference",
            "overdue",
            "due_from",
            "due_to",
            "closed_from",
            "closed_to",
        ):  # as in the cursors of earlier releases
            if fields[name] is None:
                del fields[name]
        fields |= {name: sorted(set(fields[name])) for name in ("status", "merchant_id")}
        return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the list; `next_position` is None on the last one."""

    orders: Sequence[OrderDocument]
    next_position: KeysetPosition | None
    as_of: datetime | None = None
    """Of a list by time: the horizon when its first page was read."""


@dataclass(frozen=True, slots=True)
class ListQuery:
    """The database query of a list, for one page or everything."""

    stages: Sequence[dict[str, Any]]
    """Conditions, one at least; all of them hold. An index serves the first."""

    sort: dict[str, int]
    """By a time, then by the id."""

    is_from_any_time: bool = False
    """True: the first stage only says that the time of the sort is any, and `after` narrows it."""

    def after_order(self, order: OrderDocument) -> "ListQuery":
        """The part of the list behind an order of it."""
        field = cast(SortField, next(iter(self.sort)))
        return self.after(KeysetPosition(order[field], order["_id"]))

    def after(self, position: KeysetPosition) -> "ListQuery":
        """The part of the list behind `position`."""
        field = next(iter(self.sort))
        order = KeyOrder(tuple(self.sort), self.sort[field])
        first, *rest = self.stages
        if self.is_from_any_time:
            first = {field: {"$lte" if order.direction < 0 else "$gte": position.time}}
        beyond = order.behind({field: position.time, "_id": position.order_id})
        return ListQuery([first, *rest, beyond], self.sort)


def list_query(
    parameters: ListParameters, readable: ReadableOrders, after: KeysetPosition | None = None
) -> ListQuery:
    """The query for the list behind `after`, or from its beginning."""
    field = parameters.sort_field
    direction = _direction(parameters)
    conditions = _conditions(parameters, readable)  # in stages: see `embedded_database`
    is_from_any_time = field == "created_at" and not conditions
    first = {"created_at": ANY_TIME} if is_from_any_time else _first_stage(conditions)
    rest = {name: condition for name, condition in conditions.items() if name not in first}
    stages = [stage for stage in (first, rest) if stage]
    query = ListQuery(stages, {field: direction, "_id": direction}, is_from_any_time)
    return query if after is None else query.after(after)


def page_of(
    found: Sequence[OrderDocument], parameters: ListParameters, as_of: datetime | None = None
) -> Page:
    """The page in what the aggregation found."""
    orders = found[: parameters.limit]
    if len(found) <= parameters.limit:
        return Page(orders, None, as_of)
    last = orders[-1]
    return Page(orders, KeysetPosition(last[parameters.sort_field], last["_id"], as_of), as_of)


def _direction(parameters: ListParameters) -> int:
    return -1 if parameters.sort.startswith("-") else 1


def _conditions(parameters: ListParameters, readable: ReadableOrders) -> dict[str, Any]:
    conditions = readable.conditions("_id")
    if parameters.reference is not None:
        conditions["reference"] = parameters.reference
    if parameters.customer_ref is not None:
        conditions["customer.contact_ref"] = _same_text(parameters.customer_ref)
    if parameters.status:
        conditions["status"] = {"$in": sorted(set(parameters.status))}
    if parameters.active is not None:
        conditions["active"] = parameters.active
    if parameters.overdue is not None:
        conditions["overdue"] = overdue_condition(overdue=parameters.overdue)
    if parameters.is_by_closing:
        conditions.setdefault("active", False)
        conditions["$or"] = _closing_conditions(parameters)
    return conditions | _time_conditions(parameters)


def _closing_conditions(parameters: ListParameters) -> list[dict[str, Any]]:
    """One of them holds. An order came into its final status with its newest change, unless a checkpoint or
    the like followed.
    """
    times = time_range(parameters.closed_from, parameters.closed_to)
    return [{"closing": {"$exists": False}, "active": False, "updated_at": times}, {"closing.at": times}]


def _time_conditions(parameters: ListParameters) -> dict[str, Any]:
    conditions: dict[str, Any] = {}
    # No order changed last before it closed: by this an index serves a list by closing times.
    changed_from = max(filter(None, (parameters.updated_from, parameters.closed_from)), default=None)
    for field, start, end in (
        ("created_at", parameters.created_from, parameters.created_to),
        ("updated_at", changed_from, parameters.updated_to),
        ("due_at", parameters.due_from, parameters.due_to),
    ):
        if start or end:
            conditions[field] = time_range(start, end)
    if parameters.due_from is None and (parameters.due_to or parameters.sort_field == "due_at"):
        # Without a lower bound, the index that holds only orders with a due time does not serve it.
        conditions["due_at"] = ANY_TIME | conditions.get("due_at", {})
    return conditions


def _same_text(text: str) -> dict[str, Any]:
    # What is stored is in NFC; orders of earlier have it as it was sent.
    forms = canonical_forms(text)
    return {"$in": forms} if len(forms) > 1 else {"$eq": text}


def _first_stage(conditions: dict[str, Any]) -> dict[str, Any]:
    if conditions.get("overdue") is True and not conditions.keys() & _MORE_SELECTIVE_THAN_OVERDUE:
        return {"overdue": True}
    for name in _SELECTIVE:
        if name == "due_at" and name in conditions:
            # The index on due times begins with it.
            return {"active": conditions.get("active", {"$in": [False, True]}), name: conditions[name]}
        if name in conditions:
            return {name: conditions[name]}
    if "active" in conditions:
        return {name: conditions[name] for name in ("active", "updated_at") if name in conditions}
    return {"active": {"$in": [False, True]}}  # the index on `updated_at` begins with it
