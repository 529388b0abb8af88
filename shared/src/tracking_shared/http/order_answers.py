"""Reads of one order, for the callers that may see it, and the answer with it."""

import hashlib
import re

from fastapi import Request, Response
from pymongo.errors import AutoReconnect, ServerSelectionTimeoutError

from tracking_shared.contracts.access import Principal, reaches
from tracking_shared.contracts.documents import OrderDocument
from tracking_shared.contracts.formats import ORDERS, upcast
from tracking_shared.contracts.identifiers import is_identifier
from tracking_shared.contracts.problems import ProblemError, no_such_order
from tracking_shared.http.headers import tags_of
from tracking_shared.storage.database import MAJORITY, Database
from tracking_shared.storage.reads import bounded_read

_ENTITY_TAG = re.compile(r'(?:W/)?("[^"]*")')

_ONE = {"limit": 1, "singleBatch": True, "readConcern": MAJORITY.document}


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
