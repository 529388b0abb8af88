"""The statuses of an order and which may follow which: data, with a file to replace it.

The rule that applies the table stands in order-state; the other services only read the table
(to validate a status, to say what is allowed next).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from tracking_shared.errors import SettingsError

STATUS_PATTERN = r"^[a-z][a-z0-9_]{0,31}$"
_STATUS = re.compile(STATUS_PATTERN[1:-1])
MAX_STATUSES = 64
MAX_CHECKPOINTS = 64
MAX_LATE_AFTER_SECONDS = 366 * 24 * 3600
MAX_HOLD_EARLY_SECONDS = 24 * 3600


DEFAULT_CHECKPOINTS = ("note", "delivery_attempted", "delayed", "eta_changed", "proof_added")


@dataclass(frozen=True)
class Workflow:
    """A transition table: one row per status, the final rows visibly empty; the kinds of checkpoints; and
    the time for which early updates are held.
    """

    initial: str
    transitions: Mapping[str, tuple[str, ...]]
    late_after_seconds: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """The time after its last change from which an order in this status is late, where there is a limit. Only
    shown."""
    checkpoints: tuple[str, ...] = DEFAULT_CHECKPOINTS
    """The kinds of checkpoints, at any status."""
    hold_early_seconds: int = 0
    """The time for which an update that came too early waits for what comes before it. 0: it is refused."""

    def allowed_next(self, status: str) -> tuple[str, ...]:
        """The statuses that may follow `status`, in the order of the table. Empty if it is final."""
        return self.transitions.get(status, ())

    def is_active(self, status: str) -> bool:
        """True if anything can still happen to an order in this status."""
        return bool(self.allowed_next(status))

    def can_reach(self, current: str, status: str) -> bool:
        """True if steps along the table lead from `current` to `status`, one or more."""
        return status in self._reachable.get(current, ())

    @cached_property
    def statuses(self) -> frozenset[str]:
        """Every status of the table."""
        return frozenset(self.transitions)

    @cached_property
    def _reachable(self) -> Mapping[str, frozenset[str]]:
        return {status: frozenset(self._steps_from(status)) for status in self.transitions}

    def _steps_from(self, status: str) -> set[str]:
        found: set[str] = set()
        open_ends = [status]
        while open_ends:
            new = set(self.allowed_next(open_ends.pop())) - found
            found |= new
            open_ends += new
        return found


DEFAULT_WORKFLOW = Workflow(
    initial="created",
    transitions=MappingProxyType(
        {
            "created": ("picked_up", "cancelled"),
            "picked_up": ("in_transit", "cancelled"),
            "in_transit": ("in_transit", "delivered", "cancelled"),
            "delivered": (),
            "cancelled": (),
        }
    ),
)
"""The default. `in_transit` may repeat as a progress scan; `delivered` and `cancelled` are final."""


def load_workflow(path: Path | None) -> Workflow:
    """The workflow of a JSON file ``{"initial": …, "transitions": {status: [status, …]}}``,
    with ``"late_after_seconds": {status: seconds, …}`` where there are limits,
    ``"checkpoints": [kind, …]`` where they are not the default ones, and ``"hold_early_seconds": seconds``
    where early updates are held; without a path, the default.

    Raises:
        SettingsError: the file cannot be read, or is not a table that closes on itself.
    """
    if path is None:
        return DEFAULT_WORKFLOW
    try:
        document = json.loads(path.read_text())
        table = {status: tuple(followers) for status, followers in document["transitions"].items()}
        limits = dict(document.get("late_after_seconds") or {})
        kinds = _kinds_in(document.get("checkpoints"))
        workflow = Workflow(
            document["initial"],
            MappingProxyType(table),
            MappingProxyType(limits),
            kinds,
            document.get("hold_early_seconds", 0),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(f"WORKFLOW_FILE {path}: cannot be read as a workflow: {error!r}") from error
    fault = _fault_of(workflow)
    if fault:
        raise SettingsError(f"WORKFLOW_FILE {path}: {fault}")
    return workflow


def _kinds_in(value: object) -> tuple[str, ...]:
    if value is None:
        return DEFAULT_CHECKPOINTS
    if not isinstance(value, list):
        raise TypeError("checkpoints: not a list")
    return tuple(value)


def _fault_of(workflow: Workflow) -> str | None:
    if len(workflow.transitions) > MAX_STATUSES:
        return f"more than {MAX_STATUSES} statuses"
    if workflow.initial not in workflow.statuses:
        return f"the initial status {workflow.initial!r} has no row"
    for status, followers in workflow.transitions.items():
        if not _STATUS.fullmatch(status):
            return f"{status!r} is not a status name (a-z, 0-9, _; at most 32)"
        for follower in followers:
            if follower not in workflow.statuses:
                return f"{status!r} leads to {follower!r}, which has no row"
    return _fault_of_limits(workflow) or _fault_of_checkpoints(workflow) or _fault_of_holding(workflow)


def _fault_of_holding(workflow: Workflow) -> str | None:
    seconds = workflow.hold_early_seconds
    if type(seconds) is not int or not 0 <= seconds <= MAX_HOLD_EARLY_SECONDS:
        return f"hold_early_seconds: must be a whole number from 0 to {MAX_HOLD_EARLY_SECONDS}"
    return None


def _fault_of_checkpoints(workflow: Workflow) -> str | None:
    if len(workflow.checkpoints) > MAX_CHECKPOINTS:
        return f"more than {MAX_CHECKPOINTS} checkpoints"
    for kind in workflow.checkpoints:
        if not isinstance(kind, str) or not _STATUS.fullmatch(kind):
            return f"checkpoints: {kind!r} is not a kind (a-z, 0-9, _; at most 32)"
    if len(set(workflow.checkpoints)) < len(workflow.checkpoints):
        return "checkpoints: one is named twice"
    return None


def _fault_of_limits(workflow: Workflow) -> str | None:
    for status, seconds in workflow.late_after_seconds.items():
        if not workflow.is_active(status):
            return f"late_after_seconds: {status!r} is not a status that an open order has"
        if type(seconds) is not int or not 1 <= seconds <= MAX_LATE_AFTER_SECONDS:
            return f"late_after_seconds: {status!r} must be a whole number from 1 to {MAX_LATE_AFTER_SECONDS}"
    return None
