"""The base error of this package, and the exit codes of the command line."""

import os
from enum import IntEnum
from typing import ClassVar, Self

from tracking_shared.errors import TrackingError


class ExitCode(IntEnum):
    """The exit codes of all commands, each with its meaning. A test compares docs/operations.md with it."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Self:
        """A member that equals its code."""
        member = int.__new__(cls, code)
        member._value_, member.meaning = code, meaning
        return member

    DONE = 0, "success; with `check`: no faults"
    FAILED = 1, "the command failed, or `check` found faults; the last line says why"
    INCOMPLETE = 2, "the command line is wrong; with `load`: some rows were refused or not sent"
    UNAVAILABLE = os.EX_UNAVAILABLE, "`up`, `demo`: a port, a program or a server is not available"
    CONFIGURATION = os.EX_CONFIG, "`up`, `demo`: the configuration is wrong, so restarting does not help"
    INTERRUPTED = 130, "interrupted with Ctrl-C; `up` and `demo` end with 0"


class CommandError(TrackingError):
    """The base of all errors that end a command with one line, their message, and with `exit_code`."""

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED
