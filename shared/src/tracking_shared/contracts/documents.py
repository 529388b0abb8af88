"""The shape of every document in the database: the data model, in one place.

An event carries the whole state of its order after it (`customer`, `created_at`, `order_metadata`
beside what changed). So an order is the projection of its newest event, the order at any time is
the projection of the newest event before, and a reader of the log needs no second look-up.
"""

from datetime import datetime, timedelta
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from tracking_shared.contracts.access import SourceType
from tracking_shared.contracts.timestamps import UNIX_EPOCH

Metadata = dict[str, Any]

MAX_METADATA_BYTES = 4096
"""As JSON, of one update, and of an order after all of them; likewise the two below."""
MAX_METADATA_KEYS = 32
MAX_METADATA_LEVELS = 4

EventType = Literal[
    "order.created",
    "order.status_changed",
    "order.checkpoint_added",
    "order.corrected",
    "order.overdue",
    "order.customer_erased",
]
"""The kind of change that an event records."""


class SourceDocument(TypedDict):
    """The source of a change."""

    type: SourceType
    id: str


class CustomerDocument(TypedDict):
    """Whose order it is. Personal data: never logged, shown only to those entitled."""

    name: str
    contact_ref: str


class ClosingDocument(TypedDict):
    """When a final order came into its status, and its newest change since."""

    at: datetime
    changed_at: datetime


class OrderDocument(TypedDict):
    """The current state of one order (collection `orders`)."""

    _id: str
    merchant_id: str
    reference: NotRequired[str]
    """The merchant's own number for the order. Not there if it has none."""
    customer: CustomerDocument | None
    """None: erased."""
    erased_at: NotRequired[datetime]
    """When the erasure of the customer was accepted."""
    status: str
    active: bool
    version: int
    created_at: datetime
    updated_at: datetime
    source: SourceDocument
    metadata: Metadata
    partition: int
    due_at: NotRequired[datetime]
    """When it is due. Not there, like every optional time below: none."""
    eta: NotRequired[datetime]
    """When it is expected."""
    overdue: NotRequired[bool]
    """True from `order.overdue` until the order is final or is due later. Not there: false."""
    announced_due_at: NotRequired[datetime]
    """The latest `due_at` that had its `order.overdue`; there is none for an earlier one any more."""
    due_key: NotRequired[int]
    """`due_key` of partition and `due_at`, while `order.overdue` is still to come for it: the index by which
    the owner of the partition finds it."""
    closing: NotRequired[ClosingDocument]
    """Of a final order that has changed since it came into its status (a checkpoint). Of all other final
    orders, `updated_at` is when they did."""


class EventDocument(TypedDict):
    """One applied change (collection `order_events`). `_id` = `position_key`: the log's own order."""

    _id: int
    order_id: str
    merchant_id: str
    reference: NotRequired[str]
    customer: CustomerDocument | None
    """None: erased, the only thing that is ever changed in an event."""
    erased_at: NotRequired[datetime]
    version: int
    partition: int
    seq: int
    status: str
    previous_status: str | None
    active: bool
    update_id: str
    update_key: NotRequired[str]
    """`update_key` of the two: an update takes effect once. Not there in an event of an earlier release
    until it is migrated."""
    fingerprint: NotRequired[str]
    """Of the request. Not there in an event of an earlier release until it is migrated, and for ever if its
    outcome had expired."""
    source: SourceDocument
    occurred_at: datetime | None
    received_at: datetime
    recorded_at: datetime
    created_at: datetime
    metadata: Metadata
    order_metadata: Metadata
    type: NotRequired[EventType]
    """Not there: the order was created, or took a step (`event_type`)."""
    due_at: NotRequired[datetime]
    """Of the order after it, like the three below."""
    eta: NotRequired[datetime]
    overdue: NotRequired[bool]
    announced_due_at: NotRequired[datetime]
    previous_overdue: NotRequired[bool]
    """Whether the order was overdue before it. Not there: false."""
    kind: NotRequired[str]
    message: NotRequired[str]
    reason: NotRequired[str]
    corrected_at: NotRequired[datetime]
    """`recorded_at` of a correction, for an index of corrections alone."""
    closed_at: NotRequired[datetime]
    """When the order came into its final status, if that was before."""
    traceparent: NotRequired[str]


