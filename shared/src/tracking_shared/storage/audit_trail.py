"""The audit trail: who did which administrative thing, when. Entries are added and never changed.

An entry is written before its act, and the act does not happen if it cannot be written. So nothing is
done without a trace; an entry alone says that the act was asked for and may have failed afterwards.

Changes of orders are not repeated here, whoever made them: their history names who, and keeps it longer.
Corrections are, since they go around the rules of the workflow. order-state writes the entry in the
transaction of the correction, so there is one for each, and none for one that was refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from pymongo.errors import DuplicateKeyError
from uuid_utils import uuid7

from tracking_shared.contracts.documents import ActorDocument, AuditDocument
from tracking_shared.contracts.layout import layout_of
from tracking_shared.contracts.timestamps import format_time, now
from tracking_shared.storage.database import Database, DatabaseUnavailable, driver_errors

KEPT_DAYS = 400
"""Unless `AUDIT_DAYS` says otherwise: a year, and time to look back at its end."""

MAX_KEPT_DAYS = 36_500

MAX_ACTOR_CHARACTERS = 128

Action = Literal[
    "customer.erased",
    "dead.drop",
    "dead.send",
    "installation.started",
    "order.corrected",
    "order.restored",
    "orders.archived",
    "orders.exported",
    "parked.replay",
    "parked.skip",
    "partitions.cancelled",
    "partitions.changed",
    "revocation.subject",
    "revocation.token",
    "token.issued",
    "webhook.changed",
    "webhook.created",
    "webhook.deleted",
    "webhook.secret_rotated",
]

ACTIONS: Mapping[Action, str] = {
    "customer.erased": "a person was to be erased; the subject is the id of the erasure",
    "dead.drop": "a dead letter was to be removed",
    "dead.send": "the commands of a dead letter were to be sent again",
    "installation.started": "the database was set up: partition count and epoch",
    "order.corrected": "the status of an order was corrected; written with the correction itself",
    "order.restored": "an archived order was to come back into the database",
    "orders.archived": "final orders were to be archived; the subject is the folder",
    "orders.exported": "a file of all orders that match was asked for with `orders:admin`",
    "parked.replay": "the parked updates of an order were to be decided again",
    "parked.skip": "the first parked update of an order was to be given up",
    "partitions.cancelled": "a change of the partition count was to be cancelled; the subject is the number",
    "partitions.changed": "another number of partitions was asked for; the subject is the number",
    "revocation.subject": "the tokens of a subject were revoked",
    "revocation.token": "one token was revoked",
    "token.issued": "a token was made with `tracking token`",
    "webhook.changed": "the address or the filter of a webhook was to be changed",
    "webhook.created": "a webhook was to be registered: the host that gets events, and of which merchants",
    "webhook.deleted": "a webhook was to be deleted",
    "webhook.secret_rotated": "a webhook was to get a new secret",
}
"""All actions, and what each one says."""


@dataclass(frozen=True, slots=True)
class Actor:
    """The actor: a token's subject, a user of the operating system, or a service."""

    sub: str
    via: Literal["api", "command-line", "service"]


@dataclass(frozen=True, slots=True)
class Act:
    """One administrative thing: what is done, and to what. `details` hold ids and settings, and the reason of
    a correction, which readers of its order see anyway.
    """

    action: Action
    subject: str
    details: Mapping[str, Any]


class AuditTrail:
    """Adds entries. Each one is removed when it is `kept_days` old."""

    def __init__(self, database: Database, kept_days: int = KEPT_DAYS) -> None:
        self._database = database
        self._kept = timedelta(days=kept_days)

    async def record(self, actor: Actor, act: Act) -> None:
        """Returns when the entry is on disk. Call it before the act.

        Raises:
            DatabaseUnavailable: perhaps nothing was written; do not act.
        """
        time = now()
        with driver_errors():
            await self._database.audit.insert_one(
                {
                    "_id": str(uuid7()),
                    "at": time,
                    "actor": _actor_document(actor),
                    "action": act.action,
                    "subject": act.subject,
                    "details": dict(act.details),
                    "expires_at": time + self._kept,
                }
            )


async def record_installation(database: Database) -> None:
    """Records once for all time that the database was set up. Safe to call at every start.

    After the act, because only then it is known which of several replicas was the first; a start that was
    cut off in between is recorded by the next one.

    Raises:
        DatabaseUnavailable: repeat it.
    """
    with driver_errors():
        settings = await database.raw["settings"].find_one({"_id": "partitions"})
        if settings is None:
            raise DatabaseUnavailable("the settings were removed while the service was starting")
        entry: AuditDocument = {
            "_id": f"installation/{settings['epoch']}",
            "at": now(),
            "actor": _actor_document(Actor("order-state", "service")),
            "action": "installation.started",
            "subject": settings["epoch"],
            "details": {"partitions": layout_of(settings).counts[0], "epoch": settings["epoch"]},
            "expires_at": None,
        }
        if await database.audit.find_one({"_id": entry["_id"]}, {"_id": 1}) is None:
            try:
                await database.audit.insert_one(entry)
            except DuplicateKeyError:
                return  # another replica was faster


def audit_view(entry: AuditDocument) -> dict[str, Any]:
    """An entry as it is shown."""
    return {
        "id": entry["_id"],
        "at": format_time(entry["at"]),
        "actor": entry["actor"],
        "action": entry["action"],
        "subject": entry["subject"],
        "details": entry["details"],
    }


def _actor_document(actor: Actor) -> ActorDocument:
    return {"sub": actor.sub, "via": actor.via}
