"""A webhook's progress and its document, one made of the other."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from tracking_shared.contracts.webhooks import DelayedOrderDocument, MissedDocument, WebhookDocument
from tracking_webhooks.domain.progress import Delayed, Missed, Progress


def progress_of(webhook: WebhookDocument, chance: Callable[[], float]) -> Progress:
    """The progress that is stored."""
    return Progress(
        seqs=list(webhook["seqs"]),
        chance=chance,
        delayed={one["order_id"]: _delayed(one) for one in webhook["delayed"]},
        failures=webhook["failures"],
        failing_since=_optional_seconds(webhook["failing_since"]),
        resume_at=_optional_seconds(webhook["resume_at"]) or 0.0,
        disabled=webhook["reason"] if webhook["state"] == "disabled" else None,
        missed=_missed(webhook["missed"]),
    )


def fields_of(progress: Progress) -> Mapping[str, Any]:
    """The stored form of the progress."""
    return {
        "seqs": list(progress.seqs),
        "state": progress.state,
        "reason": progress.disabled,
        "delayed": [_document(one) for one in progress.delayed_orders()],
        "failures": progress.failures,
        "failing_since": optional_time(progress.failing_since),
        "resume_at": optional_time(progress.resume_at or None),
        "missed": _missed_document(progress.missed),
    }


def optional_time(seconds: float | None) -> datetime | None:
    """Seconds since 1970 as they are stored."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _optional_seconds(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp()


def _missed(document: MissedDocument | None) -> Missed | None:
    if document is None:
        return None
    return Missed(document["events"], document["at"].timestamp(), tuple(document["through"]))


def _missed_document(missed: Missed | None) -> MissedDocument | None:
    if missed is None:
        return None
    at = datetime.fromtimestamp(missed.at, UTC)
    return {"events": missed.events, "at": at, "through": list(missed.through)}


def _delayed(document: DelayedOrderDocument) -> Delayed:
    return Delayed(
        order_id=document["order_id"],
        partition=document["partition"],
        version=document["version"],
        failures=document["failures"],
        since=_optional_seconds(document["since"]),
        next_at=document["next_at"].timestamp(),
    )


def _document(one: Delayed) -> DelayedOrderDocument:
    return {
        "order_id": one.order_id,
        "partition": one.partition,
        "version": one.version,
        "failures": one.failures,
        "since": optional_time(one.since),
        "next_at": datetime.fromtimestamp(one.next_at, UTC),
    }
