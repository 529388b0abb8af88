"""What a member of a replica set answers when it refuses or cannot confirm, with the labels that the server
adds. Pure.

After `error_labels.cpp` of the server and the drivers' specifications of transactions and retryable writes.
`UnknownTransactionCommitResult` is not here: the driver adds it, from what it gets or does not get.
"""

from typing import Any

from replica_set.wire import Document

TRANSIENT = "TransientTransactionError"
RETRYABLE = "RetryableWriteError"

CODES = {
    "CursorNotFound": 43,
    "MaxTimeMSExpired": 50,
    "WriteConcernTimeout": 64,
    "ShutdownInProgress": 91,
    "WriteConflict": 112,
    "PrimarySteppedDown": 189,
    "SnapshotUnavailable": 246,
    "NoSuchTransaction": 251,
    "NotWritablePrimary": 10107,
    "InterruptedDueToReplStateChange": 11602,
    "NotPrimaryNoSecondaryOk": 13435,
}

RETRIABLE = frozenset(
    {
        "ShutdownInProgress",
        "PrimarySteppedDown",
        "NotWritablePrimary",
        "InterruptedDueToReplStateChange",
        "NotPrimaryNoSecondaryOk",
    }
)
"""The server's category `RetriableError`, as far as it is used here."""

STATE_CHANGES = RETRIABLE
"""Those whose answers say which state of the member they belong to (`topologyVersion`)."""

_TEXTS = {
    "NotWritablePrimary": "not primary",
    "NotPrimaryNoSecondaryOk": "not primary and secondaryOk=false",
    "InterruptedDueToReplStateChange": "operation was interrupted",
    "PrimarySteppedDown": "Primary stepped down while waiting for replication",
    "WriteConflict": "Caused by :: Write conflict during plan execution and yielding is disabled.",
    "NoSuchTransaction": "Given transaction number does not match any in-progress transactions.",
    "SnapshotUnavailable": "Unable to read from a snapshot due to pending collection catalog changes",
    "MaxTimeMSExpired": "operation exceeded time limit",
    "CursorNotFound": "cursor id not found",
    "ShutdownInProgress": "The server is in quiesce mode and will shut down",
    "WriteConcernTimeout": "waiting for replication timed out",
}


def command_name(command: Document) -> str:
    """The first key."""
    return next(iter(command))


def ends_transaction(command: Document) -> bool:
    """Whether it is a commit or an abort."""
    return command_name(command) in ("commitTransaction", "abortTransaction")


def in_transaction(command: Document) -> bool:
    """Whether it belongs to a transaction of several statements."""
    return "autocommit" in command


def error_labels(command: Document, code_name: str, *, of_write_concern: bool = False) -> list[str]:
    """The labels of an answer to `command` that fails with this, or whose write concern does."""
    is_retriable = code_name in RETRIABLE
    labels = []
    if in_transaction(command) and not of_write_concern:
        transient = {"WriteConflict", "SnapshotUnavailable", "NoSuchTransaction"}
        if code_name in transient or (is_retriable and not ends_transaction(command)):
            labels.append(TRANSIENT)
    is_retryable_write = "txnNumber" in command and not in_transaction(command)
    if is_retriable and (is_retryable_write or ends_transaction(command)):
        labels.append(RETRYABLE)
    return labels


def error_answer(command: Document, code_name: str) -> Document:
    """The command was not done."""
    return _labelled(
        {"ok": 0.0, "errmsg": _TEXTS[code_name], "code": CODES[code_name], "codeName": code_name},
        error_labels(command, code_name),
    )


def unconfirmed_answer(command: Document, done: Document, code_name: str) -> Document:
    """The command was done here, and no majority has confirmed it: `done` with a write concern's error."""
    error: dict[str, Any] = {
        "code": CODES[code_name],
        "codeName": code_name,
        "errmsg": _TEXTS[code_name],
        "errInfo": {
            "writeConcern": {"w": "majority", "j": True, "wtimeout": 0, "provenance": "clientSupplied"}
        },
    }
    if code_name == "WriteConcernTimeout":
        error["errInfo"]["wtimeout"] = True
    labels = error_labels(command, code_name, of_write_concern=True)
    return _labelled(done | {"writeConcernError": error}, labels)


def _labelled(answer: Document, labels: list[str]) -> Document:
    return answer | {"errorLabels": labels} if labels else answer
