"""The dry run of a load: validates operations as ingest would, and transitions as order-state would. Pure.

Nothing is sent, so existing orders and the rights of the token are not considered.
"""

import pydantic_core
from pydantic import TypeAdapter, ValidationError

from tracking.load.order_records import status_of, steps_between
from tracking.load.records import Fault, Record
from tracking.load.summary import Summary, error_line
from tracking_ingest.api.bodies import Operation as OperationBody
from tracking_shared.contracts.workflow import Workflow

_OPERATION: TypeAdapter[object] = TypeAdapter(OperationBody)


def check_order(records: list[Record], workflow: Workflow, summary: Summary) -> None:
    """Counts the records of one order as if they were sent, and reports their faults."""
    status: str | None = None
    for record in records:
        if record.creates:
            summary.orders += 1
        else:
            summary.updates += 1
        reason, text = _invalid(record, workflow, summary) or _illegal(record, status, workflow) or ("", "")
        if reason:
            summary.add_not_sent(record.location, reason, text)
        elif record.creates or status is not None:
            status = status_of(record, workflow, status)


def _invalid(record: Record, workflow: Workflow, summary: Summary) -> tuple[str, str] | None:
    header = summary.headers.get(record.location.file_number)
    operation = record.operation
    try:
        _OPERATION.validate_json(record.body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)
        lines = [error_line(_with_pointer(each), operation, header) for each in first[:3]]
        return "not valid", "; ".join(lines)
    for name, known in (("status", tuple(workflow.transitions)), ("kind", workflow.checkpoints)):
        value = operation.get(name)
        if value is not None and value not in known:
            column = header.name_of(name) if header else name
            fault = Fault(f"unknown {name}", column, str(value), f"known are {', '.join(known)}")
            return fault.reason, fault.line()
    return None


def _with_pointer(error: pydantic_core.ErrorDetails) -> dict[str, str]:
    # In a union with the tag `op`, the location of an error begins with the value of `op`.
    pointer = "".join(f"/{part}" for part in error["loc"][1:])
    if error["type"].startswith("union_tag"):
        return {"pointer": "/op", "message": "must be create, update, checkpoint or correct"}
    return {"pointer": pointer, "message": error["msg"]}


def _illegal(record: Record, status: str | None, workflow: Workflow) -> tuple[str, str] | None:
    target = record.operation.get("status")
    if status is None or target is None or record.creates:
        return None
    if record.operation.get("op") == "correct":
        return ("invalid-transition", f"the order would be {status} by then") if target == status else None
    steps = steps_between(workflow, status, str(target))
    if steps is None or (steps and record.kind != "current_status"):
        return "invalid-transition", f"the order would be {status} by then; it cannot become {target}"
    return None
