"""Records, the operations read from files, and faults, the reasons why one cannot be sent. Pure."""

from dataclasses import dataclass
from typing import Any, Literal

import orjson

from tracking.errors import CommandError
from tracking.terminal import printable

Operation = dict[str, Any]
"""An operation of `POST /v1/batch`."""

Result = dict[str, Any]
"""The outcome of an operation, as `POST /v1/batch` returns it."""

MAX_SHOWN_CHARACTERS = 60
"""The part of an invalid value that is shown; enough to find it in the file."""


class UnreadableFile(CommandError):
    """The file cannot be read. Nothing was sent, unless one order has too many rows."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The reason why a row, line or value cannot be sent."""

    reason: str
    """Short and constant: faults are counted by it."""
    column: str = ""
    """Its name in the file; "" if the fault concerns no column."""
    value: str | None = None
    detail: str = ""
    """A correct form, or further information."""

    def line(self) -> str:
        """The fault in one line, safe for a terminal."""
        named = self.column and f"{printable(self.column)} "
        shown = "" if self.value is None else f"{quoted(self.value)} "
        where = f"{named}{shown}".strip()
        text = printable(f"{self.reason}; {self.detail}" if self.detail else self.reason)
        return f"{where}: {text}" if where else text


class UnreadableRecord(ValueError):
    """One record cannot be read, because of `fault`."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.line())
        self.fault = fault


def unreadable(reason: str, column: str = "", value: str | None = None, detail: str = "") -> UnreadableRecord:
    """Makes the exception for a fault."""
    return UnreadableRecord(Fault(reason, column, value, detail))


def quoted(value: str) -> str:
    """A value in quotation marks, shortened and safe for a terminal."""
    cut = value if len(value) <= MAX_SHOWN_CHARACTERS else f"{value[:MAX_SHOWN_CHARACTERS]}…"
    return f'"{printable(cut)}"'


Kind = Literal["plain", "may_exist", "current_status", "inferred"]
"""`may_exist`: a create that also succeeds if the order exists. `current_status`: an update to the
order's current status, with the transitions before it inferred. `inferred`: such a transition, which is in no
file."""


@dataclass(frozen=True, slots=True)
class Location:
    """A line of a file."""

    name: str
    """The name of the file, safe for a terminal."""
    line: int
    """From 1; the last one of a row that spans several lines."""
    file_number: int = 0
    """From 0 in each load: locations are sorted by it and by the line."""

    def __str__(self) -> str:
        return f"{self.name}:{self.line}"


@dataclass(frozen=True, slots=True)
class Record:
    """One operation, or the fault that prevents it."""

    location: Location
    body: bytes = b""
    """The operation as JSON."""
    order_key: str = ""
    """Its order id, or the update id of a create without order id."""
    creates: bool = False
    kind: Kind = "plain"
    time: float | None = None
    """Seconds since 1970, to sort the records of an order by; None = unknown."""
    fault: Fault | None = None

    @property
    def operation(self) -> Operation:
        """The operation, decoded."""
        operation: Operation = orjson.loads(self.body)
        return operation
