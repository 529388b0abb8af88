"""An order whose customer was erased, in the clients, the console's search and the terminal."""

from typing import Any

from console_scripts import answer_of

from tracking.terminal import event_line
from tracking_client.order_view import order_after
from tracking_query.log.event_routes import EVENT_PAGE
from tracking_query.orders.parquet_form import ParquetForm
from tracking_query.orders.tables import column_names, table_row
from tracking_shared.contracts.documents import OrderDocument
from tracking_shared.contracts.timestamps import UNIX_EPOCH

ERASED = {"customer": None, "erased_at": "2026-03-02T09:41:00.250Z"}


def erased_event() -> dict[str, Any]:
    event: dict[str, Any] = EVENT_PAGE["events"][0]
    return event | {"type": "order.customer_erased", "data": event["data"] | ERASED}


def test_both_clients_keep_null_and_the_time_of_the_erasure() -> None:
    script = (
        'import { orderAfter } from "./tracking-live.js"; console.log(JSON.stringify(orderAfter(given)));'
    )
    in_javascript = answer_of(script, erased_event())
    assert order_after(erased_event()) == in_javascript
    assert {name: in_javascript[name] for name in ERASED} == ERASED


def test_a_client_that_is_shown_no_customer_has_none() -> None:
    event = erased_event()
    del event["data"]["customer"]
    script = (
        'import { orderAfter } from "./tracking-live.js"; console.log(JSON.stringify(orderAfter(given)));'
    )
    assert "customer" not in order_after(event)
    assert "customer" not in answer_of(script, event)


def test_the_console_finds_an_erased_order_by_the_rest() -> None:
    script = 'import { wordsOf } from "./search_words.js"; console.log(JSON.stringify(wordsOf(given)));'
    order = {"order_id": "o-1", "merchant_id": "acme", "reference": "#7", "source": {"id": "dora"}}
    assert answer_of(script, order | ERASED) == ["o-1", "acme", "#7", "7", "dora"]


def test_the_terminal_says_that_the_customer_is_erased() -> None:
    assert "customer erased" in event_line(erased_event()).plain


def test_a_table_has_empty_cells_for_an_erased_customer() -> None:
    order: OrderDocument = {
        "_id": "o-1",
        "merchant_id": "acme",
        "customer": None,
        "erased_at": UNIX_EPOCH,
        "status": "created",
        "active": True,
        "version": 2,
        "created_at": UNIX_EPOCH,
        "updated_at": UNIX_EPOCH,
        "source": {"type": "system", "id": "tracking:erasure"},
        "metadata": {},
        "partition": 0,
    }
    row = dict(zip(column_names(with_customer=True), table_row(order, with_customer=True), strict=True))
    assert (row["customer_name"], row["customer_contact_ref"]) == (None, None)
    form = ParquetForm(with_customer=True)
    assert form.start() + form.chunk([order]) + form.end()