class SearchDocument(TypedDict):
    """The words of one order in the search (collection `order_search`), `_id` = order id. Personal data: not
    logged.

    Made from the log, a moment behind it (`tracking_shared.contracts.texts`).
    """

    _id: str
    merchant_id: str
    created_at: datetime
    words: list[str]


class ProblemDocument(TypedDict):
    """Why an update was refused, as stored; the edge adds status, title, instance and trace id."""

    slug: str
    detail: str
    members: dict[str, Any]


class UpdateDocument(TypedDict):
    """The outcome of one command, `_id` = order id and update id.

    Those of refused ones are stored (collection `updates`); that of an applied one is in its event
    (`applied_outcome`). Earlier releases stored those, too. `position` is the `_id` of the event;
    `merchant_id` is None where there was no order to belong to a merchant.
    """

    _id: str
    order_id: str
    update_id: str
    fingerprint: str
    outcome: Literal["applied", "rejected", "held"]
    """`held` is never stored here: `tracking_shared.contracts.held` makes it of a `HeldDocument`."""
    version: int | None
    position: int | None
    problem: ProblemDocument | None
    requested_status: str
    kind: NotRequired[str]
    """Of the checkpoint that was asked for."""
    merchant_id: str | None
    source: SourceDocument
    recorded_at: datetime
    expires_at: NotRequired[datetime]
    """Of a refusal for an order that does not exist: it is not kept as long as the others."""


class UnknownOrdersDocument(TypedDict):
    """The refusals of one sender for orders that do not exist (collection `unknown_orders`).

    `_id` = partition and `source.id`. Only so many are kept: each further one takes the place of the oldest.
    """

    _id: str
    keys: list[str]
    """Of the refusals, the newest one last. Some may have been removed."""
    expires_at: datetime


class HeldDocument(TypedDict):
    """An update that came too early and waits for what comes before it (collection `held`).

    `_id` = order id, update id and `source.id`: so nobody who sends updates for orders that are not there
    yet takes an update id from somebody else.
    """

    _id: str
    order_id: str
    update_id: str
    fingerprint: str
    partition: int
    command: str
    source: SourceDocument
    requested_status: str
    kind: NotRequired[str]
    """Of the checkpoint that was asked for."""
    merchant_id: str | None
    """Of its order when it was held; None: there was none."""
    occurred_at: datetime | None
    held_at: datetime
    until: datetime
    """When its time is over, by the clock of the database."""
    held_key: int
    """`due_key` of partition and `until`: the index by which the owner finds those whose time is over."""
    sender_key: NotRequired[str]
    """Partition and `source.id`, where there was no order: the index by which a sender's are counted."""


class ParkedDocument(TypedDict):
    """A command that waits for an operator (collection `parked`), `_id` = order id and update id.

    The first of an order is one that our own code fails on; the others wait behind it. `error` says how
    the first one failed, without anything of its content.
    """

    _id: str
    order_id: str
    update_id: str
    fingerprint: str
    partition: int
    place: int
    command: str
    error: str | None
    parked_at: datetime


class ParkedLineDocument(TypedDict):
    """The parked commands of one order: the places of the first and the last, with none missing between."""

    order_id: str
    first: int
    last: int


class PartitionDocument(TypedDict):
    """The position of one partition (collection `partitions`).

    `seq` is that of its newest event, `worker` the session of the process that has claimed it.
    `commits` counts claims and transactions: every commit compares and bumps it, so a worker that
    decided on an older state cannot write. `epoch` names this log: a cursor of another one (a
    restored or replaced database) is recognised by it. `parked` names the orders that wait for an operator.
    `horizon`: nothing with an earlier `recorded_at` can be committed in the partition any more. Not there
    until `Database.prepare` of a release that knows it has run. `held` is the number of held updates; not
    there until there was one.
    """

    _id: int
    seq: int
    commits: int
    worker: str
    epoch: str
    parked: list[ParkedLineDocument]
    horizon: NotRequired[datetime]
    held: NotRequired[int]
    archived: NotRequired[int]
    """The number of archived orders. Not there, like the two below, until one was archived."""
    log_start: NotRequired[int]
    """The highest seq of an archived event: the log is complete behind it, and begins there."""
    archived_until: NotRequired[datetime]
    """Nothing recorded later was ever archived."""
    generation: NotRequired[int]
    """The newest generation of the layout. Not there until the number of partitions was changed."""
    added_in: NotRequired[int]
    """The generation that has added the partition. Not there in those of the first one."""


