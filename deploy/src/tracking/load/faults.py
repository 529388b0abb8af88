"""What cannot be loaded: a whole file, or one thing in it. Pure."""

from dataclasses import dataclass

from tracking.terminal_text import printable

MAX_SHOWN_CHARACTERS = 60
"""Of a value that is wrong; enough to find it in the file."""


class UnreadableFile(Exception):
    """The file cannot be read as what it should be. Nothing was sent, unless one order has too many rows."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why one thing of a file cannot be sent."""

    reason: str
    """Short, the same words for all of its kind: they are counted by it."""
    column: str = ""
    """As the file calls it; "" where it is not about one."""
    value: str | None = None
    detail: str = ""
    """What would be right, or what is known beyond the reason."""

    def line(self) -> str:
        """One line for a person, safe for a terminal."""
        named = self.column and f"{printable(self.column)} "
        shown = "" if self.value is None else f"{quoted(self.value)} "
        where = f"{named}{shown}".strip()
        said = f"{self.reason}; {self.detail}" if self.detail else self.reason
        return f"{where}: {printable(said)}" if where else printable(said)


class UnreadableRecord(ValueError):
    """One record cannot be read; `fault` says why."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.line())
        self.fault = fault


def bad(reason: str, column: str = "", value: str | None = None, detail: str = "") -> UnreadableRecord:
    """The exception for such a fault."""
    return UnreadableRecord(Fault(reason, column, value, detail))


def quoted(value: str) -> str:
    """A value of a file between quotation marks, bounded and safe for a terminal."""
    cut = value if len(value) <= MAX_SHOWN_CHARACTERS else f"{value[:MAX_SHOWN_CHARACTERS]}…"
    return f'"{printable(cut)}"'
