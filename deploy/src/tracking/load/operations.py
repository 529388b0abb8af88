"""From the fields of a row or line to operations of a batch. Pure.

An operation without an update id gets one that is derived from its content, so that loading a file again
repeats the same updates instead of adding new ones.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from shared.identifiers import content_update_id
from shared.workflow import DEFAULT_WORKFLOW, Workflow
from tracking.load.faults import bad
from tracking.load.header import METADATA_PREFIX, Header
from tracking.load.times import with_offset

Operation = dict[str, Any]

_TIMES = ("occurred_at", "created_at", "updated_at")
_TRIMMED = frozenset(
    {"op", "order_id", "merchant_id", "status", "update_id", "expected_version", "metadata", *_TIMES}
)
"""Not what is kept as it was written: names and contacts."""

_ORDER_FIELDS = frozenset(
    {"order_id", "merchant_id", "customer", "status", "metadata", "created_at", "updated_at"}
)
"""What is loaded of an order in an export. The rest is derived, or of the installation that it comes from."""

_FORMULA_STARTS = "=+-@\t\r\n＝＋－＠"  # noqa: RUF001 - as the export has them
"""Before these, an export in CSV puts an apostrophe."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How the values of files are to be taken."""

    zone: ZoneInfo | None = None
    """Of times without an offset."""
    status_names: Mapping[str, str] = field(default_factory=dict)
    """Ours for theirs."""
    workflow: Workflow = DEFAULT_WORKFLOW


@dataclass(frozen=True, slots=True)
class Parsed:
    """What one row or line comes to."""

    operation: Operation
    reaches: bool = False
    """It says where the order stands by now: what lies between is to be inferred (see `reach`)."""
    may_exist: bool = False
    """A create that goes with it: that the order is there already is no refusal."""


Named = Callable[[str], str]


def operations_of_row(row: Mapping[str, str], header: Header, reading: Reading) -> list[Parsed]:
    """The operations of a CSV row, its values under our names.

    Raises:
        UnreadableRecord: a value cannot be read.
    """
    values = {name: value.strip() if name in _TRIMMED else value for name, value in row.items()}
    fields: dict[str, Any] = {name: value for name, value in values.items() if value}
    if header.is_export:
        fields = {name: _without_apostrophe(value) for name, value in fields.items()}
    metadata = _metadata_of(fields, header.theirs)
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
        fields["expected_version"] = _version(fields["expected_version"], header.theirs("expected_version"))
    return operations_of(fields, reading, header.theirs)


def operations_of_line(text: str, reading: Reading) -> list[Parsed]:
    """The operations of a line of NDJSON: one as `POST /v1/batch` takes it, or an order as an export has it.

    Raises:
        UnreadableRecord: it is no JSON object, or a time cannot be read.
    """
    line = json_object(text)
    is_order = "op" not in line and "status" in line and {"version", "allowed_next"} <= line.keys()
    if is_order:
        line = {name: value for name, value in line.items() if name in _ORDER_FIELDS}
    return operations_of(line, reading, lambda name: name)


def operations_of(fields: Operation, reading: Reading, named: Named) -> list[Parsed]:
    """The operations that named fields mean.

    With `op`, what it says. Else: merchant, customer and status are a create, and the way to that status; a
    status is an update; anything else is a create.

    Raises:
        UnreadableRecord: it means none, or a time cannot be read.
    """
    fields = dict(fields)
    for name in _TIMES:
        if isinstance(fields.get(name), str):
            fields[name] = with_offset(fields[name], reading.zone, named(name))
    created, updated = fields.pop("created_at", None), fields.pop("updated_at", None)
    if isinstance(fields.get("status"), str):
        fields["status"] = _our_status(fields["status"], reading)
    if not fields.keys() & {"op", "status", "merchant_id", "customer"}:
        raise bad("neither a status nor a new order", "", None, "a new order has a merchant and a customer")
    if "op" in fields or "status" not in fields:
        return [_plain(fields, created or updated)]
    if "customer" not in fields:
        # Files of updates often repeat whose order it is; an update has no place for it.
        fields.pop("merchant_id", None)
        return [_plain(fields, updated)]
    if "merchant_id" not in fields:
        raise bad("a customer without a merchant", named("merchant_id"), None, "a create needs both")
    return _create_and_reach(fields, created, updated, reading.workflow)


def _plain(fields: Operation, time: str | None) -> Parsed:
    operation = dict(fields)
    operation.setdefault("op", "update" if "status" in operation else "create")
    if time and "occurred_at" not in operation:
        operation["occurred_at"] = time
    return Parsed(operation)


def _create_and_reach(
    fields: Operation, created: str | None, updated: str | None, workflow: Workflow
) -> list[Parsed]:
    status = fields["status"]
    time = fields.get("occurred_at") or updated
    create: Operation = {
        name: fields[name] for name in ("order_id", "merchant_id", "customer", "metadata") if name in fields
    }
    create_time = created or (time if status == workflow.initial else None)
    create |= {"op": "create"} | ({"occurred_at": create_time} if create_time else {})
    rest = {name: value for name, value in fields.items() if name not in create and name != "occurred_at"}
    if status == workflow.initial:
        return [
            Parsed(create | {name: value for name, value in rest.items() if name != "status"}, may_exist=True)
        ]
    if "order_id" not in fields:
        raise bad("a status without an order id", "order_id", None, "a later status needs the order's own id")
    update = {"op": "update", "order_id": fields["order_id"]} | rest
    if "metadata" in fields:
        update["metadata"] = fields["metadata"]
    if time:
        update["occurred_at"] = time
    return [Parsed(create, may_exist=True), Parsed(update, reaches=True)]


def _our_status(text: str, reading: Reading) -> str:
    key = " ".join(text.split()).casefold()
    if key in reading.status_names:
        return reading.status_names[key]
    name = key.replace(" ", "_").replace("-", "_")
    return name if name in reading.workflow.statuses else text


def _without_apostrophe(value: str) -> str:
    return value[1:] if value[0] == "'" and value[1:2] and value[1] in _FORMULA_STARTS else value


def _metadata_of(fields: dict[str, Any], named: Named) -> Operation | None:
    text = fields.pop("metadata", None)
    metadata = None if text is None else json_object(text, named("metadata"))
    for name in [name for name in fields if name.startswith(METADATA_PREFIX)]:
        metadata = (metadata or {}) | {name.removeprefix(METADATA_PREFIX): fields.pop(name).strip()}
    return metadata


def with_update_id(operation: Operation) -> Operation:
    """The operation, with an update id derived from its content where it has none of its own."""
    if operation.get("update_id"):
        return operation
    canonical = orjson.dumps(operation, option=orjson.OPT_SORT_KEYS)
    return operation | {"update_id": content_update_id(canonical)}


def json_object(text: str, column: str = "") -> Operation:
    """The JSON object in a text.

    Raises:
        UnreadableRecord: there is none.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise bad("not JSON", column, text.strip(), f"{error.msg}, at character {error.pos + 1}") from None
    if not isinstance(value, dict):
        raise bad("not a JSON object", column, text.strip())
    return value


def _version(text: str, column: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise bad("not a number", column, text)
    return int(text)
