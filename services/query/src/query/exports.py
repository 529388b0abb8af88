"""Exports: the whole list of orders as one file, streamed in constant memory."""

import zlib
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, AsyncExitStack, aclosing
from datetime import datetime

from starlette.types import Receive, Scope, Send

from query.export_forms import ExportForm
from query.horizon import as_of_header
from query.list_reader import OrderChunks, opened_list
from query.listing import ListQuery
from query.metrics import EXPORTS
from query.streaming import Stream
from shared.database import Database
from shared.documents import OrderDocument
from shared.edges import STALL_SECONDS
from shared.timestamps import now

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
    """What the head of an export says. `gzip`: the client would like it compressed."""
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
