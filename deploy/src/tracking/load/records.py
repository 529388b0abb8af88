"""Records: what the readers take out of files, one for each operation or fault."""

from dataclasses import dataclass
from typing import Literal

import orjson

from tracking.load.faults import Fault
from tracking.load.operations import Operation, Parsed, with_update_id
from tracking.load.times import instant_of

Kind = Literal["plain", "may_exist", "reaches", "inferred"]
"""`may_exist`: a create that is no refusal if the order is there. `reaches`: an update that says where the
order stands by now. `inferred`: a step on the way there, which no file names."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands."""

    name: str
    """Of the file, safe for a terminal."""
    line: int
    """From 1; of a row that goes over several lines, the last one."""
    file_number: int = 0
    """Of the files of a load, from 0: places are sorted by it and by the line."""

    def __str__(self) -> str:
        return f"{self.name}:{self.line}"


@dataclass(frozen=True, slots=True)
class Record:
    """One operation, or the fault because of which there is none."""

    place: Place
    body: bytes = b""
    """The operation as JSON."""
    order_key: str = ""
    """Its order id; for a create without one, its update id."""
    creates: bool = False
    kind: Kind = "plain"
    time: float | None = None
    """When it happened, in seconds since 1970, to order the records of an order by; None = not said."""
    fault: Fault | None = None

    @property
    def operation(self) -> Operation:
        """The operation."""
        operation: Operation = orjson.loads(self.body)
        return operation


def record_of(place: Place, parsed: Parsed, *, in_file_order: bool = False) -> Record:
    """The record of an operation, with its update id. `in_file_order`: it is not sorted by its time."""
    operation = with_update_id(parsed.operation)
    time = operation.get("occurred_at")
    return Record(
        place,
        body=orjson.dumps(operation),
        order_key=str(operation.get("order_id") or operation["update_id"]),
        creates=operation.get("op") == "create",
        kind="reaches" if parsed.reaches else "may_exist" if parsed.may_exist else "plain",
        time=instant_of(time) if isinstance(time, str) and not in_file_order else None,
    )
