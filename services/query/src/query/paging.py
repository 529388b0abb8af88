"""What paged answers have in common."""

from urllib.parse import urlencode

from fastapi import Request

from shared.problems import ProblemError


def next_link(request: Request, cursor: str) -> str:
    """The `Link` to the page behind `cursor`: the same request, with it."""
    asked = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    return f'<{request.scope["path"]}?{urlencode([*asked, ("cursor", cursor)])}>; rel="next"'


def refuse_cursor(of: str) -> ProblemError:
    """The refusal of a cursor that does not belong to what was asked for."""
    return ProblemError("invalid-cursor", f"The cursor does not belong to {of}.")
