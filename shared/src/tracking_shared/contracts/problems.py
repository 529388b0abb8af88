"""Problem documents (RFC 9457), and the one table of all problem types: responses, OpenAPI documents, the
pages of query and `docs/problems.md` are made from it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from tracking_shared.contracts.identifiers import IDENTIFIER_PATTERN, MAX_IDENTIFIER_CHARACTERS
from tracking_shared.contracts.workflow import STATUS_PATTERN
from tracking_shared.errors import TrackingError

PROBLEM_MEDIA_TYPE = "application/problem+json"

CHALLENGE = 'Bearer realm="tracking"'
"""The authentication that is asked for (RFC 6750, section 3)."""

RETRY_AFTER_SECONDS = 2
"""The wait that a 429 or 503 asks for: longer than the first reconnects take."""

Repeat = Literal["useless", "later"]
"""Says if the same request, sent again, can succeed. Sending it is safe anyway: an update has one effect."""

REPEATING: dict[Repeat, str] = {
    "useless": "Safe, but pointless: the answer stays the same until something is changed.",
    "later": (
        "Safe, after a while: wait as long as `Retry-After` says, if it is there, and longer each time."
        " Send an update again with the same `Idempotency-Key`; it takes effect once."
    ),
}


@dataclass(frozen=True, slots=True)
class Member:
    """A member that some problems have beside those of all."""

    meaning: str
    schema: Mapping[str, Any]
    """JSON Schema."""


_IDENTIFIER = {"type": "string", "pattern": IDENTIFIER_PATTERN}
_STATUS = {"type": "string", "pattern": STATUS_PATTERN}
_VERSION = {"type": "integer", "minimum": 1}
_TEXTS = {"type": "array", "items": {"type": "string"}}
_ERROR = {
    "type": "object",
    "required": ["pointer", "message"],
    "properties": {
        "pointer": {"type": "string", "description": "JSON pointer (RFC 6901)."},
        "message": {"type": "string"},
    },
}
_ERRORS = {"type": "array", "minItems": 1, "items": _ERROR}

MEMBERS: dict[str, Member] = {
    "errors": Member(
        "each broken rule: `pointer` (a JSON pointer into the request) and `message`; at most 20", _ERRORS
    ),
    "offered": Member("the media types that there are", _TEXTS),
    "supported": Member("what may be sent instead", _TEXTS),
    "limit_bytes": Member("how long the body may be, in bytes", {"type": "integer", "minimum": 1}),
    "current_status": Member("the status in which the order stands", _STATUS),
    "requested_status": Member("the status that was asked for", _STATUS),
    "allowed_next": Member(
        "the statuses that may follow the current one", {"type": "array", "items": _STATUS}
    ),
    "version": Member("the version of the order", _VERSION),
    "expected_version": Member("the version that the request expected", _VERSION),
    "update_id": Member("of the update that was refused, as soon as it is known", _IDENTIFIER),
    "order_id": Member("of the order that the update was for", _IDENTIFIER),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemType:
    """One kind of refusal."""

    status: int
    """Of HTTP."""
    title: str
    meaning: str
    advice: str
    """Tells the caller what to do."""
    repeat: Repeat = "useless"
    always: Sequence[str] = ()
    """Names in `MEMBERS`: such a problem always has these."""
    sometimes: Sequence[str] = ()
    """Names in `MEMBERS`: it may have these. Any refusal of an update may have `update_id` and `order_id`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """HTTP headers of the response, unless a problem has its own."""
    other_headers: Sequence[str] = ()
    """Names of headers that a problem may have of its own."""
    may_lack_request: bool = False
    """The HTTP server may refuse before there is a request with a path."""
    example: str
    """A `detail`."""
    example_members: Mapping[str, Any] = field(default_factory=dict)

    @property
    def members(self) -> tuple[str, ...]:
        """All names in `MEMBERS` that the page of this type explains."""
        return (*self.always, *self.sometimes)


_WAIT = {"Retry-After": str(RETRY_AFTER_SECONDS)}

