"""Conditions in the head of a request (RFC 9110, 13.1): none is ignored, for a change would be made that its
sender has asked not to make. Pure.
"""

import re
from collections.abc import Sequence

from starlette.datastructures import Headers

from shared.problems import Problem, ProblemError

_TAGS = re.compile(r'(W/)?"([^"]*)"')
_VERSION_TAG = re.compile(r"(\d{1,10})-[0-9a-f]{12}")
"""The `ETag` of an order: its version, and a digest of what its reader was shown."""

_ELSEWHERE = "is not supported here; an update of one order may say expected_version."


def refuse_conditions(headers: Headers) -> None:
    """Raises `ProblemError` (`validation-failed`) for a condition in a request that can have none."""
    for name in ("if-match", "if-unmodified-since"):
        if name in headers:
            raise _refused(name, _ELSEWHERE)


def version_asked_for(headers: Headers, expected_version: int | None) -> int | None:
    """The version at which an order must be for an update: that of `If-Match`, or else `expected_version`,
    which stands in the body; None: at any. `If-Match: *` asks only that there is the order.

    Raises:
        ProblemError: `precondition-failed`: the tag belongs to no version of any order. `validation-failed`:
            several tags, another version in the body, or `If-Unmodified-Since`.
    """
    if "if-unmodified-since" in headers:
        raise _refused("if-unmodified-since", "is not supported; send If-Match or expected_version.")
    fields = headers.getlist("if-match")
    if not fields or fields == ["*"]:
        return expected_version
    version = _version_of(fields)
    if expected_version not in (None, version):
        raise _refused("if-match", "names another version than expected_version.")
    return version


def _version_of(fields: Sequence[str]) -> int:
    tags = _TAGS.findall(",".join(fields))
    if len(tags) != 1:
        raise _refused("if-match", "must be one entity tag, as ETag has it, or *.")
    weak, tag = tags[0]
    found = None if weak else _VERSION_TAG.fullmatch(tag)
    if found is None:
        raise ProblemError("precondition-failed", "If-Match is no ETag of an order.")
    return int(found[1])


def _refused(name: str, message: str) -> ProblemError:
    title = "-".join(part.capitalize() for part in name.split("-"))
    return ProblemError(
        "validation-failed",
        f"{title} {message}",
        errors=[{"pointer": f"/headers/{name}", "message": message}],
    )


def as_failed_condition(problem: Problem) -> Problem:
    """What a sender of `If-Match` is told: the status of a failed condition in place of a conflict."""
    if problem.slug != "version-conflict":
        return problem
    return Problem("precondition-failed", problem.detail, problem.members, problem.own_headers)
