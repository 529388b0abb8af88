"""The audit trail, as operators read it."""

from typing import Annotated, Any, Literal

import orjson
from fastapi import Depends, FastAPI, Query, Request, Response
from pydantic import Field, with_config
from typing_extensions import TypedDict

from tracking_query.api.context import Context, refuse_without_administration
from tracking_query.api.page_cursors import KeysetPosition, encode_position
from tracking_query.api.parameters import Parameters, Time, WholeNumber, next_link, position_of
from tracking_query.api.query_openapi import described_read
from tracking_shared.contracts.access import Principal
from tracking_shared.contracts.documents import AuditDocument
from tracking_shared.contracts.messages import DESCRIBED, TimeText
from tracking_shared.http.described_routes import Answer, Content
from tracking_shared.http.service_app import JsonResponse
from tracking_shared.storage.audit_trail import Action, audit_view
from tracking_shared.storage.database import Database
from tracking_shared.storage.embedded_database import match_stages
from tracking_shared.storage.reads import bounded_read


@with_config(DESCRIBED)
class AuditActor(TypedDict):
    """The one who acted."""

    sub: str
    """The subject of a token, a user of the operating system, or a service."""
    via: Literal["api", "command-line", "service"]


@with_config(DESCRIBED)
class AuditItem(TypedDict):
    """One administrative act."""

    id: str
    at: TimeText
    """Just before the act."""
    actor: AuditActor
    action: Action
    subject: str
    """The object of the act: an order id, a token's id or subject, …"""
    details: dict[str, Any]
    """Ids and settings; never a name, a contact or a token."""


@with_config(DESCRIBED)
class AuditPage(TypedDict):
    """A page of the trail, newest first."""

    items: list[AuditItem]
    next_cursor: str | None
    """The `cursor` of the next page; `null` on the last one."""


AUDIT_PAGE: dict[str, Any] = {
    "items": [
        {
            "id": "019c1e5c-5b7a-7c11-9d0e-3f5f6c1b2a90",
            "at": "2026-03-02T09:41:00.250Z",
            "actor": {"sub": "ann", "via": "command-line"},
            "action": "revocation.subject",
            "subject": "driver-17",
            "details": {"issued_before": "2026-03-02T09:41:00.201Z", "until": None},
        }
    ],
    "next_cursor": None,
}


MAX_ENTRIES = 500


class AuditParameters(Parameters):
    """The filters and the page of `GET /v1/audit`."""

    action: Action | None = None
    """Only acts of this kind."""
    start: Annotated[Time | None, Field(alias="from")] = None
    """At this time or later."""
    end: Annotated[Time | None, Field(alias="to")] = None
    """Before this time."""
    limit: Annotated[WholeNumber, Field(ge=1, le=MAX_ENTRIES)] = 100
    """At most so many on a page."""
    cursor: str | None = None
    """The `next_cursor` of the page before, for the same request."""

    @property
    def binding(self) -> bytes:
        """The part of the request that a cursor is bound to: everything but the page."""
        fields = self.model_dump(mode="json", exclude={"cursor", "limit"})
        return b"audit" + orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)


def add_routes(app: FastAPI, context: Context) -> None:
    """Adds `GET /v1/audit`."""

    @app.get(
        "/v1/audit",
        tags=["audit"],
        summary="Administrative acts, newest first",
        description=(
            "Who did which administrative thing, when: revocations, tokens made by hand, parked updates that"
            " were replayed or given up, exports of operators, the start of the installation. An entry is"
            " written before its act. Needs `orders:admin`, not narrowed to `orders`."
        ),
    )
    @described_read(
        Answer(200, "A page of the trail", [Content(AuditPage, AUDIT_PAGE)], sometimes=["Link"]),
        problems=["invalid-cursor"],
        scope="orders:admin",
    )
    async def get_audit(
        request: Request,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[AuditParameters, Query()],
    ) -> Response:
        refuse_without_administration(principal)
        after = position_of(
            parameters.cursor, parameters.binding, context.cursor_key, "the audit trail with this filter"
        )
        found = await _read(context.database, parameters, after)
        return _answer(context, request, parameters, found)


async def _read(
    database: Database, parameters: AuditParameters, after: KeysetPosition | None
) -> list[AuditDocument]:
    with bounded_read():
        cursor = await database.audit.aggregate(
            [
                *match_stages(_stages(parameters, after)),
                {"$sort": {"at": -1, "_id": -1}},
                {"$limit": parameters.limit + 1},
            ]
        )
        found: list[AuditDocument] = await cursor.to_list()
    return found


def _stages(parameters: AuditParameters, after: KeysetPosition | None) -> list[dict[str, Any]]:
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
    position = KeysetPosition(page[-1]["at"], page[-1]["_id"])
    cursor = encode_position(position, parameters.binding, context.cursor_key)
    return JsonResponse({"items": items, "next_cursor": cursor}, headers={"Link": next_link(request, cursor)})
