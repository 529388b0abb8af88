"""Reads requests (RFC 9112) for a server that never changes the protocol of a connection.

With any request a client may offer another protocol: `Connection: Upgrade` and `Upgrade: h2c`, as Java's own
client does with its first one. Who does not take the offer answers the request as if it had not been made
(RFC 9110, 7.8). The parser cannot be set up so: it takes every offer for taken and stops behind the head. The
body would be lost, and what of it comes later be read as the next request.
"""

import re
from collections.abc import MutableMapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser


class RequestReader(Protocol):
    """The receiver of what has been read, called as `httptools` calls it."""

    def on_message_begin(self) -> None:
        """A request begins."""

    def on_url(self, url: bytes) -> None:
        """A part of its target."""

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head; behind the body, one of the trailer."""

    def on_headers_complete(self) -> None:
        """The head is whole."""

    def on_body(self, body: bytes) -> None:
        """A part of the body."""

    def on_message_complete(self) -> None:
        """The request is whole."""


class UpgradeIgnoringParser:
    """`HttpRequestParser` for which there are no offers of another protocol.

    After a head with an offer, a new parser reads the same head without it, so that the body is framed by
    the fields that were sent. The reader gets the head once, with the offer among its fields.
    """

    def __init__(self, reader: RequestReader) -> None:
        self._reader = reader
        self.on_body = reader.on_body
        self._fields: list[tuple[bytes, bytes]] = []
        self._is_repeat = False
        """True if the head that is being read has been passed on."""
        self._parser = self._new_parser()

    def feed_data(self, data: bytes) -> None:
        """Reads on.

        Raises:
            HttpParserError: this is no HTTP; nothing more can be read.
        """
        rest = memoryview(data)
        while True:
            try:
                self._parser.feed_data(rest)
                break
            except HttpParserUpgrade as offer:
                rest = rest[offer.args[0] :]
                self._read_head_again()

    def get_http_version(self) -> str:
        """Of the request that is being read: "1.1", say."""
        return self._parser.get_http_version()

    def get_method(self) -> bytes:
        """Of the request that is being read."""
        return self._parser.get_method()

    def should_keep_alive(self) -> bool:
        """True if another request may follow."""
        return self._parser.should_keep_alive()

    def should_upgrade(self) -> bool:
        """True if another protocol follows: never."""
        return False

    def _new_parser(self) -> HttpRequestParser:
        parser = HttpRequestParser(self)
        # As the server has it: what follows `Connection: close` is not an error of the request before.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def _read_head_again(self) -> None:
        # The target is passed on already, and has no part in how the body is framed.
        line = b"%s / HTTP/%s\r\n" % (self.get_method(), self.get_http_version().encode())
        kept = (field for field in self._fields if field[0].lower() != b"upgrade")
        head = b"".join([line, *(b"%s: %s\r\n" % field for field in kept), b"\r\n"])
        self._is_repeat = True
        self._parser = self._new_parser()
        self._parser.feed_data(head)

    def on_message_begin(self) -> None:
        """Called by the parser, as are those below."""
        if not self._is_repeat:
            self._fields = []
            self._reader.on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        if not self._is_repeat:
            self._reader.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of head or trailer."""
        if not self._is_repeat:
            self._fields.append((name, value))
            self._reader.on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        if not self._parser.should_upgrade():
            self._is_repeat = False
            self._reader.on_headers_complete()
        elif self.get_method() == b"CONNECT":  # an offer by itself; what follows is never a request
            raise HttpParserError("no tunnels here")

    def on_message_complete(self) -> None:
        """The request is whole, unless only its head has been read, which will be read again."""
        if not self._parser.should_upgrade():
            self._reader.on_message_complete()


_NOT_IN_PATHS = re.compile(r"[^!$%&'()*+,\-./0-9:;=@A-Z_a-z~]")
"""Characters that are to be percent-encoded in a path (RFC 3986, 3.3)."""


def path_as_sent(scope: MutableMapping[str, Any]) -> str:
    """The path of a request, percent-encoded as it came: in `scope["path"]` a `%2F` is a slash already. What
    should have been encoded is encoded.
    """
    raw: bytes | None = scope.get("raw_path")
    path = quote(scope["path"]) if raw is None else raw.decode("latin-1")
    return _NOT_IN_PATHS.sub(lambda found: f"%{ord(found[0]):02X}", path)


_HOST = re.compile(r"(?:\[[0-9A-Fa-fv:.]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::\d*)?")
"""`uri-host [ ":" port ]` (RFC 9110, 7.2; RFC 3986, 3.2.2). It may be empty."""

_ABSOLUTE_FORM = re.compile(r"https?://[^/?#]*", re.IGNORECASE)


def host_fault(http_version: str, hosts: Sequence[str]) -> str | None:
    """The fault of the `Host` fields of a request, or None (RFC 9112, 3.2).

    `http_version` as in `1.1`; with 1.0 a request needs no `Host`.
    """
    if len(hosts) > 1:
        return "Send one Host field."
    if not hosts:
        return "HTTP/1.1 needs a Host field." if http_version == "1.1" else None
    return None if _HOST.fullmatch(hosts[0].strip()) else "The Host field is not a host."


def origin_form(target: str) -> str:
    """The path and query of a request's target, which a server must take in the absolute form, too
    (RFC 9112, 3.2.2). What has another form is returned as it is.
    """
    found = _ABSOLUTE_FORM.match(target)
    if found is None:
        return target
    rest = target[found.end() :]
    return rest if rest.startswith("/") else f"/{rest}"
