"""The OpenAPI document of query: what its answers look like, beside what the routes say themselves."""

from typing import Any

from fastapi import FastAPI

from query import examples, report_examples
from query.audit_shapes import AUDIT_PAGE, AuditPage
from query.csv_text import CSV_MEDIA_TYPE, csv_lines
from query.export_forms import EXPORTED_TYPES, NDJSON_MEDIA_TYPE
from query.report_shapes import DurationReport, OpenReport, RefusalReport, StatusReport, TotalsReport
from query.shapes import EventPage, History, OrderPage, OrderUpdates
from shared.json_schemas import Document
from shared.messages import OrderView, UpdateOutcome
from shared.openapi import Answer, Content, Description, Operation, openapi_document
from shared.openapi_headers import ETAG_HEADERS, header
from shared.workflow import Workflow

READ = "orders:read"

_COMMON = ("validation-failed", "database-unavailable")

_TEXT = (
    "Where orders are, what happened to them, which ones, how long they take, and the whole log of changes."
    "\n\nTimes are RFC 3339 in UTC with milliseconds; a time in a request needs an offset. Unknown parameters"
    " are refused, so are second values of parameters that have one. What a token does not reach does not"
    " exist for it. Names and contacts of customers are shown to tokens with `merchants` that are not"
    " narrowed to `orders`. Errors are problem documents (RFC 9457)."
)

_TAGS = {
    "orders": "One order, now or at a time; its history; lists, in pages or as files.",
    "updates": "What became of updates, refusals included.",
    "events": "The log of all changes, readable from any position.",
    "audit": "Who did which administrative thing, when.",
    "reports": "Figures over many orders, as JSON or CSV.",
}


_HEADERS = {
    **ETAG_HEADERS,
    "Accept-Encoding": header("With `gzip` preferred, CSV and NDJSON come compressed.", "gzip"),
    "Link": header(
        "The next page (RFC 8288); not there on the last one.",
        f'</v1/orders?limit=1&cursor={examples.LIST_CURSOR}>; rel="next"',
        {"type": "string", "pattern": '^<[^>]+>; rel="next"$'},
    ),
    "Content-Disposition": header(
        "With a file: its name.", 'attachment; filename="orders-20260302T094100Z.csv"'
    ),
    "Content-Encoding": header("With a file, if asked for.", "gzip", {"const": "gzip"}),
    "As-Of": header(
        "Nothing recorded before it can still appear, so the next list by time may begin here. 1970 where"
        " that is not known.",
        "2026-03-02T09:40:58.021Z",
    ),
    "Vary": header("The request headers that the answer depends on.", "Accept"),
}

_PARAMETERS: dict[str, Document] = {
    "at": {"description": "The order as it stood then: after the changes recorded up to this time."},
    "merchant_id": {"description": "Only these merchants. May be repeated."},
    "order_id": {"description": "Only these orders. May be repeated."},
    "customer_ref": {"description": "Only orders of this customer, by `contact_ref`."},
    "active": {"description": "Only orders to which something may still happen, or only the others."},
    "created_from": {"description": "Created at this time or later."},
    "created_to": {"description": "Created before this time."},
    "updated_from": {"description": "Last changed at this time or later."},
    "updated_to": {"description": "Last changed before this time."},
    "q": {
        "description": (
            "Only orders of which a word begins with each of these words, without regard to case and accents:"
            " order id, merchant, customer reference, name, and who reported the newest change. The newest"
            " 2,000 that match; a moment behind the changes. Tokens that are not shown the customer search"
            " order ids and merchants. Not for files."
        )
    },
    "sort": {"description": "By which time; with `-`, the newest first."},
    "limit": {"description": "At most so many on a page."},
    "bom": {"description": "Only with `text/csv`: a byte order mark in front, by which Excel knows UTF-8."},
    "cursor": {"description": "The `next_cursor` of the page before, for the same request."},
    "from": {"description": "At this time or later."},
    "to": {"description": "Before this time."},
    "action": {"description": "Only acts of this kind."},
    "after": {"description": "The `cursor` of the answer before; without it, from the beginning."},
    "wait": {"description": "At the end of the log, wait up to so many seconds for the next event."},
}


