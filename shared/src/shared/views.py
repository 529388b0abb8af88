"""What callers are shown of the documents: the public shapes, built in one place each."""

from typing import Any, cast

from shared.documents import EventDocument, OrderDocument, SourceDocument
from shared.messages import SEQUENCE_DIGITS, CloudEvent, EventData, OrderView, SourceView
from shared.timestamps import format_optional_time, format_time
from shared.workflow import Workflow


def order_view(order: OrderDocument, workflow: Workflow, *, with_customer: bool) -> OrderView:
    """An order as REST and the snapshots show it. `with_customer`: with personal data, for those entitled to
    it (`shared.access.sees_customer`).
    """
    view: dict[str, Any] = {"order_id": order["_id"], "merchant_id": order["merchant_id"]}
    if with_customer:
        view["customer"] = order["customer"]
    view |= {
        "status": order["status"],
        "version": order["version"],
        "active": order["active"],
        "created_at": format_time(order["created_at"]),
        "updated_at": format_time(order["updated_at"]),
        "source": source_view(order["source"], with_customer=with_customer),
        "metadata": order["metadata"],
        "allowed_next": list(workflow.allowed_next(order["status"])),
    }
    return cast(OrderView, view)  # built in two steps, for the order in which its members are shown


def source_view(source: SourceDocument, *, with_customer: bool) -> SourceView:
    """Who reported a change; without personal data only as what."""
    return {"type": source["type"], "id": source["id"]} if with_customer else {"type": source["type"]}


def history_item(event: EventDocument, *, with_customer: bool) -> dict[str, Any]:
    """One line of an order's history, with or without personal data."""
    return {
        "version": event["version"],
        "status": event["status"],
        "previous_status": event["previous_status"],
        "update_id": event["update_id"],
        "source": source_view(event["source"], with_customer=with_customer),
        "occurred_at": format_optional_time(event["occurred_at"]),
        "received_at": format_time(event["received_at"]),
        "recorded_at": format_time(event["recorded_at"]),
        "metadata": event["metadata"],
    }


def cloud_event(event: EventDocument, workflow: Workflow) -> CloudEvent:
    """The event as a CloudEvent 1.0 in JSON: the same document on AMQP, WebSocket and in the log.

    It holds personal data; `without_customer` gives the variant for those not entitled to that.
    """
    document: CloudEvent = {
        "specversion": "1.0",
        "id": f"{event['order_id']}:{event['version']}",
        "source": "/orders",
        "type": "order.created" if event["version"] == 1 else "order.status_changed",
        "subject": event["order_id"],
        "time": format_time(event["recorded_at"]),
        "datacontenttype": "application/json",
        "sequence": str(event["seq"]).zfill(SEQUENCE_DIGITS),
        "partition": event["partition"],
        "data": _event_data(event, workflow),
    }
    if "traceparent" in event:
        document["traceparent"] = event["traceparent"]
    return document


def _event_data(event: EventDocument, workflow: Workflow) -> EventData:
    return {
        "order_id": event["order_id"],
        "merchant_id": event["merchant_id"],
        "version": event["version"],
        "status": event["status"],
        "previous_status": event["previous_status"],
        "active": event["active"],
        "allowed_next": list(workflow.allowed_next(event["status"])),
        "update_id": event["update_id"],
        "occurred_at": format_optional_time(event["occurred_at"]),
        "received_at": format_time(event["received_at"]),
        "recorded_at": format_time(event["recorded_at"]),
        "created_at": format_time(event["created_at"]),
        "source": source_view(event["source"], with_customer=True),
        "metadata": event["metadata"],
        "order_metadata": event["order_metadata"],
        "customer": event["customer"],
    }


def without_customer(event: CloudEvent) -> CloudEvent:
    """The CloudEvent without personal data."""
    data = event["data"].copy()
    data.pop("customer", None)
    data["source"] = {"type": data["source"]["type"]}
    return event | {"data": data}
