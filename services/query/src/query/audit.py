"""The audit trail: read by operators, and added to where they take all orders with them as a file."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from query.context import Context
from query.list_cursors import Place, decode_place, encode_place
from query.listing import ListParameters
from query.paging import next_link, refuse_cursor
from query.parameters import Parameters, Time, WholeNumber
from shared.access import Principal, may_administer
from shared.audit_trail import Act, Action, Actor, AuditTrail, audit_view
from shared.bounded_reads import bounded_read
from shared.challenges import insufficient_scope
from shared.cursors import InvalidCursor
from shared.database import Database
from shared.documents import AuditDocument
from shared.http import JsonResponse
from shared.problems import ProblemError

MAX_ENTRIES = 500

_PERSONAL = frozenset({"customer_ref", "q"})
"""Filters whose values stay out of the trail."""


class AuditParameters(Parameters):
    """The filters and the page of `GET /v1/audit`."""

    action: Action | None = None
    start: Annotated[Time | None, Field(alias="from")] = None
    end: Annotated[Time | None, Field(alias="to")] = None
    limit: Annotated[WholeNumber, Field(ge=1, le=MAX_ENTRIES)] = 100
    cursor: str | None = None

    @property
    def binding(self) -> bytes:
        """What a cursor is bound to: everything but the page."""
        fields = self.model_dump(mode="json", exclude={"cursor", "limit"})
        return b"audit" + orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)


def routes(context: Context) -> APIRouter:
    """`GET /v1/audit`."""
    router = APIRouter(tags=["audit"])

    @router.get(
        "/audit",
        summary="Administrative acts, newest first",
        description=(
            "Who did which administrative thing, when: revocations, tokens made by hand, parked updates that"
            " were replayed or given up, exports of operators, the start of the installation. An entry is"
            " written before its act. Needs `orders:admin`, not narrowed to `orders`."
        ),
    )
    async def get_audit(
        request: Request,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[AuditParameters, Query()],
    ) -> Response:
        if not may_administer(principal):
            detail = "The token does not have the scope orders:admin."
            raise ProblemError.of(insufficient_scope(detail, "orders:admin"))
        after = _place(context, parameters)
        found = await _read(context.database, parameters, after)
        return _answer(context, request, parameters, found)

    return router


async def record_export(
    trail: AuditTrail, principal: Principal, media_type: str, parameters: ListParameters
) -> None:
    """Adds to the trail that an operator takes a file of orders, before the file is begun. Of personal
    filters only that they were used.

    Raises:
        DatabaseUnavailable: the file must not be begun.
    """
    if not may_administer(principal):
        return
    used = parameters.model_dump(mode="json", exclude_defaults=True, exclude={"bom"})
    filters = {name: True if name in _PERSONAL else value for name, value in used.items() if value}
    details = {"media_type": media_type, "filters": filters}
    await trail.record(Actor(principal.subject, "api"), Act("orders.exported", "orders", details))


def _place(context: Context, parameters: AuditParameters) -> Place | None:
    if parameters.cursor is None:
        return None
    try:
        return decode_place(parameters.cursor, parameters.binding, context.cursor_key)
    except InvalidCursor:
        raise refuse_cursor("the audit trail with this filter") from None


async def _read(database: Database, parameters: AuditParameters, after: Place | None) -> list[AuditDocument]:
    with bounded_read():
        cursor = await database.audit.aggregate(
            [
                *({"$match": stage} for stage in _stages(parameters, after)),
                {"$sort": {"at": -1, "_id": -1}},
                {"$limit": parameters.limit + 1},
            ]
        )
        found: list[AuditDocument] = await cursor.to_list()
    return found


def _stages(parameters: AuditParameters, after: Place | None) -> list[dict[str, Any]]:
    bounds = {"$gte": parameters.start, "$lt": parameters.end}
    time = {operator: bound for operator, bound in bounds.items() if bound is not None}
    stages: list[dict[str, Any]] = [{"at": time}] if time else []
    if parameters.action is not None:
        stages.append({"action": parameters.action})
    if after is not None:
        stages.append({"at": {"$lte": after.time}})
        stages.append({"$or": [{"at": {"$lt": after.time}}, {"_id": {"$lt": after.order_id}}]})
    return stages


def _answer(
    context: Context, request: Request, parameters: AuditParameters, found: list[AuditDocument]
) -> Response:
    page = found[: parameters.limit]
    items = [audit_view(entry) for entry in page]
    if len(found) <= parameters.limit:
        return JsonResponse({"items": items, "next_cursor": None})
    place = Place(page[-1]["at"], page[-1]["_id"])
    cursor = encode_place(place, parameters.binding, context.cursor_key)
    return JsonResponse({"items": items, "next_cursor": cursor}, headers={"Link": next_link(request, cursor)})
