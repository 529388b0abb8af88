"""Logs: one JSON object a line on standard error. No token, name or contact is ever passed to a logger."""

import logging
import re
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime

import orjson

trace_id_var: ContextVar[str | None] = ContextVar("trace_id", default=None)

MAX_MESSAGE_CHARS = 4000

_CREDENTIALS = re.compile(r"(://)[^/@\s]*@")
_TOKEN = re.compile(r"\beyJ[\w-]*\.[\w-]*\.[\w-]*")

PACE_SECONDS = 1.0
"""Of lines of one cause: an outage answers thousands of requests a second alike."""


class JsonFormatter(logging.Formatter):
    """Writes a line under the trace of the request, or under the `trace_id` that is among its `extra`."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": without_secrets(record.getMessage())[:MAX_MESSAGE_CHARS],
        }
        trace_id = getattr(record, "trace_id", None) or trace_id_var.get()
        if trace_id:
            line["trace_id"] = trace_id
        if record.exc_info:
            line["error"] = without_secrets(self.formatException(record.exc_info))[:MAX_MESSAGE_CHARS]
        return orjson.dumps(line).decode()


class PacedLog:
    """Warnings that may come with every request: one line in `PACE_SECONDS` for each cause, which says how
    many were left out before it. Causes are few, and known beforehand.
    """

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._last: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def warning(self, cause: str, reason: object) -> None:
        """Logs the cause with its reason, or counts it."""
        now = self._clock()
        left_out = self._left_out.get(cause, 0)
        if now - self._last.get(cause, -PACE_SECONDS) < PACE_SECONDS:
            self._left_out[cause] = left_out + 1
            return
        self._last[cause], self._left_out[cause] = now, 0
        more = f" (and {left_out} more since the last line)" if left_out else ""
        self._log.warning("%s: %s%s", cause, reason, more)


def configure_logs(service: str, level: str) -> None:
    """Sends everything from `level` up to standard error as JSON. Called once, by `__main__`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("aio_pika", "aiormq", "pymongo", "websockets.server"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))


def without_secrets(text: str) -> str:
    """`text` with the user and password of every URL in it, and every token, masked.

    For what others write (drivers, mostly); our own lines hold none to begin with.
    """
    if "://" in text:
        text = _CREDENTIALS.sub(r"\1***@", text)
    return _TOKEN.sub("***", text) if "eyJ" in text else text
