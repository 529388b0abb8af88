"""Exports: the whole list of orders as one file, streamed in constant memory."""

import asyncio
import logging
import zlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, aclosing
from datetime import datetime

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from tracking_query.horizon import as_of_header
from tracking_query.metrics import EXPORTS
from tracking_query.orders.export_forms import ExportForm
from tracking_query.orders.list_query import ListParameters, ListQuery
from tracking_query.orders.list_reader import OrderChunks, opened_list
from tracking_shared.contracts.access import Principal, may_administer
from tracking_shared.contracts.documents import OrderDocument
from tracking_shared.contracts.timestamps import now
from tracking_shared.http.http_limits import STALL_SECONDS
from tracking_shared.storage.audit_trail import Act, Actor, AuditTrail
from tracking_shared.storage.database import Database, DatabaseUnavailable

log = logging.getLogger(__name__)


class Stream(StreamingResponse):
    """Sends a body piece by piece. One that fails half-way is cut off: nobody takes a part for the whole.

    It is never cancelled while it reads: the driver would keep the lock of its connections for ever. So it
    looks whether the client has left, instead of being interrupted as its base class is.
    """

    def __init__(
        self,
        body: AsyncGenerator[bytes],
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        *,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        super().__init__(body, headers=headers, media_type=media_type)
        self._body = body
        self._stall_seconds = stall_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers until the end, or until the client has left."""
        leaving = asyncio.create_task(self.listen_for_disconnect(receive))
        try:
            async with aclosing(self._body):
                await self._answer(send, leaving)
        finally:
            leaving.cancel()

    async def _answer(self, send: Send, leaving: asyncio.Task[None]) -> None:
        # Returning without the end of the body makes the server close the connection.
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for chunk in self._body:
                if leaving.done():
                    return
                async with asyncio.timeout(self._stall_seconds):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except TimeoutError:
            log.warning("answer cut off: the client took nothing for %s s", self._stall_seconds)
            return
        except DatabaseUnavailable as error:
            log.warning("answer cut off: %s", error)
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


_PERSONAL = frozenset({"customer_ref", "q"})
"""Filters whose values stay out of the trail."""

_GZIP_LEVEL = 5
_GZIP_WBITS = 31  # zlib's way to say: a gzip header and trailer


class Exports:
    """The exports of a process."""

    def __init__(self, database: Database, *, stall_seconds: float = STALL_SECONDS) -> None:
        self._database = database
        self._stall_seconds = stall_seconds

    async def answer(
        self, query: ListQuery, form: ExportForm, slot: AbstractContextManager[None], *, gzip: bool
    ) -> "ExportResponse":
        """The export as an answer, in `slot` until its end. What fails before its first byte is still a
        problem document.

        Raises:
            ProblemError: that of `slot`.
            DatabaseUnavailable: the database does not answer, or not in time.
        """
        async with AsyncExitStack() as stack:
            stack.enter_context(slot)
            stack.enter_context(EXPORTS.track_inprogress())
            orders = await stack.enter_async_context(opened_list(self._database, query))
            first = await orders.next()
            chunks = _chunks(form, first, orders)
            body = _gzipped(chunks) if _is_gzipped(form, gzip) else chunks
            held, headers = stack.pop_all(), export_headers(form, orders.as_of, gzip=gzip)
            return ExportResponse(body, held, headers, stall_seconds=self._stall_seconds)


class ExportResponse(Stream):
    """Streams an export, and gives back what it holds, however it ends."""

    def __init__(
        self,
        body: AsyncGenerator[bytes],
        resources: AsyncExitStack,
        headers: dict[str, str],
        *,
        stall_seconds: float,
    ) -> None:
        super().__init__(body, headers, stall_seconds=stall_seconds)
        self._resources = resources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers until the end, or until the client has left."""
        async with self._resources:
            await super().__call__(scope, receive, send)


def export_headers(form: ExportForm, as_of: datetime, *, gzip: bool) -> dict[str, str]:
    """The headers of an export. `gzip`: the client would like it compressed."""
    headers = {
        "Content-Type": form.content_type,
        "Content-Disposition": f'attachment; filename="orders-{now():%Y%m%dT%H%M%SZ}.{form.extension}"',
        "Vary": "Accept, Accept-Encoding",
    } | as_of_header(as_of)
    if _is_gzipped(form, gzip):
        headers["Content-Encoding"] = "gzip"
    return headers


def _is_gzipped(form: ExportForm, wanted: bool) -> bool:
    return wanted and not form.packed


async def _chunks(form: ExportForm, first: list[OrderDocument], orders: OrderChunks) -> AsyncGenerator[bytes]:
    yield form.start()
    chunk = first
    while chunk:
        yield form.chunk(chunk)
        chunk = await orders.next()
    yield form.end()


async def _gzipped(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    packer = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_WBITS)
    async with aclosing(chunks):
        async for chunk in chunks:
            if packed := packer.compress(chunk):
                yield packed
    yield packer.flush()


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
