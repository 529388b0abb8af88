"""What each problem of the catalogue means, and what whoever gets it should do: the error catalogue's text.

One entry for each slug of `shared.problems.CATALOGUE`; a test fails for a slug without one.
"""

from dataclasses import dataclass
from typing import Literal

Repeat = Literal["useless", "later"]
"""Whether the same request, sent again, can succeed. It is safe in both cases: an update has one effect."""

REPEATING: dict[Repeat, str] = {
    "useless": "Safe, but pointless: the answer stays the same until something is changed.",
    "later": (
        "Safe, after a while: wait as long as `Retry-After` says, if it is there, and longer each time."
        " Send an update again with the same `Idempotency-Key`; it takes effect once."
    ),
}

MEMBERS: dict[str, str] = {
    "errors": "each broken rule: `pointer` (a JSON pointer into the request) and `message`; at most 20",
    "offered": "the media types that there are",
    "supported": "what may be sent instead",
    "limit_bytes": "how long the body may be, in bytes",
    "current_status": "the status in which the order stands",
    "requested_status": "the status that was asked for",
    "allowed_next": "the statuses that may follow the current one",
    "version": "the version of the order",
    "expected_version": "the version that the request expected",
    "update_id": "of the update that was refused, as soon as it is known",
    "order_id": "of the order that the update was for",
}
"""What members beside those of every problem say."""


@dataclass(frozen=True, slots=True)
class Guidance:
    """One entry of the error catalogue."""

    meaning: str
    advice: str
    repeat: Repeat = "useless"
    members: tuple[str, ...] = ()
    """Names in `MEMBERS`. `update_id` and `order_id` come with the refusal of any update as well."""


