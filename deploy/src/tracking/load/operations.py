"""Converts the fields of a row or line into operations of a batch. Pure.

An operation without an update id gets one that is derived from its content, so that loading a file again
repeats the same updates instead of adding new ones.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from tracking.load.header import METADATA_PREFIX, Header
from tracking.load.records import Location, Operation, Record, unreadable
from tracking.load.times import instant_of, with_offset
from tracking_shared.contracts.identifiers import content_update_id
from tracking_shared.contracts.references import order_id_at
from tracking_shared.contracts.texts import FORMULA_STARTS
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW, Workflow

_TIMES = ("occurred_at", "created_at", "updated_at", "eta", "due_at")
_TRIMMED = frozenset(
    {"op", "order_id", "merchant_id", "status", "kind", "update_id", "expected_version", "metadata", *_TIMES}
)
"""Names, contacts, references and messages keep their blanks."""

_ORDER_FIELDS = frozenset(
    {
        *("order_id", "merchant_id", "reference", "customer", "status", "metadata"),
        *("created_at", "updated_at", "due_at"),
    }
)
"""The fields that are loaded of an exported order. The others are derived, or of its installation."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """Options for the conversion of values."""

    zone: ZoneInfo | None = None
    """The zone of times without an offset."""
    status_names: Mapping[str, str] = field(default_factory=dict)
    """Status in the file → status of the workflow."""
    workflow: Workflow = DEFAULT_WORKFLOW


@dataclass(frozen=True, slots=True)
class Parsed:
    """An operation of one row or line."""

    operation: Operation
    is_current_status: bool = False
    """An update to the order's current status: earlier transitions are inferred (see `order_records`)."""
    may_exist: bool = False
    """The create of the same row, which also succeeds if the order exists."""


ColumnName = Callable[[str], str]
"""The name of one of our columns in the file."""


def operations_of_row(row: Mapping[str, str], header: Header, options: ReadOptions) -> list[Parsed]:
    """The operations of a CSV row, with its values by our column names.

    Raises:
        UnreadableRecord: a value cannot be read.
    """
    values = {name: value.strip() if name in _TRIMMED else value for name, value in row.items()}
    fields: dict[str, Any] = {name: value for name, value in values.items() if value}
    if header.is_export:
        fields = {name: _without_apostrophe(value) for name, value in fields.items()}
    metadata = _metadata_of(fields, header.name_of)
    customer = {
        key: fields.pop(name)
        for key, name in (("name", "customer_name"), ("contact_ref", "customer_contact_ref"))
        if name in fields
    }
    if customer:
        fields["customer"] = {
            "name": customer.get("name", ""),
            "contact_ref": customer.get("contact_ref", ""),
        }
    if metadata is not None:
        fields["metadata"] = metadata
    if fields.get("expected_version"):
        fields["expected_version"] = _version(fields["expected_version"], header.name_of("expected_version"))
    return operations_of(fields, options, header.name_of)


def operations_of_line(text: str, options: ReadOptions) -> list[Parsed]:
    """The operations of a line of NDJSON: one as `POST /v1/batch` takes it, or an order as an export has it.

    Raises:
        UnreadableRecord: it is no JSON object, or a time cannot be read.
    """
    line = json_object(text)
    is_order = "op" not in line and "status" in line and {"version", "allowed_next"} <= line.keys()
    if is_order:
        line = {name: value for name, value in line.items() if name in _ORDER_FIELDS}
    return operations_of(line, options, lambda name: name)


def operations_of(fields: Operation, options: ReadOptions, column_name: ColumnName) -> list[Parsed]:
    """Converts named fields into operations.

    `op` decides. Without it: merchant, customer and status are a create, and the updates to that status; a
    kind is a checkpoint; a status is an update, with a reason a correction; anything else is a create.

    Raises:
        UnreadableRecord: they are no operation, or a time cannot be read.
    """
    # Exports say that there is no due time; the derived update id must be that of a file without it.
    fields = {name: value for name, value in fields.items() if name != "due_at" or value is not None}
    fields = _with_order_id(fields)
    for name in _TIMES:
        if isinstance(fields.get(name), str):
            fields[name] = with_offset(fields[name], options.zone, column_name(name))
    created, updated = fields.pop("created_at", None), fields.pop("updated_at", None)
    if isinstance(fields.get("status"), str):
        fields["status"] = _our_status(fields["status"], options)
    if not fields.keys() & {"op", "status", "kind", "merchant_id", "customer"}:
        raise unreadable(
            "neither a status nor a new order", "", None, "a new order has a merchant and a customer"
        )
    if "op" in fields or not fields.keys() & {"status", "kind"}:
        return [_plain(fields, created or updated)]
    if "customer" not in fields:
        return [_plain(_of_change(fields), updated)]
    if "merchant_id" not in fields:
        raise unreadable(
            "a customer without a merchant", column_name("merchant_id"), None, "a create needs both"
        )
    return _create_and_reach(fields, created, updated, options.workflow)


