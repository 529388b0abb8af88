"""The dependencies of a session, which the composition root creates once."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tracking_notifier.hub import Hub
from tracking_notifier.log.event_log import EventLog
from tracking_notifier.log.shared_pages import SharedPages
from tracking_notifier.session.admission import Admission
from tracking_notifier.session.session_log import SessionLog
from tracking_shared.auth.cursor_seals import CursorSeals
from tracking_shared.auth.revocations import RevocationList
from tracking_shared.auth.tokens import TokenVerifier
from tracking_shared.contracts.workflow import Workflow


@dataclass(frozen=True, slots=True)
class SessionContext:
    """The objects and limits that all sessions of the process share."""

    hub: Hub
    log: EventLog
    pages: SharedPages
    verifier: TokenVerifier
    revocations: RevocationList
    workflow: Workflow
    admission: Admission
    cursors: CursorSeals
    queue_bytes: int
    drain_seconds: float
    is_live: Callable[[], bool]
    """Returns True while new events reach the hub."""
    session_log: SessionLog = field(default_factory=SessionLog)