class ArchivedOrderDocument(TypedDict):
    """The remainder of an archived order in the database (collection `archived_orders`), `_id` = order id. As
    long as it is there, the order id is taken, and the order takes no updates.
    """

    _id: str
    merchant_id: str
    partition: int
    version: int
    """The number of its events."""
    part: str
    """The part of the archive that contains them."""
    archived_at: datetime


class ArchivableOrderDocument(TypedDict):
    """An order in a part of the archive, as it stood when the part was written."""

    order_id: str
    version: int
    seq: int
    """Of its newest event."""
    updated_at: datetime


class ArchivingDocument(TypedDict):
    """Orders of one partition that are in a part of the archive, and are to leave the database (collection
    `archivings`), `_id` = part, partition and a number. The owner of the partition carries it out.
    """

    _id: str
    part: str
    partition: int
    orders: list[ArchivableOrderDocument]
    open: NotRequired[bool]
    """True until it is done; then absent, for an index of open ones alone."""


class RevocationDocument(TypedDict):
    """Tokens that ended before their time (collection `revocations`), `_id` = `jti/` and the token's id, or
    `sub/` and the subject. Either `token_id` is there, or `subject` and `issued_before`.
    """

    _id: str
    token_id: str | None
    subject: str | None
    issued_before: datetime | None
    expires_at: datetime | None


class ErasureDocument(TypedDict):
    """The erasure of a person (collection `erasures`). Personal data until it is done: not logged."""

    _id: str
    merchant_id: str | None
    """None: the orders of all merchants."""
    accepted_at: datetime
    """What was received until then is erased, what comes later is not."""
    open: NotRequired[bool]
    """True until it is done; then absent, for an index of open ones alone."""
    contact_refs: NotRequired[list[str]]
    """The contact, in each way that it may have been written down. Removed when it is done."""
    contact_key: NotRequired[str]
    """A keyed digest of the contact, once it is done: by it a create that was received before, and is decided
    later, is recognised."""
    orders: NotRequired[int]
    events: NotRequired[int]
    done_at: NotRequired[datetime]
    expires_at: datetime


class ErasureProgressDocument(TypedDict):
    """The progress of an erasure in one partition (collection `erasure_progress`), `_id` =
    `erasure_progress_id`. Written in the transactions of the erasure, so it counts nothing twice.
    """

    _id: str
    erasure_id: str
    partition: int
    orders: int
    events: int
    """Events in which a customer was erased."""
    done: bool
    expires_at: datetime


def erasure_progress_id(erasure_id: str, partition: int) -> str:
    """`_id` of the progress of an erasure in a partition."""
    return f"{erasure_id}/{partition}"


class ActorDocument(TypedDict):
    """The actor of an administrative act, and the way it was done."""

    sub: str
    via: Literal["api", "command-line", "service"]


class AuditDocument(TypedDict):
    """An administrative act (collection `audit`). Written once, never changed; no name, contact or token."""

    _id: str
    at: datetime
    actor: ActorDocument
    action: str
    subject: str
    details: dict[str, Any]
    expires_at: datetime | None


def correction_entry_id(event: EventDocument) -> str:
    """`_id` of the entry for a correction in the audit trail: one for each event."""
    return f"correction/{event['order_id']}:{event['version']}"


def correction_entry(event: EventDocument, kept_days: int) -> AuditDocument:
    """The entry for a correction in the audit trail, to be written together with its event."""
    return {
        "_id": correction_entry_id(event),
        "at": event["recorded_at"],
        "actor": {"sub": event["source"]["id"], "via": "api"},
        "action": "order.corrected",
        "subject": event["order_id"],
        "details": {
            "merchant_id": event["merchant_id"],
            "version": event["version"],
            "from": event["previous_status"],
            "to": event["status"],
            "reason": event["reason"],
            "update_id": event["update_id"],
        },
        "expires_at": event["recorded_at"] + timedelta(days=kept_days),
    }


def overdue_condition(*, overdue: bool) -> Any:
    """The condition of a database query on `overdue` of an order, which is not there when it is false."""
    return True if overdue else {"$ne": True}


MAX_SEQ = 2**40 - 1
"""Events in one partition; at 10,000/s it takes three years to fill one. With 1,024 partitions a key
stays below 2**53, so it is exact in every language."""


def position_key(partition: int, seq: int) -> int:
    """`_id` of an event: its position in the log. One index gives uniqueness and range reads."""
    return partition * (MAX_SEQ + 1) + seq


