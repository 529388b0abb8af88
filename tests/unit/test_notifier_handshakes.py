"""Handshakes as other libraries and proxies send them."""

import pytest
from websockets.http11 import Request

from tracking_notifier.session.client_connection import StreamProtocol

LINE = "GET /v1/stream HTTP/1.1"
FIELDS = [
    "Host: notifier",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
]


def handshake(*fields: str, line: str = LINE) -> bytes:
    return "\r\n".join([line, *FIELDS, *fields, "", ""]).encode()


def status(*reads: bytes) -> int | None:
    """Of the answer to what has been read; None: the request is not whole."""
    protocol = StreamProtocol()
    for data in reads:
        protocol.receive_data(data)
    requests = [event for event in protocol.events_received() if isinstance(event, Request)]
    return protocol.accept(requests[0]).status_code if requests else None


@pytest.mark.parametrize(
    "fields",
    [
        ["Connection: Upgrade", "Upgrade: websocket"],
        ["Connection: keep-alive, upgrade", "Upgrade: WebSocket"],
        [
            "Connection: Upgrade, HTTP2-Settings",
            "Upgrade: h2c, websocket",
            "HTTP2-Settings: AAMAAABkAAQAAP__",
        ],
        ["Connection: Upgrade", "Upgrade: websocket", "Upgrade: h2c"],
        ["Connection: Upgrade", "Upgrade: websocket,,TLS/1.0,"],
        ["Connection: Upgrade", "Upgrade: websocket", "Expect: 100-continue", "Content-Length: 0"],
    ],
)
def test_a_websocket_is_opened_whatever_else_is_offered(fields: list[str]) -> None:
    assert status(handshake(*fields)) == 101


@pytest.mark.parametrize(
    "fields",
    [
        ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"],
        ["Connection: Upgrade", "Upgrade: TLS/1.0, websockets"],
        ["Connection: close", "Upgrade: websocket"],
        ["Upgrade: websocket"],
    ],
)
def test_other_offers_are_answered_as_a_plain_request(fields: list[str]) -> None:
    assert status(handshake(*fields)) == 426


def test_empty_lines_before_a_request_are_no_request() -> None:
    good = handshake("Connection: Upgrade", "Upgrade: websocket")
    assert status(b"\r\n", b"\r", b"\n\r\n" + good[:10], good[10:]) == 101
    assert status(b"\r\n" * 3) is None
