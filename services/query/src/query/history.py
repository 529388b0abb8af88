"""The history of an order: every change that was applied to it, oldest first."""

from collections.abc import AsyncGenerator
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Query, Response

from query.context import Context
from query.limits import bounded_read
from query.openapi import answers
from query.parameters import Parameters
from query.streaming import Stream
from shared.access import Principal
from shared.database import Database
from shared.documents import EventDocument, OrderDocument
from shared.views import history_item

CHUNK_VERSIONS = 500
"""Versions in memory at once. A history has no bound, and the answer is whole."""


class HistoryParameters(Parameters):
    """`GET /v1/orders/{order_id}/history` has none."""


def routes(context: Context) -> APIRouter:
    """`GET /v1/orders/{order_id}/history`."""
    router = APIRouter(tags=["orders"])

    @router.get(
        "/orders/{order_id}/history",
        summary="Every change of an order, oldest first",
        responses=answers("The whole history", "order-not-found"),
    )
    async def get_history(
        order_id: str,
        principal: Annotated[Principal, Depends(context.reader)],
        parameters: Annotated[HistoryParameters, Query()],
    ) -> Response:
        order = await context.order(order_id, principal)
        first = await _chunk(context.database, order, 1)
        body = _body(context.database, order, first)
        return Stream(body, media_type="application/json")

    return router


async def _body(
    database: Database, order: OrderDocument, first: list[EventDocument]
) -> AsyncGenerator[bytes]:
    yield b'{"order_id":' + orjson.dumps(order["_id"]) + b',"items":[' + _items(first)
    for version in range(1 + CHUNK_VERSIONS, order["version"] + 1, CHUNK_VERSIONS):
        yield b"," + _items(await _chunk(database, order, version))
    yield b"]}"


async def _chunk(database: Database, order: OrderDocument, start: int) -> list[EventDocument]:
    # Not past the version of the order that was read first: what is written meanwhile stays out.
    versions = range(start, min(start + CHUNK_VERSIONS, order["version"] + 1))
    asked = {"order_id": order["_id"], "version": {"$gte": versions.start, "$lt": versions.stop}}
    with bounded_read():
        events = await database.order_events.find(asked).to_list()
    return sorted(events, key=lambda event: event["version"])


def _items(events: list[EventDocument]) -> bytes:
    return b",".join(orjson.dumps(history_item(event)) for event in events)