CATALOGUE: dict[str, ProblemType] = {
    "malformed-json": ProblemType(
        status=400,
        title="The body is not valid JSON",
        meaning=(
            "The body, or the first message of a stream, is not JSON as RFC 8259 has it, in UTF-8. Texts"
            " that two readers could understand in two ways are refused as well: a name twice in one"
            " object, `NaN`, numbers without bound, half of a surrogate pair, deep nesting."
        ),
        advice="Make the body with a JSON library, and send it in UTF-8.",
        sometimes=("update_id",),
        example="Invalid JSON: EOF while parsing an object at line 1 column 1.",
    ),
    "malformed-request": ProblemType(
        status=400,
        title="The request is not valid HTTP",
        meaning="What arrived on the connection is not a request of HTTP/1.1. The connection is closed.",
        advice="Use an HTTP library, and look at what proxies on the way make of its requests.",
        may_lack_request=True,
        example="Invalid HTTP request received.",
    ),
    "invalid-cursor": ProblemType(
        status=400,
        title="The cursor is not one of ours",
        meaning="The cursor was not given out by this installation, or for another list, filter or order.",
        advice=(
            "Hand a cursor back as it came, with the parameters of the request that it came from. Without"
            " one, reading starts at the beginning."
        ),
        example="The cursor does not belong to a list with this filter and sort.",
    ),
    "unauthenticated": ProblemType(
        status=401,
        title="A valid token is required",
        meaning=(
            "There is no token, or it is not valid: expired, not valid yet, revoked, signed with another"
            " key, or made for somebody else. Where its signature was right, `detail` names the claim and"
            " the rule that it breaks; else nothing is told that would help a forger. `WWW-Authenticate`"
            " says the same."
        ),
        advice=(
            "Get a fresh token and send it in one header, `Authorization: Bearer <JWT>`; never in the"
            " address. A clock that is wrong makes a good token look expired. The settings say in which"
            " claims the services look."
        ),
        sometimes=("update_id",),
        headers={"WWW-Authenticate": CHALLENGE},
        example="exp: the token has expired.",
    ),
    "forbidden": ProblemType(
        status=403,
        title="The token does not allow this",
        meaning=(
            "The token is good and does not allow this: a scope or a merchant is missing in it. The `scope`"
            " of `WWW-Authenticate` is the one that the request needs."
        ),
        advice="Ask whoever issues the tokens for one that may.",
        sometimes=("update_id",),
        other_headers=("WWW-Authenticate",),
        example="The token does not have the scope that this needs.",
    ),
    "order-not-found": ProblemType(
        status=404,
        title="There is no such order",
        meaning=(
            "There is no such order, or none that this token may know of: the answer is the same for both."
        ),
        advice=(
            "Look at the id, and at the merchants and orders of the token. Where another system creates the"
            " order, it may still be under way: then try again with a new `Idempotency-Key`."
        ),
        sometimes=("update_id",),
        example="There is no order acme-1001.",
    ),
    "update-not-found": ProblemType(
        status=404,
        title="There is no such update",
        meaning=(
            "The outcome of this update is not known: it was not decided yet, never sent, was refused"
            " more than 30 days ago, or is not for this token."
        ),
        advice=(
            "After a 202, ask again after a second. If it stays so, send the update again with the same"
            " `Idempotency-Key`."
        ),
        repeat="later",
        example="It is not known, or not decided yet.",
    ),
    "not-found": ProblemType(
        status=404,
        title="There is no such resource",
        meaning="There is nothing at this path.",
        advice=(
            "Look at the path and at the service: ingest takes updates, query answers questions, and"
            " notifier streams."
        ),
        example="There is nothing at /v1/nothing.",
    ),
    "method-not-allowed": ProblemType(
        status=405,
        title="The resource does not support this method",
        meaning="The path is right and the method is not; `Allow` names those that are.",
        advice="Use a method that `Allow` names.",
        other_headers=("Allow",),
        example="DELETE is not supported here; see Allow.",
    ),
    "not-acceptable": ProblemType(
        status=406,
        title="None of the accepted media types can be produced",
        meaning="The answer cannot be given in any media type that `Accept` names.",
        advice="Ask for one of `offered`, or leave `Accept` away.",
        always=("offered",),
        example="There is application/json, text/csv.",
        example_members={"offered": ["application/json", "text/csv"]},
    ),
    "request-timeout": ProblemType(
        status=408,
        title="The request did not arrive in time",
        meaning=(
            "The request had begun to arrive and did not end in time, or no subscribe came on a stream."
            " Nothing of it was used."
        ),
        advice="Send it again over a better connection; send a large batch as several smaller ones.",
        repeat="later",
        sometimes=("update_id",),
        may_lack_request=True,
        example="The body did not arrive in time.",
    ),
    "order-exists": ProblemType(
        status=409,
        title="The order exists already",
        meaning=(
            "The order id is taken by another order, or by the same one that was created with another"
            " `Idempotency-Key`. Whoever may know that order is told where it stands."
        ),
        advice="If it is your order, go on with it. Else choose another id, or none: then one is made.",
        sometimes=("current_status", "version", "update_id"),
        example="The order acme-1001 exists already and is picked_up.",
        example_members={"current_status": "picked_up", "version": 2, "update_id": "order-1001"},
    ),
    "order-archived": ProblemType(
        status=409,
        title="The order is archived",
        meaning=(
            "The order was final for so long that it was moved to the archive. It takes no updates, and its"
            " id stays taken. Nothing was changed, also if the same update took effect before."
        ),
        advice=(
            "If the order must change, ask an operator to restore it, and then send the update with a new"
            " `Idempotency-Key`. For something new, create another order."
        ),
        sometimes=("version", "update_id"),
        example="The order acme-1001 is archived. It takes no updates unless it is restored.",
        example_members={"version": 5, "update_id": "pickup-1"},
    ),
    "invalid-transition": ProblemType(
        status=409,
        title="The order cannot go to this status from where it stands",
        meaning=(
            "The order stands in a status that this one cannot follow. Delivered and cancelled orders are"
            " at their end. Or a correction asks for the status that the order has."
        ),
        advice=(
            "Show `current_status` and `allowed_next` to a person, or report a step that was left out"
            " first; a status that was reported wrongly is put right by a correction. The refusal is stored:"
            " after that, send the update with a new `Idempotency-Key`. Where the workflow holds early"
            " updates, one whose step before it never came is refused when its time is over."
        ),
        always=("current_status", "requested_status", "allowed_next", "version"),
        sometimes=("update_id",),
        example="The order is picked_up; it cannot become delivered.",
        example_members={
            "current_status": "picked_up",
            "requested_status": "delivered",
            "allowed_next": ["in_transit", "cancelled"],
            "version": 2,
            "update_id": "drop-1",
        },
    ),
    "version-conflict": ProblemType(
        status=409,
        title="The order is not at the expected version",
        meaning="The order has moved on since you read it: it is not at `expected_version`.",
        advice=(
            "Read the order again, decide again, and send that with its `version` and a new"
            " `Idempotency-Key`."
        ),
        always=("version", "expected_version"),
        sometimes=("update_id",),
        example="The order is at version 3, not 2.",
        example_members={"version": 3, "expected_version": 2, "update_id": "drop-1"},
    ),
    "cursor-expired": ProblemType(
        status=410,
        title="The log no longer holds this position",
        meaning=(
            "The cursor belongs to a log that was replaced, for example by a restored database. Or the log"
            " begins later since orders were archived, and the cursor is from before its beginning."
        ),
        advice="Drop what you have kept and read from the beginning, without a cursor.",
        example="The cursor belongs to a log that was replaced; read from the beginning.",
    ),
    "precondition-failed": ProblemType(
        status=412,
        title="The order is not as the request asks it to be",
        meaning=(
            "The request has an `If-Match`, and the order has moved on since it was read with that `ETag`;"
            " or the tag is none of an order."
        ),
        advice=(
            "Read the order again, decide again, and send that with its new `ETag` and a new"
            " `Idempotency-Key`."
        ),
        sometimes=("version", "expected_version", "update_id"),
        example="The order is at version 3, not 2.",
        example_members={"version": 3, "expected_version": 2, "update_id": "drop-1"},
    ),
    "payload-too-large": ProblemType(
        status=413,
        title="The body is too large",
        meaning=(
            "What was sent is longer than is allowed here: a body of 64 KiB, or 1 MiB for a batch; a"
            " message of 64 KiB on a stream."
        ),
        advice="Send less at once. Large things belong elsewhere, with a reference in `metadata`.",
        always=("limit_bytes",),
        sometimes=("update_id",),
        example="The body may have 65536 bytes.",
        example_members={"limit_bytes": 65536},
    ),
    "unsupported-media-type": ProblemType(
        status=415,
        title="The media type of the body is not supported",
        meaning=(
            "The body is of a media type, in a character set, or with a `Content-Encoding` that is not taken."
        ),
        advice="Send one of `supported`, in UTF-8, not compressed.",
        always=("supported",),
        sometimes=("update_id",),
        other_headers=("Accept-Encoding",),
        example="Send application/json.",
        example_members={"supported": ["application/json"]},
    ),
    "validation-failed": ProblemType(
        status=422,
        title="The request breaks a rule",
        meaning=(
            "A parameter, a header or a field breaks a rule; `errors` says which and where. A batch has 1"
            " to 1,000 operations."
        ),
        advice=(
            "Change what `errors` point at. Fields and parameters that are not described are refused, so"
            " that a misspelled one is noticed."
        ),
        always=("errors",),
        sometimes=("update_id",),
        example="The request breaks a rule; see errors.",
        example_members={"errors": [{"pointer": "/status", "message": "Field required"}]},
    ),
    "idempotency-key-reused": ProblemType(
        status=422,
        title="The idempotency key was used for another request",
        meaning="The `Idempotency-Key` was used before on this order, for something else.",
        advice="Use a new key for everything new, and the old one only to repeat a request as it was.",
        sometimes=("update_id",),
        example="The update id pickup-1 was used for another request on this order.",
        example_members={"update_id": "pickup-1"},
    ),
    "upgrade-required": ProblemType(
        status=426,
        title="The resource is a WebSocket",
        meaning=(
            "This is the stream: it is a WebSocket (RFC 6455, version 13), and this was a plain request,"
            " one of another version, or one by HTTP/1.0. A proxy that does not pass `Upgrade` on makes it"
            " so, too. With `Accept: text/event-stream` the stream comes over plain HTTP."
        ),
        advice=(
            "Use a WebSocket library, or accept `text/event-stream`. Behind a proxy, let it pass the headers"
            " `Connection` and `Upgrade` on."
        ),
        example="Open a WebSocket here: HTTP/1.1, version 13 of the protocol. Or accept text/event-stream.",
    ),
    "too-many-requests": ProblemType(
        status=429,
        title="Too many requests",
        meaning=(
            "This caller asks too often, or has more in progress than its share or that of its merchant."
        ),
        advice=(
            "Slow down: wait for `Retry-After`, let what you have begun end, and send many updates as a"
            " batch. On a stream, connect again later with your cursor."
        ),
        repeat="later",
        sometimes=("update_id",),
        headers=_WAIT,
        example="One principal may have 2 reports at once; repeat it when one has ended.",
    ),
    "headers-too-large": ProblemType(
        status=431,
        title="The request line and the header fields are too large",
        meaning="The address and the headers together are too long.",
        advice="Send fewer and shorter headers; look for cookies that are not meant for this service.",
        may_lack_request=True,
        example="The head may have 32768 bytes.",
    ),
    "internal-error": ProblemType(
        status=500,
        title="Something went wrong on our side",
        meaning="The fault is ours. For an update that was given up by an operator, this is its outcome.",
        advice=(
            "Repeat it once. If it fails again, report it with the `trace_id`; the log has the fault under"
            " it."
        ),
        repeat="later",
        sometimes=("update_id",),
        example="The fault is logged under the trace id.",
    ),
    "broker-unavailable": ProblemType(
        status=503,
        title="The message broker cannot take the update now",
        meaning=(
            "The message broker does not answer, or takes nothing more. The update may have been taken or"
            " not."
        ),
        advice="Repeat it with the same `Idempotency-Key` until there is another answer.",
        repeat="later",
        sometimes=("update_id", "order_id"),
        headers=_WAIT,
        example="The update may or may not have been taken. Repeat it with the same id; that is safe.",
        example_members={"update_id": "pickup-1", "order_id": "acme-1001"},
    ),
    "archive-unavailable": ProblemType(
        status=503,
        title="The archive cannot be read now",
        meaning="The order is archived, and the file that contains it is missing or damaged.",
        advice=(
            "Repeat it. If it stays so, report it: the operator should look whether the folder of the archive"
            " is there, and run `tracking check`."
        ),
        repeat="later",
        headers=_WAIT,
        example="The order acme-1001 is archived, and its archive cannot be read.",
    ),
    "database-unavailable": ProblemType(
        status=503,
        title="The database cannot answer now",
        meaning="The database does not answer, or not within the time that a request has.",
        advice=(
            "Repeat it. If a list or a report does so again and again, ask for less: a shorter time, a"
            " filter."
        ),
        repeat="later",
        headers=_WAIT,
        example="Repeat the request a little later.",
    ),
    "keys-unavailable": ProblemType(
        status=503,
        title="Tokens cannot be verified yet",
        meaning=(
            "The service has just started and does not have the keys yet that tokens are verified with."
        ),
        advice="Repeat it. If it stays so, the operator should look whether the key server answers.",
        repeat="later",
        sometimes=("update_id",),
        headers=_WAIT,
        example="The keys to verify tokens with are not known yet.",
    ),
    "overloaded": ProblemType(
        status=503,
        title="Too much is in hand already",
        meaning=(
            "All callers together have as much in progress as the service takes: requests in hand, exports,"
            " reports or waiting requests; then nothing of this one was done. Or the service is away, or"
            " stopped before it had answered; then an update may have been taken or not."
        ),
        advice="Repeat it, an update with the same `Idempotency-Key`; where there is another replica, there.",
        repeat="later",
        headers=_WAIT,
        may_lack_request=True,
        example="Repeat the request a little later.",
    ),
}
"""By slug, in the order of the statuses."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A refusal: a `slug` of the catalogue, a sentence, and members of its own."""

    slug: str
    detail: str
    members: dict[str, Any] = field(default_factory=dict)
    own_headers: dict[str, str] = field(default_factory=dict)
    """HTTP headers beside, or instead of, those of its type."""

    @property
    def status(self) -> int:
        """The HTTP status that goes with the slug."""
        return CATALOGUE[self.slug].status

    def document(self, instance: str | None = None, trace_id: str | None = None) -> dict[str, Any]:
        """The RFC 9457 document. `instance` is the path of the request that was refused."""
        kind = CATALOGUE[self.slug]
        document: dict[str, Any] = {
            "type": f"/problems/{self.slug}",
            "title": kind.title,
            "status": kind.status,
            "detail": self.detail,
        }
        if instance is not None:
            document["instance"] = instance
        if trace_id is not None:
            document["trace_id"] = trace_id
        return document | self.members

    def headers(self) -> dict[str, str]:
        """The HTTP headers: those of its type, and its own."""
        return {**CATALOGUE[self.slug].headers, **self.own_headers}