_OF_REFERENCE = ("merchant_id", "reference")


def _with_order_id(fields: Operation) -> Operation:
    """The fields with the order id that their merchant and reference stand for, if they name no other."""
    given = [fields.get(name) for name in _OF_REFERENCE]
    if fields.get("order_id") or not all(isinstance(text, str) for text in given):
        return dict(fields)
    order_id = order_id_at(*map(str, given))
    if order_id is None:
        return dict(fields)  # which ingest refuses, with the reason
    is_create = fields.get("op", "create") == "create"
    return (dict(fields) if is_create else _without(fields, *_OF_REFERENCE)) | {"order_id": order_id}


def _of_change(fields: Operation) -> Operation:
    # Files of changes often repeat the merchant and the due time. A change of an order id has no merchant,
    # and only a checkpoint has a due time.
    unsent = () if "kind" in fields else ("due_at",)
    return _without(fields, *unsent, *(_OF_REFERENCE if "order_id" in fields else ()))


def _without(fields: Operation, *names: str) -> Operation:
    return {name: value for name, value in fields.items() if name not in names}


def _plain(fields: Operation, time: str | None) -> Parsed:
    operation = dict(fields)
    operation.setdefault("op", _op_of(operation))
    if time and "occurred_at" not in operation:
        operation["occurred_at"] = time
    return Parsed(operation)


def _op_of(fields: Operation) -> str:
    if "kind" in fields:
        return "checkpoint"
    if "status" in fields:
        return "correct" if "reason" in fields else "update"
    return "create"


def _create_and_reach(
    fields: Operation, created: str | None, updated: str | None, workflow: Workflow
) -> list[Parsed]:
    status = fields["status"]
    time = fields.get("occurred_at") or updated
    create: Operation = {
        name: fields[name]
        for name in ("order_id", "merchant_id", "reference", "customer", "due_at", "metadata")
        if name in fields
    }
    create_time = created or (time if status == workflow.initial else None)
    create |= {"op": "create"} | ({"occurred_at": create_time} if create_time else {})
    rest = {name: value for name, value in fields.items() if name not in create and name != "occurred_at"}
    if status == workflow.initial:
        return [
            Parsed(create | {name: value for name, value in rest.items() if name != "status"}, may_exist=True)
        ]
    if "order_id" not in fields:
        raise unreadable(
            "a status without an order id", "order_id", None, "a later status needs the order's own id"
        )
    update = {"op": "update", "order_id": fields["order_id"]} | rest
    if "metadata" in fields:
        update["metadata"] = fields["metadata"]
    if time:
        update["occurred_at"] = time
    return [Parsed(create, may_exist=True), Parsed(update, is_current_status=True)]


def _our_status(text: str, options: ReadOptions) -> str:
    key = " ".join(text.split()).casefold()
    if key in options.status_names:
        return options.status_names[key]
    name = key.replace(" ", "_").replace("-", "_")
    return name if name in options.workflow.statuses else text


def _without_apostrophe(value: str) -> str:
    return value[1:] if value[0] == "'" and value[1:2] and value[1] in FORMULA_STARTS else value


def _metadata_of(fields: dict[str, Any], column_name: ColumnName) -> Operation | None:
    text = fields.pop("metadata", None)
    metadata = None if text is None else json_object(text, column_name("metadata"))
    for name in [name for name in fields if name.startswith(METADATA_PREFIX)]:
        metadata = (metadata or {}) | {name.removeprefix(METADATA_PREFIX): fields.pop(name).strip()}
    return metadata


def with_update_id(operation: Operation) -> Operation:
    """The operation, with an update id derived from its content if it has none."""
    if operation.get("update_id"):
        return operation
    canonical = orjson.dumps(operation, option=orjson.OPT_SORT_KEYS)
    return operation | {"update_id": content_update_id(canonical)}


def record_of(location: Location, parsed: Parsed, *, in_file_order: bool = False) -> Record:
    """The record of an operation, with its update id. `in_file_order`: it is not sorted by time."""
    operation = with_update_id(parsed.operation)
    time = operation.get("occurred_at")
    return Record(
        location,
        body=orjson.dumps(operation),
        order_key=str(operation.get("order_id") or operation["update_id"]),
        creates=operation.get("op") == "create",
        kind="current_status" if parsed.is_current_status else "may_exist" if parsed.may_exist else "plain",
        time=instant_of(time) if isinstance(time, str) and not in_file_order else None,
    )


def json_object(text: str, column: str = "") -> Operation:
    """Parses a JSON object.

    Raises:
        UnreadableRecord: the text is not one.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise unreadable(
            "not JSON", column, text.strip(), f"{error.msg}, at character {error.pos + 1}"
        ) from None
    if not isinstance(value, dict):
        raise unreadable("not a JSON object", column, text.strip())
    return value


def _version(text: str, column: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise unreadable("not a number", column, text)
    return int(text)
