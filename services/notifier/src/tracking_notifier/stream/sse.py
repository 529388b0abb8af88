"""Server-sent events (WHATWG HTML, 9.2): reads the request for an event stream, and encodes its messages."""

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

from pydantic import ValidationError

from tracking_notifier.errors import Refusal
from tracking_notifier.stream.stream_messages import BAD_MESSAGE, FilterRequest, ServerMessage, Subscribe
from tracking_shared.contracts.problems import Problem, validation_problem
from tracking_shared.http.service_app import MAX_LISTED_ERRORS, pointer_errors

EVENT_STREAM = "text/event-stream"

COMMENT = b": keep-alive\n\n"
"""Ignored by clients. It shows proxies and clients that the connection is alive."""

COMMENT_SECONDS = 15.0
"""The longest time between two comments."""

PARAMETERS = {
    **dict.fromkeys(("merchant_id", "order_id", "status"), "array"),
    **dict.fromkeys(("active", "overdue", "snapshot", "heartbeat"), "boolean"),
    "after": "string",
}
"""The query parameters of a stream, with their JSON types. An array is a parameter that may be repeated."""

_FILTERS = frozenset(FilterRequest.model_fields)


def event_stream_frame(message: ServerMessage) -> bytes:
    """Encodes a message. Its JSON has no line breaks, so one `data` line is enough."""
    kind = message.type.encode()
    if message.cursor is None:
        return b"event: %b\ndata: %b\n\n" % (kind, message.body)
    return b"event: %b\nid: %b\ndata: %b\n\n" % (kind, message.cursor.encode(), message.body)


def accepts_event_stream(accept: list[str]) -> bool:
    """True if these `Accept` fields name the media type of event streams."""
    ranges = ",".join(accept).lower().split(",")
    for name, *parameters in (text.replace(" ", "").replace("\t", "").split(";") for text in ranges):
        if name == EVENT_STREAM:
            return not any(part.startswith("q=0") and not part[3:].strip(".0") for part in parameters)
    return False


def event_stream_request(query: str, last_event_id: str) -> Subscribe:
    """Makes a `subscribe` of the query parameters. A `Last-Event-ID` replaces `after` and
    `snapshot`: clients send it when they reconnect, with the query of the first request.

    Raises:
        Refusal: they are not valid; see `parameter_problem`.
    """
    document = _document(_parameters(query))
    try:
        request = Subscribe.model_validate(document | {"type": "subscribe"})
    except ValidationError as error:
        raise _refused(pointer_errors(error)) from None
    if last_event_id:
        return request.model_copy(update={"after": last_event_id, "snapshot": None})
    return request


def _parameters(query: str) -> dict[str, list[str]]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict")
    except ValueError:
        raise _refused([{"pointer": "", "message": "must be percent-encoded UTF-8"}]) from None
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return values


def _document(parameters: dict[str, list[str]]) -> dict[str, Any]:
    """The members of a `subscribe` for these parameters."""
    document: dict[str, Any] = {"filter": {}}
    errors = []
    for name, values in parameters.items():
        fault = _fault(name, values)
        if fault is not None:
            errors.append({"pointer": f"/{name[:64]}", "message": fault})
            continue
        members = document["filter"] if name in _FILTERS else document
        members[name] = _value(name, values)
    if errors:
        raise _refused(errors)
    return document


def _fault(name: str, values: list[str]) -> str | None:
    match PARAMETERS.get(name):
        case None:
            return "is not a parameter of the stream"
        case "array":
            return None
        case _ if len(values) > 1:
            return "must be given once"
        case "boolean" if values[0] not in ("true", "false"):
            return "must be true or false"
    return None


def _value(name: str, values: list[str]) -> list[str] | str | bool:
    match PARAMETERS[name]:
        case "array":
            return values
        case "boolean":
            return values[0] == "true"
    return values[0]


def _refused(errors: list[dict[str, str]]) -> Refusal:
    return Refusal(BAD_MESSAGE, "not valid", validation_problem(errors[:MAX_LISTED_ERRORS]))


def parameter_problem(problem: Problem) -> Problem:
    """The problem of a `subscribe` that was made of query parameters, with pointers to these."""
    errors = problem.members.get("errors", [])
    in_query = [error | {"pointer": f"/query{_below_filter(error['pointer'])}"} for error in errors]
    return replace(problem, members=problem.members | {"errors": in_query}) if in_query else problem


def _below_filter(pointer: str) -> str:
    return pointer.removeprefix("/filter") if pointer.startswith("/filter/") else pointer
