"""The erasure of a person, as operators ask for it. order-state carries it out."""

import re
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from pydantic import Field, with_config
from typing_extensions import TypedDict

from tracking_query.api.context import Context, refuse_without_administration
from tracking_query.api.parameters import Parameters
from tracking_query.api.query_openapi import described_read
from tracking_shared.contracts.access import Principal
from tracking_shared.contracts.documents import ErasureDocument
from tracking_shared.contracts.identifiers import Identifier
from tracking_shared.contracts.messages import DESCRIBED, TimeText
from tracking_shared.contracts.problems import ProblemError, validation_problem
from tracking_shared.contracts.texts import CONTROL_FREE_PATTERN, MAX_CONTACT_CHARACTERS
from tracking_shared.http.described_routes import Answer, Content
from tracking_shared.http.merchant_addresses import SentPathRoute
from tracking_shared.http.preferences import Preferences, preferences_of
from tracking_shared.http.service_app import JsonResponse
from tracking_shared.storage.audit_trail import Actor
from tracking_shared.storage.erasures import (
    WAIT_SECONDS,
    erasure_view,
    find_erasure,
    request_erasure,
    wait_for_erasure,
)


@with_config(DESCRIBED)
class ErasureView(TypedDict):
    """An erasure that is done."""

    orders: Annotated[int, Field(ge=0)]
    """Orders whose customer was erased."""
    events: Annotated[int, Field(ge=0)]
    """Events of these orders from before, from which it was removed."""
    erasure_id: str
    merchant_id: Identifier | None
    """`null`: of all merchants."""
    erased_at: TimeText
    """When it was accepted, as it is in the orders and events."""
    done: bool


@with_config(DESCRIBED)
class OpenErasureView(TypedDict):
    """An erasure that is accepted and in effect, and not done everywhere yet."""

    erasure_id: str
    merchant_id: Identifier | None
    erased_at: TimeText
    done: bool


DONE: dict[str, Any] = {
    "erasure_id": "019c1e5c5b7a7c119d0e3f5f6c1b2a90",
    "merchant_id": "acme",
    "erased_at": "2026-03-02T09:41:00.250Z",
    "done": True,
    "orders": 2,
    "events": 7,
}
OPEN: dict[str, Any] = {
    "erasure_id": "019c1e5c5b7a7c119d0e3f5f6c1b2a90",
    "merchant_id": "acme",
    "erased_at": "2026-03-02T09:41:00.250Z",
    "done": False,
}

_DESCRIPTION = (
    "Removes the name and the contact from everything that is stored about the person: `customer` is `null`"
    " and `erased_at` is set in each order and event, and each order gets an event `order.customer_erased`."
    " Positions, versions and figures stay. Orders whose creates are received later are of a new person."
    " Waits for the end, up to 10 seconds or as `Prefer` says; then it is 202, and `Location` says where to"
    " ask. Safe to repeat."
)


class ErasureParameters(Parameters):
    """The parameters of `DELETE /v1/customers/{contact_ref}`."""

    merchant_id: Identifier | None = None
    """Only orders of this merchant. Without it: of all."""


class ErasureViewParameters(Parameters):
    """`GET /v1/erasures/{erasure_id}` takes no parameters."""


def add_routes(app: FastAPI, context: Context) -> None:
    """Adds `DELETE /v1/customers/{contact_ref}` and `GET /v1/erasures/{erasure_id}`."""

    @described_read(
        Answer(200, "It is done", [Content(ErasureView, DONE)]),
        Answer(
            202,
            "It is accepted and goes on",
            [Content(OpenErasureView, OPEN)],
            always=["Location"],
            sometimes=["Preference-Applied"],
        ),
        headers=["Prefer"],
        scope="orders:admin",
    )
    async def erase_customer(
        request: Request,
        contact_ref: str,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[ErasureParameters, Query()],
    ) -> Response:
        refuse_without_administration(principal)
        _check(contact_ref)
        preferences = preferences_of(request.headers.getlist("prefer"), WAIT_SECONDS)
        actor = Actor(principal.subject, "api")
        erasure = await request_erasure(
            context.database, context.audit, actor, contact_ref, parameters.merchant_id
        )
        erasure = await wait_for_erasure(context.database, erasure, preferences.wait_seconds)
        return _answer(erasure, preferences)

    # On the path as it was sent: a contact may hold a slash.
    app.router.add_api_route(
        "/v1/customers/{contact_ref}",
        erase_customer,
        methods=["DELETE"],
        summary="Erase a person",
        description=_DESCRIPTION,
        tags=["erasures"],
        route_class_override=SentPathRoute,
    )

    @app.get("/v1/erasures/{erasure_id}", tags=["erasures"], summary="How far an erasure is")
    @described_read(
        Answer(200, "It is done, or goes on", [Content(ErasureView | OpenErasureView, DONE)]),
        problems=["not-found"],
        scope="orders:admin",
    )
    async def get_erasure(
        erasure_id: str,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[ErasureViewParameters, Query()],
    ) -> Response:
        refuse_without_administration(principal)
        erasure = await find_erasure(context.database, erasure_id)
        if erasure is None:
            raise ProblemError("not-found", "There is no such erasure, or it was 90 days ago.")
        return JsonResponse(erasure_view(erasure))


def _check(contact_ref: str) -> None:
    if not 1 <= len(contact_ref) <= MAX_CONTACT_CHARACTERS:
        fault = f"must have 1 to {MAX_CONTACT_CHARACTERS} characters"
    elif not re.search(CONTROL_FREE_PATTERN, contact_ref):
        fault = "must not hold control characters"
    else:
        return
    raise ProblemError.of(validation_problem([{"pointer": "/path/contact_ref", "message": fault}]))


def _answer(erasure: ErasureDocument, preferences: Preferences) -> Response:
    view = erasure_view(erasure)
    if view["done"]:
        return JsonResponse(view)
    location = {"Location": f"/v1/erasures/{erasure['_id']}"}
    return JsonResponse(view, 202, headers=location | preferences.applied())
