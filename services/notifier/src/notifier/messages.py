"""The server's side of the stream, described: its messages as types, and what each close code asks for.

`protocol` encodes the messages by hand, because that is the hot path; nothing here runs on it.
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import with_config
from typing_extensions import TypedDict

from notifier import protocol
from shared.messages import DESCRIBED, CloudEvent, CursorText, OrderView, ProblemDetails

ResyncReason = Literal["epoch-changed", "position-unknown", "entitlement-changed", "too-slow"]


@with_config(DESCRIBED)
class Snapshot(TypedDict):
    """A page of the orders that match the filter."""

    type: Literal["snapshot"]
    orders: list[OrderView]
    more: bool
    """Whether further pages follow."""


@with_config(DESCRIBED)
class Events(TypedDict):
    """Changes of orders that match the filter, or did before: missed ones first, then live ones. None at
    all in a heartbeat, which a client gets if it asked for it: the connection lives, and stands here.
    """

    type: Literal["events"]
    events: list[CloudEvent]
    """Those of one order in the order of their versions."""
    cursor: CursorText
    """Up to here the client has been given everything. To be kept once the message is handled."""


@with_config(DESCRIBED)
class Live(TypedDict):
    """The past is through: what follows happens now. Once a subscription."""

    type: Literal["live"]
    cursor: CursorText


@with_config(DESCRIBED)
class Resync(TypedDict):
    """What the client holds cannot be continued: it drops it all, and a whole snapshot follows."""

    type: Literal["resync"]
    reason: ResyncReason
    cursor: CursorText


@with_config(DESCRIBED)
class ProblemMessage(TypedDict):
    """Why a message was refused, or why the connection is about to be closed."""

    type: Literal["problem"]
    problem: ProblemDetails


@dataclass(frozen=True, slots=True)
class CloseCode:
    """Why the server ends a connection, and what it asks of the client."""

    code: int
    meaning: str
    advice: str
    reconnect: bool
    """With the cursor, after a wait. Otherwise the same request would be refused again."""


_COME_BACK = "reconnect with your cursor"

CLOSE_CODES = (
    CloseCode(1011, "a fault of ours; it is logged", _COME_BACK, reconnect=True),
    CloseCode(
        protocol.RESTARTING, "the server restarts, or the log was replaced", _COME_BACK, reconnect=True
    ),
    CloseCode(
        protocol.OVERLOADED,
        "overloaded: you read too slowly, or the past cannot be read, or nothing new arrives here now",
        _COME_BACK,
        reconnect=True,
    ),
    CloseCode(protocol.BAD_MESSAGE, "a message that is not valid", "mend the request", reconnect=False),
    CloseCode(
        protocol.NOT_AUTHENTICATED,
        "no valid token, or it has expired or was revoked",
        "get a fresh token first",
        reconnect=False,
    ),
    CloseCode(protocol.FORBIDDEN, "the token does not allow this", "ask for the right", reconnect=False),
    CloseCode(protocol.NO_SUBSCRIBE, "no subscribe in time", _COME_BACK, reconnect=True),
    CloseCode(protocol.TOO_BIG, "a message over 64 KiB", "mend the request", reconnect=False),
    CloseCode(
        protocol.TOO_MANY,
        "too many connections or messages",
        f"wait, then {_COME_BACK}",
        reconnect=True,
    ),
)
"""What may come besides the ordinary ends. The table of `docs/live-updates.md` is the same one."""
