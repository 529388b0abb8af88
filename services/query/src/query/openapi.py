"""What the routes have in common in the OpenAPI document."""

from typing import Any

from shared.problems import CATALOGUE, PROBLEM_MEDIA_TYPE

_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "`/problems/<slug>`"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "trace_id": {"type": "string"},
    },
}


def answers(description: str, *slugs: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: the good answer, and the problems that it may answer with."""
    always = ("unauthenticated", "forbidden", "validation-failed", "database-unavailable")
    responses: dict[int | str, dict[str, Any]] = {200: {"description": description}}
    for slug in (*always, *slugs):
        status, title = CATALOGUE[slug]
        responses[status] = {"description": title, "content": {PROBLEM_MEDIA_TYPE: {"schema": _PROBLEM}}}
    return responses
