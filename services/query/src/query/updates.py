"""What became of an update."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from query.context import Context
from query.parameters import Parameters
from shared.access import Principal
from shared.outcome_reads import outcome_answer


class UpdateParameters(Parameters):
    """`GET /v1/updates/{order_id}/{update_id}` has none."""


def routes(context: Context) -> APIRouter:
    """`GET /v1/updates/{order_id}/{update_id}`."""
    router = APIRouter(tags=["updates"])

    @router.get(
        "/updates/{order_id}/{update_id}",
        summary="The outcome of an update",
        description=(
            "For its sender, also with `orders:write` alone, and for those with `orders:read` who reach its"
            " order."
        ),
    )
    async def get_update(
        order_id: str,
        update_id: str,
        principal: Annotated[Principal, Depends(context.sender_or_reader)],
        parameters: Annotated[UpdateParameters, Query()],
    ) -> Response:
        return await outcome_answer(context.database, principal, order_id, update_id)

    return router
