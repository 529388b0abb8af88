"""A field of an order is added in many places: each field of `OrderDocument` is in all of them, or is
exempted here by name, with the reason. docs/new-order-field.md lists the places.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, get_type_hints

import orjson
import pytest
from console_scripts import CONSOLE, answer_of
from pages import read
from pydantic import BaseModel

from tracking.load import header, operations
from tracking_client.order_view import order_after
from tracking_ingest.api.bodies import CreateBody
from tracking_query.log.event_routes import EVENT_PAGE
from tracking_query.orders import order_shapes
from tracking_query.orders.export_forms import NdjsonForm
from tracking_query.orders.tables import column_names, table_row
from tracking_shared.contracts.commands import CreateOrder
from tracking_shared.contracts.documents import EventDocument, OrderDocument, project
from tracking_shared.contracts.messages import EventData, OrderView, cloud_event, history_item, order_view
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

Names = set[str]

STORED_ALONE = "closing"
"""It serves an index of the reports, of orders that changed after their end. No caller is shown it."""

FIELDS = [name for name in get_type_hints(OrderDocument) if name != STORED_ALONE]
TIME = datetime(2026, 3, 1, 8, tzinfo=UTC)

EVENT = EventDocument(
    _id=1,
    order_id="o-1",
    merchant_id="acme",
    reference="WH/OUT/00012",
    customer={"name": "Ada Example", "contact_ref": "crm:17"},
    version=2,
    partition=0,
    seq=1,
    status="picked_up",
    previous_status="created",
    active=True,
    update_id="u-1",
    source={"type": "driver", "id": "driver-17"},
    occurred_at=None,
    received_at=TIME,
    recorded_at=TIME,
    created_at=TIME,
    metadata={},
    order_metadata={},
    due_at=TIME,
    eta=TIME,
    announced_due_at=TIME,
    overdue=True,
    erased_at=TIME,
)
ORDER = project(EVENT) | project(EVENT | {"overdue": False})


def hints(shape: Any) -> Names:
    return set(get_type_hints(shape))


def fields_of(model: type[BaseModel]) -> Names:
    return set(model.model_fields)


def event_data() -> dict[str, Any]:
    return dict(cloud_event(EVENT, DEFAULT_WORKFLOW)["data"])


def ndjson_line() -> Names:
    form = NdjsonForm(DEFAULT_WORKFLOW, with_customer=True)
    return set(orjson.loads(form.chunk([ORDER])))


def javascript_order() -> Names:
    script = (
        'import { orderAfter } from "./tracking-live.js"; console.log(JSON.stringify(orderAfter(given)));'
    )
    return set(answer_of(script, {"data": event_data()}))


def console_words() -> Names:
    """The words of the console's own scripts: a field that is shown is named in one of them."""
    scripts = [path for path in CONSOLE.glob("*.js") if path.name != "tracking-live.js"]
    return set(re.findall(r"\w+", " ".join(path.read_text() for path in scripts)))


SITES: dict[str, Callable[[], Names]] = {
    "the request that creates an order": lambda: {"order_id"} | fields_of(CreateBody),
    "the command that creates an order": lambda: fields_of(CreateOrder),
    "the event document": lambda: hints(EventDocument),
    "the order of an event": lambda: set(ORDER),
    "the shape of the view": lambda: hints(OrderView),
    "the view": lambda: set(order_view(ORDER, DEFAULT_WORKFLOW, with_customer=True)),
    "the shape of the event data": lambda: hints(EventData),
    "the event data": lambda: set(event_data()),
    "the shape of a history item": lambda: hints(order_shapes.HistoryItem),
    "the history item": lambda: set(history_item(EVENT, with_customer=True)),
    "the example order": lambda: set(order_shapes.ORDER),
    "the example event": lambda: set(EVENT_PAGE["events"][0]["data"]),
    "the columns of CSV and Parquet": lambda: set(column_names(with_customer=True)),
    "the lines of NDJSON": ndjson_line,
    "the columns that are loaded": lambda: set(header.COLUMNS),
    "the fields that are loaded of an exported order": lambda: set(operations._ORDER_FIELDS),
    "the Python client": lambda: set(order_after({"data": event_data()})),
    "the JavaScript client": javascript_order,
    "the console": console_words,
}

ORDER_ID = {"_id": {"order_id"}}
IN_EVENTS = ORDER_ID | {"updated_at": {"recorded_at"}, "metadata": {"order_metadata"}}
IN_TABLES = ORDER_ID | {
    "customer": {"customer_name", "customer_contact_ref"},
    "source": {"source_type", "source_id"},
}
NAMES: dict[str, dict[str, Names]] = {
    "the event document": IN_EVENTS,
    "the order of an event": {},
    "the shape of the event data": IN_EVENTS,
    "the event data": IN_EVENTS,
    "the example event": IN_EVENTS,
    "the shape of a history item": ORDER_ID | {"updated_at": {"recorded_at"}},
    "the history item": ORDER_ID | {"updated_at": {"recorded_at"}},
    "the columns of CSV and Parquet": IN_TABLES,
    "the columns that are loaded": IN_TABLES,
}
"""The names of a field where they are not its own, by site. All others have `ORDER_ID`."""

