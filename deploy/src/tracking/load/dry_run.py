"""Checks operations as ingest would, and the steps of an order as order-state would. Pure.

Nothing is sent, so what only the services know is not checked: orders that are there already, and what the
token may do.
"""

import pydantic_core
from pydantic import TypeAdapter, ValidationError

from ingest.bodies import Operation as OperationBody
from shared.workflow import Workflow
from tracking.load.faults import Fault
from tracking.load.reach import steps_between
from tracking.load.records import Record
from tracking.load.summary import Summary
from tracking.load.wording import error_line

_OPERATION: TypeAdapter[object] = TypeAdapter(OperationBody)


def check_order(records: list[Record], workflow: Workflow, summary: Summary) -> None:
    """Counts the records of one order as they would be sent, and tells what is wrong with them."""
    status: str | None = None
    for record in records:
        if record.creates:
            summary.orders += 1
        else:
            summary.updates += 1
        reason, told = _invalid(record, workflow, summary) or _illegal(record, status, workflow) or ("", "")
        if reason:
            summary.add_left_out(record.place, reason, told)
        elif record.creates:
            status = workflow.initial
        elif status is not None:
            status = str(record.operation["status"])


def _invalid(record: Record, workflow: Workflow, summary: Summary) -> tuple[str, str] | None:
    header = summary.headers.get(record.place.file_number)
    operation = record.operation
    try:
        _OPERATION.validate_json(record.body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)
        told = [error_line(_pointed(each), operation, header) for each in first[:3]]
        return "not valid", "; ".join(told)
    status = operation.get("status")
    if status is not None and status not in workflow.statuses:
        known = ", ".join(workflow.transitions)
        column = header.theirs("status") if header else "status"
        return "unknown status", Fault("unknown status", column, str(status), f"known are {known}").line()
    return None


def _pointed(error: pydantic_core.ErrorDetails) -> dict[str, str]:
    # In a union told apart by `op`, the place of an error begins with the value of `op`.
    pointer = "".join(f"/{part}" for part in error["loc"][1:])
    if error["type"].startswith("union_tag"):
        return {"pointer": "/op", "message": "must be create or update"}
    return {"pointer": pointer, "message": error["msg"]}


def _illegal(record: Record, status: str | None, workflow: Workflow) -> tuple[str, str] | None:
    target = record.operation.get("status")
    if status is None or target is None or record.creates:
        return None
    steps = steps_between(workflow, status, str(target))
    if steps is None or (steps and record.kind != "reaches"):
        told = f"the order would be {status} by then; it cannot become {target}"
        return "invalid-transition", told
    return None