GUIDE: dict[str, Guidance] = {
    "malformed-json": Guidance(
        "The body, or the first message of a stream, is not JSON as RFC 8259 has it, in UTF-8. Texts that"
        " two readers could understand in two ways are refused as well: a name twice in one object, `NaN`,"
        " numbers without bound, half of a surrogate pair, deep nesting.",
        "Make the body with a JSON library, and send it in UTF-8.",
        members=("update_id",),
    ),
    "malformed-request": Guidance(
        "What arrived on the connection is not a request of HTTP/1.1. The connection is closed.",
        "Use an HTTP library, and look at what proxies on the way make of its requests.",
    ),
    "invalid-cursor": Guidance(
        "The cursor was not given out by this installation, or for another list, filter or order.",
        "Hand a cursor back as it came, with the parameters of the request that it came from."
        " Without one, reading starts at the beginning.",
    ),
    "unauthenticated": Guidance(
        "There is no token, or it is not valid: expired, not valid yet, revoked, signed with another key, or"
        " made for somebody else. Where its signature was right, `detail` names the claim and the rule that"
        " it breaks; else nothing is told that would help a forger. `WWW-Authenticate` says the same.",
        "Get a fresh token and send it in one header, `Authorization: Bearer <JWT>`; never in the address."
        " A clock that is wrong makes a good token look expired. The settings say in which claims the"
        " services look.",
        members=("update_id",),
    ),
    "forbidden": Guidance(
        "The token is good and does not allow this: a scope or a merchant is missing in it. The `scope` of"
        " `WWW-Authenticate` is the one that the request needs.",
        "Ask whoever issues the tokens for one that may.",
        members=("update_id",),
    ),
    "order-not-found": Guidance(
        "There is no such order, or none that this token may know of: the answer is the same for both.",
        "Look at the id, and at the merchants and orders of the token. Where another system creates the"
        " order, it may still be under way: then try again with a new `Idempotency-Key`.",
        members=("update_id",),
    ),
    "update-not-found": Guidance(
        "The outcome of this update is not known: it was not decided yet, never sent, is older than 30 days,"
        " or not for this token.",
        "After a 202, ask again after a second. If it stays so, send the update again with the same"
        " `Idempotency-Key`.",
        repeat="later",
    ),
    "not-found": Guidance(
        "There is nothing at this path.",
        "Look at the path and at the service: ingest takes updates, query answers questions, and notifier"
        " streams.",
    ),
    "method-not-allowed": Guidance(
        "The path is right and the method is not; `Allow` names those that are.",
        "Use a method that `Allow` names.",
    ),
    "not-acceptable": Guidance(
        "The answer cannot be given in any media type that `Accept` names.",
        "Ask for one of `offered`, or leave `Accept` away.",
        members=("offered",),
    ),
    "request-timeout": Guidance(
        "The request had begun to arrive and did not end in time, or no subscribe came on a stream. Nothing"
        " of it was used.",
        "Send it again over a better connection; send a large batch as several smaller ones.",
        repeat="later",
        members=("update_id",),
    ),
    "order-exists": Guidance(
        "The order id is taken by another order, or by the same one that was created with another"
        " `Idempotency-Key`. Whoever may know that order is told where it stands.",
        "If it is your order, go on with it. Else choose another id, or none: then one is made.",
        members=("current_status", "version", "update_id"),
    ),
    "invalid-transition": Guidance(
        "The order stands in a status that this one cannot follow. Delivered and cancelled orders are at"
        " their end.",
        "Show `current_status` and `allowed_next` to a person, or report a step that was left out first."
        " The refusal is stored: after that, send the update with a new `Idempotency-Key`.",
        members=("current_status", "requested_status", "allowed_next", "version", "update_id"),
    ),
    "version-conflict": Guidance(
        "The order has moved on since you read it: it is not at `expected_version`.",
        "Read the order again, decide again, and send that with its `version` and a new `Idempotency-Key`.",
        members=("version", "expected_version", "update_id"),
    ),
    "cursor-expired": Guidance(
        "The cursor belongs to a log that was replaced, for example by a restored database.",
        "Drop what you have kept and read from the beginning, without a cursor.",
    ),
    "precondition-failed": Guidance(
        "The request has an `If-Match`, and the order has moved on since it was read with that `ETag`; or the"
        " tag is none of an order.",
        "Read the order again, decide again, and send that with its new `ETag` and a new `Idempotency-Key`.",
        members=("version", "expected_version", "update_id"),
    ),
    "payload-too-large": Guidance(
        "What was sent is longer than is allowed here: a body of 64 KiB, or 1 MiB for a batch; a message of"
        " 64 KiB on a stream.",
        "Send less at once. Large things belong elsewhere, with a reference in `metadata`.",
        members=("limit_bytes", "update_id"),
    ),
    "unsupported-media-type": Guidance(
        "The body is of a media type, in a character set, or with a `Content-Encoding` that is not taken.",
        "Send one of `supported`, in UTF-8, not compressed.",
        members=("supported", "update_id"),
    ),
    "validation-failed": Guidance(
        "A parameter, a header or a field breaks a rule; `errors` says which and where. A batch has 1 to"
        " 1,000 operations.",
        "Change what `errors` point at. Fields and parameters that are not described are refused, so that"
        " a misspelled one is noticed.",
        members=("errors", "update_id"),
    ),
    "idempotency-key-reused": Guidance(
        "The `Idempotency-Key` was used before on this order, for something else.",
        "Use a new key for everything new, and the old one only to repeat a request as it was.",
        members=("update_id",),
    ),
    "upgrade-required": Guidance(
        "This is the stream: it is a WebSocket (RFC 6455, version 13), and this was a plain request, one of"
        " another version, or one by HTTP/1.0. A proxy that does not pass `Upgrade` on makes it so, too.",
        "Use a WebSocket library. Behind a proxy, let it pass the headers `Connection` and `Upgrade` on.",
    ),
    "too-many-requests": Guidance(
        "This caller asks too often, or has more in progress than its share or that of its merchant.",
        "Slow down: wait for `Retry-After`, let what you have begun end, and send many updates as a batch."
        " On a stream, connect again later with your cursor.",
        repeat="later",
        members=("update_id",),
    ),
    "headers-too-large": Guidance(
        "The address and the headers together are too long.",
        "Send fewer and shorter headers; look for cookies that are not meant for this service.",
    ),
    "internal-error": Guidance(
        "The fault is ours. For an update that was given up by an operator, this is its outcome.",
        "Repeat it once. If it fails again, report it with the `trace_id`; the log has the fault under it.",
        repeat="later",
        members=("update_id",),
    ),
    "broker-unavailable": Guidance(
        "The message broker does not answer, or takes nothing more. The update may have been taken or not.",
        "Repeat it with the same `Idempotency-Key` until there is another answer.",
        repeat="later",
        members=("update_id", "order_id"),
    ),
    "database-unavailable": Guidance(
        "The database does not answer, or not within the time that a request has.",
        "Repeat it. If a list or a report does so again and again, ask for less: a shorter time, a filter.",
        repeat="later",
    ),
    "keys-unavailable": Guidance(
        "The service has just started and does not have the keys yet that tokens are verified with.",
        "Repeat it. If it stays so, the operator should look whether the key server answers.",
        repeat="later",
        members=("update_id",),
    ),
    "overloaded": Guidance(
        "All callers together have as much in progress as the service takes: requests in hand, exports,"
        " reports or waiting requests. Nothing of this one was done.",
        "Repeat it; where there is another replica, there.",
        repeat="later",
    ),
}
"""By slug."""
