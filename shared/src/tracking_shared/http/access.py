"""Access: the caller of a request by its token, and the orders that it may read."""

import hashlib
import re
from typing import Any

from fastapi import Request, Response
from pymongo.errors import AutoReconnect, ServerSelectionTimeoutError

from tracking_shared.auth.keys import KeysUnavailable
from tracking_shared.auth.revocations import Revocations
from tracking_shared.auth.tokens import NoToken, TokenError, TokenVerifier, bearer_token
from tracking_shared.contracts.access import Principal, may_ask_for_outcomes, may_read, reaches, sees_outcome
from tracking_shared.contracts.documents import OrderDocument, UpdateDocument, applied_outcome, update_key
from tracking_shared.contracts.formats import HELD, ORDER_EVENTS, ORDERS, UPDATES, upcast, upcast_all
from tracking_shared.contracts.held import held_outcomes
from tracking_shared.contracts.identifiers import is_identifier
from tracking_shared.contracts.problems import CATALOGUE, CHALLENGE, Problem, ProblemError, no_such_order
from tracking_shared.contracts.timestamps import format_time
from tracking_shared.http.headers import tags_of
from tracking_shared.http.http_limits import consume_rate_limit, count_in_flight
from tracking_shared.http.service_app import JsonResponse
from tracking_shared.storage.database import MAJORITY, Database, DatabaseUnavailable
from tracking_shared.storage.reads import bounded_read
from tracking_shared.telemetry.logs import trace_id_var

_NOT_ALLOWED = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")
"""Characters that a description must not hold (RFC 6750, section 3)."""


def no_token(detail: str) -> Problem:
    """401 for a request without a token: no error is named then."""
    return Problem("unauthenticated", detail)


def invalid_token(detail: str) -> Problem:
    """401 for a token that is refused, and why."""
    challenge = f'{CHALLENGE}, error="invalid_token", error_description="{_described(detail)}"'
    return Problem("unauthenticated", detail, own_headers={"WWW-Authenticate": challenge})


def insufficient_scope(detail: str, scope: str) -> Problem:
    """403 for a token that is good and does not allow this. `scope`: what the resource asks for."""
    challenge = (
        f'{CHALLENGE}, error="insufficient_scope", scope="{scope}", error_description="{_described(detail)}"'
    )
    return Problem("forbidden", detail, own_headers={"WWW-Authenticate": challenge})


def _described(detail: str) -> str:
    return _NOT_ALLOWED.sub("'", detail)


REVOKED = invalid_token("The token has been revoked.")
"""The refusal of a revoked token, the same by every service."""

KEYS_UNAVAILABLE = Problem("keys-unavailable", "The keys to verify tokens with are not known yet.")


async def authenticated(request: Request, verifier: TokenVerifier) -> Principal:
    """The verified caller of a request, which counts against the caller's rate limit and share. Whether the
    token is revoked is a second question.

    Raises:
        ProblemError: `unauthenticated`, `keys-unavailable`, or `too-many-requests`.
    """
    headers = request.headers.getlist("authorization")
    if len(headers) > 1:
        raise ProblemError.of(invalid_token("Send one Authorization header."))
    try:
        token = bearer_token(headers[0] if headers else None)
        await verifier.refresh_keys_for(token)
        principal = verifier.verify(token)
    except NoToken as error:
        raise ProblemError.of(no_token(str(error))) from None
    except TokenError as error:
        raise ProblemError.of(invalid_token(str(error))) from None
    except KeysUnavailable:
        raise ProblemError.of(KEYS_UNAVAILABLE) from None
    consume_rate_limit(request, principal)
    count_in_flight(request, principal)
    return principal


def refuse_revoked(principal: Principal, revocations: Revocations) -> None:
    """Raises `ProblemError` (`unauthenticated`) if the caller's token is revoked."""
    if revocations.include(principal):
        raise ProblemError.of(REVOKED)


_ENTITY_TAG = re.compile(r'(?:W/)?("[^"]*")')

MAX_SENDERS = 64
"""As many updates of one order as may be held: 32, and 32 of strangers from before it existed."""

_ONE = {"limit": 1, "singleBatch": True, "readConcern": MAJORITY.document}


def refuse_without_reading(principal: Principal) -> None:
    """Raises `ProblemError` (`forbidden`) if the caller may not read at all."""
    if not may_read(principal):
        detail = "The token does not have the scope orders:read."
        raise ProblemError.of(insufficient_scope(detail, "orders:read"))


async def entitled_order(database: Database, order_id: str, principal: Principal) -> OrderDocument:
    """The order as it stands.

    Raises:
        ProblemError: `order-not-found`, also where the caller is not entitled to it.
        DatabaseUnavailable: no answer, or not in time.
    """
    order = None
    if is_identifier(order_id):
        with bounded_read():
            order = await order_by_id(database, order_id)
    return entitled(order, order_id, principal)


def entitled(order: OrderDocument | None, order_id: str, principal: Principal) -> OrderDocument:
    """`order`, if there is one and it exists for the caller.

    Raises:
        ProblemError: `order-not-found`.
    """
    if order is None or not reaches(principal.grant, order["_id"], order["merchant_id"]):
        raise ProblemError("order-not-found", no_such_order(order_id))
    return order


