"""Problem documents (RFC 9457) of the services, for a person."""

from typing import Any

MAX_ERRORS_TOLD = 3


def problem_line(problem: dict[str, Any]) -> str:
    """Which rules are broken, the first few, or else the detail; "" if it says neither."""
    errors = problem.get("errors") or []
    told = "; ".join(f"{error['pointer']} {error['message']}" for error in errors[:MAX_ERRORS_TOLD])
    return told or str(problem.get("detail") or "")
