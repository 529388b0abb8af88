"""Logs: one JSON object a line on standard error. No token, name or contact is ever passed to a logger."""

import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime

import orjson

from shared.addresses import without_secrets

trace_id_var: ContextVar[str | None] = ContextVar("trace_id", default=None)

MAX_MESSAGE_CHARS = 4000


class _JsonFormatter(logging.Formatter):
    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": without_secrets(record.getMessage())[:MAX_MESSAGE_CHARS],
        }
        trace_id = trace_id_var.get()
        if trace_id:
            line["trace_id"] = trace_id
        if record.exc_info:
            line["error"] = without_secrets(self.formatException(record.exc_info))[:MAX_MESSAGE_CHARS]
        return orjson.dumps(line).decode()


def configure_logs(service: str, level: str) -> None:
    """Sends everything from `level` up to standard error as JSON. Called once, by `__main__`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter(service))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("aio_pika", "aiormq", "pymongo", "websockets.server"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