def position_keys(partition: int, first: int, last: int) -> list[int]:
    """The `_id`s of the events from the seq `first` to `last`, both included, in their order."""
    return [position_key(partition, seq) for seq in range(first, last + 1)]


MAX_DUE_MS = 2**43 - 1
"""In the year 2248, later than any time that is taken from outside. With 1,024 partitions a key stays below
2**53."""


def due_key(partition: int, due_at: datetime) -> int:
    """The partition and the time in one number, for one index: the times of a partition are a range of it.
    Those before 1970 are taken for 1970.
    """
    milliseconds = (due_at - UNIX_EPOCH) // timedelta(milliseconds=1)
    return partition * (MAX_DUE_MS + 1) + min(max(milliseconds, 0), MAX_DUE_MS)


def event_type(event: EventDocument) -> EventType:
    """The type of an event, by what it changed."""
    return event.get("type") or ("order.created" if event["version"] == 1 else "order.status_changed")


def update_key(order_id: str, update_id: str) -> str:
    """`_id` of an outcome. No identifier holds a slash, so two pairs never share a key."""
    return f"{order_id}/{update_id}"


def applied_outcome(event: EventDocument) -> UpdateDocument:
    """The outcome of the command that made `event`."""
    outcome: UpdateDocument = {
        "_id": update_key(event["order_id"], event["update_id"]),
        "order_id": event["order_id"],
        "update_id": event["update_id"],
        "fingerprint": event.get("fingerprint", ""),
        "outcome": "applied",
        "version": event["version"],
        "position": event["_id"],
        "problem": None,
        "requested_status": "" if event["previous_status"] is None or "kind" in event else event["status"],
        "merchant_id": event["merchant_id"],
        "source": event["source"],
        "recorded_at": event["recorded_at"],
    }
    if "kind" in event:
        outcome["kind"] = event["kind"]
    return outcome


OUTCOMES_ID = "outcomes"
"""`_id` of the form of outcomes (collection `settings`)."""


class OutcomesDocument(TypedDict):
    """The form in which outcomes of applied updates are stored (collection `settings`, `OUTCOMES_ID`).

    Until `in_events_from` they are written into `updates`, too, for services of the release before. Then the
    events that those have recorded are migrated: of each partition up to the seq in `reached`.
    """

    _id: str
    in_events_from: datetime
    reached: dict[str, int]
    migrated: bool


ERASURE_KEY_ID = "erasure_key"
"""`_id` of the key (collection `settings`) of the digests of erased contacts."""


def cursor_key_id(epoch: str) -> str:
    """`_id` of the key (collection `settings`) that seals the cursors of the log with this epoch."""
    return f"cursor_key/{epoch}"


def log_start_of(partition: PartitionDocument) -> int:
    """The seq behind which the log of the partition is complete; 0 if nothing of it was archived."""
    return partition.get("log_start", 0)


def horizon_of(partition: PartitionDocument) -> datetime:
    """Before it, nothing can be recorded in the partition any more. 1970 where that is not known."""
    return partition.get("horizon", UNIX_EPOCH)


def project(event: EventDocument) -> OrderDocument:
    """The order as it stands after `event`."""
    order: OrderDocument = {
        "_id": event["order_id"],
        "merchant_id": event["merchant_id"],
        "customer": event["customer"],
        "status": event["status"],
        "active": event["active"],
        "version": event["version"],
        "created_at": event["created_at"],
        "updated_at": event["recorded_at"],
        "source": event["source"],
        "metadata": event["order_metadata"],
        "partition": event["partition"],
    }
    if "erased_at" in event:
        order["erased_at"] = event["erased_at"]
    if "reference" in event:
        order["reference"] = event["reference"]
    if "closed_at" in event:
        order["closing"] = {"at": event["closed_at"], "changed_at": event["recorded_at"]}
    if "eta" in event:
        order["eta"] = event["eta"]
    if "due_at" in event:
        _project_due_time(event, order)
    return order


def _project_due_time(event: EventDocument, order: OrderDocument) -> None:
    order["due_at"] = event["due_at"]
    if "announced_due_at" in event:
        order["announced_due_at"] = event["announced_due_at"]
    if event.get("overdue"):
        order["overdue"] = True
    elif event["active"]:
        order["due_key"] = due_key(event["partition"], event["due_at"])