INTERNAL = "it says where the order is stored, which is nothing that a caller uses"
DECIDED = "order-state decides it"
CREATED = "the workflow gives the first status"
STAMPED = "order-state stamps it"
OF_TOKEN = "it comes from the token"
CONSTANT = "it is the same in all changes of the order, whose id the request names"
BY_STATUS = "it follows from the status"
FROM_HERE = "the installation that loads the file assigns its own"
SWEPT = "order-state keeps it, so that a due time has one `order.overdue`"
INDEXED = "it is the key of an index, made of `partition` and `due_at`"
NOT_YET = "the console does not show it yet"
ERASED = "an erasure is an event of its own, of an order that exists"
EMPTY = "the cells of a customer who is erased are empty"
NO_CUSTOMER = "it shows no customer"
KNOWN = "the customer of the example is not erased"
ESTIMATED = "an estimate is an event of its own, which a new order does not have yet"

EXEMPT: dict[str, dict[str, str]] = {
    "the request that creates an order": {
        "status": CREATED,
        "active": CREATED,
        "version": DECIDED,
        "created_at": STAMPED,
        "updated_at": STAMPED,
        "source": OF_TOKEN,
        "partition": INTERNAL,
        "eta": ESTIMATED,
        "overdue": DECIDED,
        "erased_at": ERASED,
    },
    "the command that creates an order": {
        "status": CREATED,
        "active": CREATED,
        "version": DECIDED,
        "created_at": STAMPED,
        "updated_at": STAMPED,
        "partition": "it follows from the queue",
        "eta": ESTIMATED,
        "overdue": DECIDED,
    },
    "the event document": {"due_key": INDEXED},
    "the shape of a history item": {
        "_id": CONSTANT,
        "merchant_id": CONSTANT,
        "reference": CONSTANT,
        "customer": CONSTANT,
        "created_at": CONSTANT,
        "active": BY_STATUS,
        "partition": INTERNAL,
        "erased_at": NO_CUSTOMER,
    },
    "the columns of CSV and Parquet": {"partition": INTERNAL, "erased_at": EMPTY},
    "the example order": {"partition": INTERNAL, "erased_at": KNOWN},
    "the example event": {"partition": INTERNAL, "erased_at": KNOWN},
    "the columns that are loaded": {
        "version": FROM_HERE,
        "active": BY_STATUS,
        "source": OF_TOKEN,
        "partition": INTERNAL,
        "overdue": DECIDED,
        "erased_at": ERASED,
    },
    "the console": {"partition": INTERNAL, **dict.fromkeys(("due_at", "eta", "overdue"), NOT_YET)},
}
EXEMPT["the history item"] = EXEMPT["the shape of a history item"]
EXEMPT["the fields that are loaded of an exported order"] = EXEMPT["the columns that are loaded"] | {
    "eta": ESTIMATED
}
EXEMPT |= {
    site: {"partition": INTERNAL}
    for site in SITES.keys() - EXEMPT.keys() - {"the event document", "the order of an event"}
}
for _site in SITES.keys() - {"the event document", "the order of an event"}:
    EXEMPT[_site] = EXEMPT[_site] | {"announced_due_at": SWEPT, "due_key": INDEXED}


def names_of(field: str, site: str) -> Names:
    return NAMES.get(site, ORDER_ID).get(field, {field})


@pytest.mark.parametrize("site", sorted(SITES))
def test_every_field_of_an_order_is_in_every_place_or_exempted_by_name(site: str) -> None:
    exempt = EXEMPT.get(site, {})
    present = SITES[site]()
    missing = [field for field in FIELDS if field not in exempt and not names_of(field, site) <= present]
    assert missing == [], f"{site} lacks {missing}: add them, or exempt them here with a reason"


@pytest.mark.parametrize("site", sorted(EXEMPT))
def test_every_exemption_is_of_a_field_that_is_not_there(site: str) -> None:
    present = SITES[site]()
    for field, reason in EXEMPT[site].items():
        assert field in FIELDS
        assert reason
        if site != "the console":  # a word of it may be another thing's name
            assert not names_of(field, site) & present, f"{field} is in {site} after all"


def test_a_row_of_a_table_has_a_cell_for_each_column() -> None:
    for with_customer in (True, False):
        assert len(table_row(ORDER, with_customer=with_customer)) == len(
            column_names(with_customer=with_customer)
        )


def test_the_page_about_a_new_field_lists_the_places() -> None:
    page = read("docs/new-order-field.md")
    for name in (
        "documents",
        "commands",
        "bodies",
        "messages",
        "order_shapes",
        "tables",
        "header",
        "example_order",
    ):
        assert f"[{name}.py]" in page
    assert "tests/unit/test_order_fields.py" in page
