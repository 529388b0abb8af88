"""What every session of this process works with."""

from collections.abc import Callable
from dataclasses import dataclass

from notifier.admission import Admission
from notifier.hub import Hub
from notifier.log import EventLog
from notifier.pages import Pages
from shared.cursor_seals import CursorSeals
from shared.revocation_list import RevocationList
from shared.tokens import TokenVerifier
from shared.workflow import Workflow


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts and the bounds."""

    hub: Hub
    log: EventLog
    pages: Pages
    verifier: TokenVerifier
    revocations: RevocationList
    workflow: Workflow
    admission: Admission
    cursors: CursorSeals
    queue_bytes: int
    drain_seconds: float
    is_live: Callable[[], bool]
    """Whether new events reach the hub."""
