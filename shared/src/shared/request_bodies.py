"""Bodies of requests: how much, how packed, of what type and in what time."""

import asyncio

from fastapi import Request

from shared.edges import edges_in
from shared.problems import ProblemError

DRAINED_BYTES = 8 * 1024 * 1024
"""What is read away behind a refusal, so that the connection can be used again. Beyond that it is closed."""


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """The body, refused as soon as it is known to be longer than `limit_bytes`, compressed, or too slow.

    Raises:
        ProblemError: `payload-too-large`, `unsupported-media-type`, `request-timeout`.
    """
    _refuse_coding(request)
    declared = int(request.headers.get("content-length", "0"))  # the server has checked that it is a number
    if declared > limit_bytes:
        raise _too_large(limit_bytes, drained=declared <= DRAINED_BYTES)
    try:
        async with asyncio.timeout(edges_in(request).request_seconds):
            return await _read(request, limit_bytes)
    except TimeoutError:
        raise ProblemError(
            "request-timeout", "The body did not arrive in time.", headers={"Connection": "close"}
        ) from None


async def _read(request: Request, limit_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit_bytes:
            raise _too_large(limit_bytes, drained=False)
    return bytes(body)


def _refuse_coding(request: Request) -> None:
    # A kilobyte can unpack to a gigabyte. What is bounded by its length must be what was sent.
    codings = ",".join(request.headers.getlist("content-encoding")).replace(" ", "").lower()
    if codings not in ("", "identity"):
        raise ProblemError(
            "unsupported-media-type",
            "Send the body as it is, without a Content-Encoding.",
            headers={"Accept-Encoding": "identity"},
            supported=["identity"],
        )


def _too_large(limit_bytes: int, *, drained: bool) -> ProblemError:
    """`drained`: the rest is little enough to be read away, so that the connection can be used again."""
    return ProblemError(
        "payload-too-large",
        f"The body may have {limit_bytes} bytes.",
        headers={} if drained else {"Connection": "close"},
        limit_bytes=limit_bytes,
    )


def media_type_of(request: Request, *supported: str) -> str:
    """The media type of the body, one of `supported`. JSON is UTF-8, whatever its sender calls it.

    Raises:
        ProblemError: `unsupported-media-type`: another one, more than one, or another charset.
    """
    headers = request.headers.getlist("content-type")
    media_type, _, parameters = (headers[0] if len(headers) == 1 else "").partition(";")
    media_type = media_type.strip().lower()
    if media_type not in supported or not _is_utf_8(parameters):
        raise ProblemError(
            "unsupported-media-type", f"Send {' or '.join(supported)}, in UTF-8.", supported=list(supported)
        )
    return media_type


def _is_utf_8(parameters: str) -> bool:
    values = [
        value.strip().strip('"').lower()
        for name, _, value in (parameter.partition("=") for parameter in parameters.split(";"))
        if name.strip().lower() == "charset"
    ]
    return all(value in ("utf-8", "utf8") for value in values)