def order_answer(request: Request, body: bytes, version: int) -> Response:
    """The answer with an `ETag`; 304 if the caller has it already (`If-None-Match`).

    Raises:
        ProblemError: `precondition-failed`: `If-Match` asks for another one (RFC 9110, 13.1.1).
            `validation-failed`: it is no list of entity tags.
    """
    # The digest stands for all that the answer depends on beside the version: who asks, the workflow.
    tag = f'"{version}-{hashlib.blake2b(body, digest_size=6).hexdigest()}"'
    fields = request.headers.getlist("if-match")
    wanted = tags_of(fields) if fields else None
    if wanted is not None and tag not in wanted:
        raise ProblemError("precondition-failed", f"The order has the entity tag {tag}.")
    asked = ",".join(request.headers.getlist("if-none-match"))
    if asked.strip() == "*" or tag in _ENTITY_TAG.findall(asked):
        return Response(status_code=304, headers={"ETag": tag})
    return Response(body, headers={"ETag": tag}, media_type="application/json")


async def order_by_id(database: Database, order_id: str) -> OrderDocument | None:
    """The order as it stands, if there is one.

    Raises:
        PyMongoError: to be turned into ours by the caller, who also bounds the time.
    """
    # As a plain command: to set up a cursor for one document costs the driver an eighth of all that an answer
    # takes. But it repeats a find whose connection was lost, and never a command.
    command = {"find": "orders", "filter": {"_id": order_id}, **_ONE}
    try:
        answer = await database.raw.command(command, codec_options=database.raw.codec_options)
    except ServerSelectionTimeoutError:
        raise
    except AutoReconnect:
        stored = await database.orders.find_one({"_id": order_id})
        return upcast(ORDERS, stored) if stored else None
    found: list[OrderDocument] = answer["cursor"]["firstBatch"]
    return upcast(ORDERS, found[0]) if found else None


def refuse_without_outcomes(principal: Principal) -> None:
    """Raises `ProblemError` (`forbidden`) if the caller may neither read nor have sent an update."""
    if not may_ask_for_outcomes(principal):
        detail = "The token has none of the scopes orders:read, orders:write and orders:correct."
        raise ProblemError.of(insufficient_scope(detail, "orders:read"))


async def outcome_answer(database: Database, principal: Principal, order_id: str, update_id: str) -> Response:
    """The outcome of an update.

    Raises:
        ProblemError: `update-not-found`, also where it does not exist for the caller.
        DatabaseUnavailable: no answer, or not in time.
    """
    return outcome_response(await find_outcome(database, principal, order_id, update_id), principal)


def outcome_response(update: UpdateDocument | None, principal: Principal) -> Response:
    """The answer with this outcome.

    Raises:
        ProblemError: `update-not-found`: there is none, or it does not exist for the caller.
    """
    if update is None or not may_see(principal, update):
        raise ProblemError("update-not-found", "It is not known, or not decided yet.")
    return JsonResponse(outcome_view(update, trace_id_var.get()))


async def find_outcome(
    database: Database, principal: Principal, order_id: str, update_id: str
) -> UpdateDocument | None:
    """The outcome of an update, if the database has it. `may_see` is to be asked, too.

    Raises:
        DatabaseUnavailable: no answer, or not in time.
    """
    if not (is_identifier(order_id) and is_identifier(update_id)):
        return None
    key = update_key(order_id, update_id)
    with bounded_read():
        decided = await _find_decided(database, key)
        if decided is not None and may_see(principal, decided):
            return decided
        held = await _find_held(database, principal, order_id, update_id)
        # One that was held until a moment ago is decided by now.
        return held or await _find_decided(database, key)


async def _find_decided(database: Database, key: str) -> UpdateDocument | None:
    # The event last: one that takes the place of a refusal meanwhile is found.
    stored = await database.updates.find_one({"_id": key})
    event = await database.order_events.find_one({"update_key": key})
    if event:
        return applied_outcome(upcast(ORDER_EVENTS, event))
    return upcast(UPDATES, stored) if stored else None


async def _find_held(
    database: Database, principal: Principal, order_id: str, update_id: str
) -> UpdateDocument | None:
    # Several senders may have used the update id while there was no order.
    ids = {"$gt": f"{order_id}/{update_id}/", "$lt": f"{order_id}/{update_id}0"}
    held = await database.held.find({"_id": ids}).limit(MAX_SENDERS).to_list()
    if not held:
        return None
    order = await order_by_id(database, order_id)
    seen = [one for one in held_outcomes(upcast_all(HELD, held), order) if may_see(principal, one)]
    own = [one for one in seen if one["source"]["id"] == principal.subject]
    return next(iter([*own, *seen]), None)


def may_see(principal: Principal, update: UpdateDocument) -> bool:
    """True if the outcome of this update exists for the caller."""
    return sees_outcome(
        principal,
        source_id=update["source"]["id"],
        order_id=update["order_id"],
        merchant_id=update["merchant_id"],
    )


def outcome_view(update: UpdateDocument, trace_id: str | None) -> dict[str, Any]:
    """The outcome as callers see it: with the problem that the caller of the update was answered.
    `trace_id` is that of the request that is answered now.

    Raises:
        DatabaseUnavailable: the problem is one of a later release.
    """
    view: dict[str, Any] = {
        "update_id": update["update_id"],
        "order_id": update["order_id"],
        "outcome": update["outcome"],
        "version": update["version"],
    }
    problem = update["problem"]
    if problem is not None:
        if problem["slug"] not in CATALOGUE:
            raise DatabaseUnavailable(f"refused by a later release: {problem['slug']}")
        members = problem["members"] | {"update_id": update["update_id"]}
        instance = f"/v1/updates/{update['order_id']}/{update['update_id']}"
        view["problem"] = Problem(problem["slug"], problem["detail"], members).document(instance, trace_id)
    return view | {"recorded_at": format_time(update["recorded_at"])}