def _file(media_type: str) -> Content:
    samples = {CSV_MEDIA_TYPE: examples.CSV, NDJSON_MEDIA_TYPE: examples.NDJSON}
    if media_type in samples:
        return Content({"type": "string"}, samples[media_type], media_type)
    return Content({"contentMediaType": media_type}, None, media_type)


def _report(name: str, shape: Any, example: dict[str, Any]) -> Operation:
    rows = example["rows"]
    table = csv_lines([list(rows[0]), *(list(row.values()) for row in rows)]).decode()
    contents = [Content(shape, example), Content({"type": "string"}, table, CSV_MEDIA_TYPE)]
    answer = Answer(200, "The report", contents, always=["Vary"], sometimes=["As-Of"])
    problems = [*_COMMON, "not-acceptable", "too-many-requests"]
    return Operation(name, [answer], problems, scope=READ)


_OPERATIONS = {
    "/v1/orders/{order_id}": Operation(
        "get_order",
        [
            Answer(200, "The order", [Content(OrderView, examples.ORDER)], always=["ETag"]),
            Answer(304, "It is as the caller has it", always=["ETag"]),
        ],
        [*_COMMON, "order-not-found", "precondition-failed"],
        headers=["If-Match", "If-None-Match"],
        scope=READ,
    ),
    "/v1/orders": Operation(
        "list_orders",
        [
            Answer(
                200,
                "A page of orders, or all of them as a file",
                [Content(OrderPage, examples.PAGE), *map(_file, EXPORTED_TYPES)],
                always=["Vary"],
                sometimes=["As-Of", "Link", "Content-Disposition", "Content-Encoding"],
            )
        ],
        [*_COMMON, "invalid-cursor", "not-acceptable", "too-many-requests"],
        headers=["Accept-Encoding"],
        scope=READ,
    ),
    "/v1/orders/{order_id}/history": Operation(
        "get_history",
        [
            Answer(
                200, "The history, or a page of it", [Content(History, examples.HISTORY)], sometimes=["Link"]
            )
        ],
        [*_COMMON, "order-not-found", "invalid-cursor"],
        scope=READ,
    ),
    "/v1/orders/{order_id}/updates": Operation(
        "get_order_updates",
        [Answer(200, "The newest outcomes", [Content(OrderUpdates, examples.ORDER_UPDATES)])],
        [*_COMMON, "order-not-found"],
        scope=READ,
    ),
    "/v1/updates/{order_id}/{update_id}": Operation(
        "get_update",
        [
            Answer(
                200,
                "It was applied, or rejected with this problem",
                [Content(UpdateOutcome, examples.OUTCOME)],
            )
        ],
        [*_COMMON, "update-not-found"],
        scope=READ,
        other_scope="orders:write",
    ),
    "/v1/events": Operation(
        "get_events",
        [Answer(200, "A page of the log", [Content(EventPage, examples.EVENTS)])],
        [*_COMMON, "invalid-cursor", "cursor-expired", "too-many-requests"],
        scope=READ,
    ),
    "/v1/audit": Operation(
        "get_audit",
        [Answer(200, "A page of the trail", [Content(AuditPage, AUDIT_PAGE)], sometimes=["Link"])],
        [*_COMMON, "invalid-cursor"],
        scope="orders:admin",
    ),
    "/v1/reports/durations": _report("get_durations", DurationReport, report_examples.DURATIONS),
    "/v1/reports/status-counts": _report("get_status_counts", StatusReport, report_examples.STATUS_COUNTS),
    "/v1/reports/open-orders": _report("get_open_orders", OpenReport, report_examples.OPEN_ORDERS),
    "/v1/reports/created-and-closed": _report(
        "get_created_and_closed", TotalsReport, report_examples.CREATED_AND_CLOSED
    ),
    "/v1/reports/refusals": _report("get_refusals", RefusalReport, report_examples.REFUSALS),
}


def query_document(app: FastAPI, workflow: Workflow) -> Document:
    """The OpenAPI document of query, with the statuses of this workflow."""
    statuses: Document = {
        "description": "Only orders, or changes, of these statuses. May be repeated.",
        "schema": {"items": {"type": "string", "enum": list(workflow.transitions)}},
    }
    return openapi_document(
        app, Description(_TEXT, _TAGS, _OPERATIONS, _HEADERS, _PARAMETERS | {"status": statuses})
    )
