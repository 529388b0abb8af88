"""Checks operations as ingest does: members, kinds, and the bounds that callers meet. Pure.

The real services check more (control characters, the depth and size of metadata, times in the future).
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from tracking_client.fake.problems import invalid
from tracking_client.fake.workflow import CHECKPOINTS, TRANSITIONS

_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:\-]{0,63}")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")

Check = Callable[[str, Any], None]


def utc_text(time: datetime) -> str:
    """A time as the services write it: UTC, with milliseconds."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def check_identifier(pointer: str, value: Any) -> None:
    """Raises `Refusal` if the value is no identifier."""
    if not isinstance(value, str) or not _IDENTIFIER.fullmatch(value):
        raise invalid(pointer, "must be 1 to 64 of A-Z a-z 0-9 . _ : -, a letter or digit first")


def _text(longest: int) -> Check:
    def check(pointer: str, value: Any) -> None:
        if not isinstance(value, str) or not 1 <= len(value) <= longest or not value.strip():
            raise invalid(pointer, f"must have 1 to {longest} characters")

    return check


def _one_of(names: Mapping[str, Any] | tuple[str, ...]) -> Check:
    def check(pointer: str, value: Any) -> None:
        if value not in names:
            raise invalid(pointer, f"must be one of {', '.join(sorted(names))}")

    return check


def _time(pointer: str, value: Any) -> None:
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise invalid(pointer, "must be a time with its offset, as RFC 3339 has it")


def _version(pointer: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise invalid(pointer, "must be a whole number from 1")


def _object(pointer: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise invalid(pointer, "must be an object")


def _customer(pointer: str, value: Any) -> None:
    _object(pointer, value)
    _check_members(pointer, value, {"name": _text(200), "contact_ref": _text(128)}, ("name", "contact_ref"))


_COMMON: dict[str, Check] = {
    "update_id": check_identifier,
    "order_id": check_identifier,
    "merchant_id": check_identifier,
    "reference": _text(64),
    "occurred_at": _time,
    "metadata": _object,
}
_WORD, _NOTE = _text(32), _text(500)
_WORDS = {"status": _one_of(TRANSITIONS), "kind": _one_of(CHECKPOINTS)}
_CHECKS: dict[str, dict[str, Check]] = {
    "create": _COMMON | {"customer": _customer, "due_at": _time},
    "update": _COMMON | {"status": _WORD, "expected_version": _version},
    "checkpoint": _COMMON
    | {"kind": _WORD, "message": _NOTE, "eta": _time, "due_at": _time}
    | {"expected_version": _version},
    "correct": _COMMON | {"status": _WORD, "reason": _NOTE, "expected_version": _version},
}
_REQUIRED = {
    "create": ("merchant_id", "customer"),
    "update": ("status",),
    "checkpoint": ("kind",),
    "correct": ("status", "reason"),
}


def checked_operation(operation: object) -> dict[str, Any]:
    """The members of an operation that are given (null counts as not given).

    Raises:
        Refusal: `validation-failed`.
    """
    if not isinstance(operation, dict):
        raise invalid("", "must be an object")
    given = {name: value for name, value in operation.items() if value is not None}
    op = given.pop("op", None)
    if op not in _CHECKS:
        raise invalid("/op", f"must be one of {', '.join(_CHECKS)}")
    _check_members("", given, _CHECKS[op], _REQUIRED[op])
    by_reference = [name in given for name in ("merchant_id", "reference")]
    if op != "create" and by_reference != [("order_id" not in given)] * 2:
        raise invalid("", "must have an order_id, or else a merchant_id and a reference")
    for name in ("occurred_at", "due_at", "eta"):
        if name in given:
            given[name] = _normal_time(f"/{name}", given[name])
    return {"op": op, **given}


def check_words(operation: Mapping[str, Any]) -> None:
    """Raises `Refusal` if a checked operation has a status or a kind that the workflow does not have."""
    for name, check in _WORDS.items():
        if name in operation:
            check(f"/{name}", operation[name])


def _check_members(
    pointer: str, given: Mapping[str, Any], checks: Mapping[str, Check], required: tuple[str, ...]
) -> None:
    for name in required:
        if given.get(name) is None:
            raise invalid(f"{pointer}/{name}", "is required")
    for name, value in given.items():
        if name not in checks:
            raise invalid(f"{pointer}/{name}", "is not a field that is known here")
        checks[name](f"{pointer}/{name}", value)


def _normal_time(pointer: str, text: str) -> str:
    try:
        return utc_text(datetime.fromisoformat(text.upper()))
    except ValueError:
        raise invalid(pointer, "is no time of the calendar") from None