def unknown_name(pointer: str, known: Collection[str]) -> list[dict[str, str]]:
    """The errors of a value that is none of the known names, such as those of the workflow's statuses."""
    return [{"pointer": pointer, "message": f"must be one of {', '.join(sorted(known))}"}]


def no_such_order(order_id: str) -> str:
    """The detail of `order-not-found`: the same for an order that does not exist and for one that the caller
    may not know of.
    """
    return f"There is no order {order_id[:MAX_IDENTIFIER_CHARACTERS]}."


class ProblemError(TrackingError):
    """Ends the handling of a request with a problem."""

    def __init__(
        self, slug: str, detail: str, *, headers: dict[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(slug, detail, members, headers or {})

    @classmethod
    def of(cls, problem: Problem) -> Self:
        """The error that ends a request with this problem."""
        return cls(problem.slug, problem.detail, headers=problem.own_headers, **problem.members)


def validation_problem(errors: list[dict[str, str]]) -> Problem:
    """A `validation-failed` problem for a list of ``{pointer, message}``."""
    return Problem("validation-failed", "The request breaks a rule; see errors.", {"errors": errors})


EXAMPLE_TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
"""The trace of all examples."""


def problem_example(slug: str, path: str = "/v1/orders/acme-1001") -> dict[str, Any]:
    """A problem document as a request for `path` could have got it."""
    kind = CATALOGUE[slug]
    return Problem(slug, kind.example, dict(kind.example_members)).document(path, EXAMPLE_TRACE_ID)
