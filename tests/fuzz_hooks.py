"""What `schemathesis` is told beside the OpenAPI documents: which of its findings are none, and why.

It loads this module in a process of its own (`openapi_fuzz`).
"""

import json
import re
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit
from zlib import crc32

import schemathesis
from requests.structures import CaseInsensitiveDict
from schemathesis import Case, CheckContext, HookContext, Response, SerializationContext
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.generation.meta import CoverageScenario, coverage_scenario
from schemathesis.openapi.checks import AllowHeaderMismatch, RejectedPositiveData

from openapi_checks import Service, check_answer
from tracking_ingest.api.submission_routes import LINES_TYPE as NDJSON

_BEYOND_SCHEMAS = {
    "/occurred_at": "must not be more than 5 minutes in the future",  # a schema knows no clock
    "/customer/name": "must have a character that can be seen",  # the others are too many to list
    "/(message|reason)": "must have a character that can be seen",
    "/customer/contact_ref": "must have (a character that can be seen|at most 128 characters in NFC)",
    "": "(.* is a number that cannot be kept as it is written; send it as a text"
    "|must name something that changes)",
    "/filter/status": "must be one of .*",  # of the workflow
    "/url": "must .*",  # what a receiver's address may be: a host that can be looked up, and its network
    "/metadata": "must have at most (32 keys|4096 bytes)",  # in all levels together
    # Two values.
    "/query/(created_|updated_|closed_|due_)?to": "must not be before (created_|updated_|closed_|due_)?from",
    "/query/interval": "the range has more than .* of them; ask for a shorter one",  # three values
    "/query/time_zone": "must be an IANA time zone, like Europe/Berlin",  # the machine has the list
    "/query/(limit|cursor)": "is for pages; this media type always holds the whole list",  # and a header
    "/query/q": "is for pages; this media type holds a whole list",  # and a header
    "/query/bom": "is for text/csv; this media type has no byte order mark",  # and a header
    # Two values; and schemathesis makes up values for a header beside its pattern.
    "/headers/if-match": "names another version than expected_version.|must be (one )?entity tags?, .*",
}
"""What makes a value bad that the schema of its place takes: pointers and messages, with the reasons."""


@schemathesis.serializer(NDJSON)
def serialize_lines(_: SerializationContext, operations: Any) -> dict[str, Any]:
    """One operation a line. What is no list at all is one line."""
    lines = operations if isinstance(operations, list) else [operations]
    return {"data": "\n".join(json.dumps(line) for line in lines).encode()}


@schemathesis.check
def answer_is_as_described(_: CheckContext, response: Response, case: Case) -> None:
    """What the document does not describe is a fault too: members, headers, media types."""
    request = response.request
    check_answer(
        _service_of(case),
        cast(str, request.method),
        urlsplit(cast(str, request.url)).path,
        status=response.status_code,
        headers=CaseInsensitiveDict({name: ", ".join(all_) for name, all_ in response.headers.items()}),
        body=response.content,
    )


def _service_of(case: Case) -> Service:
    return cast(Service, _server_of(case.operation)["description"])


def _server_of(operation: Any) -> dict[str, str]:
    [server] = operation.definition.raw["servers"]
    return cast(dict[str, str], server)


@schemathesis.hook
def before_init_operation(_: HookContext, operation: Any) -> None:
    """Each operation goes to its own service, whatever `--url` says, which a file must have."""
    operation.base_url = _server_of(operation)["url"]


@schemathesis.hook
def before_call(_: HookContext, case: Case, __: dict[str, Any]) -> None:
    """Asks for each of the media types that there are, chosen by the query: OpenAPI has no `Accept`."""
    if coverage_scenario(case) is CoverageScenario.MISSING_PARAMETER:
        return  # it may be the token that is missing, and whoever edits the headers brings it back
    good = case.operation.definition.raw["responses"].get("200", {}).get("content", {})
    if len(good) > 1 and "Accept" not in case.headers:
        case.headers["Accept"] = sorted(good)[crc32(repr(case.query).encode()) % len(good)]


@schemathesis.hook
def map_query(_: HookContext, query: Any) -> Any:
    """Nobody waits for events: there may be none, and what waiting does has tests of its own."""
    if query and re.fullmatch(r"[1-9]\d?", str(query.get("wait"))):
        return query | {"wait": 0}
    return query


@schemathesis.hook
def filter_failure(_: HookContext, failure: Failure, case: Case, response: Response) -> bool:
    """Whether it is one."""
    if isinstance(failure, RejectedPositiveData):
        return not _is_beyond_schemas(response)
    if isinstance(failure, AcceptedNegativeData):
        return not _is_refused_in_its_line(case, response)
    if isinstance(failure, AllowHeaderMismatch):
        return not _is_of_both(case, failure)
    return True


def _is_beyond_schemas(response: Response) -> bool:
    problem = response.json()
    slug = problem["type"].removeprefix("/problems/")
    if slug in ("idempotency-key-reused", "precondition-failed"):
        return True  # it depends on the requests before
    if slug in ("invalid-cursor", "cursor-expired"):
        # Only the service makes cursors. In a body, they are those of a webhook.
        return bool(_query_of(response).keys() & {"cursor", "after"}) or "/webhooks" in problem["instance"]
    return slug == "validation-failed" and all(map(_is_beyond_its_schema, problem["errors"]))


def _is_beyond_its_schema(error: dict[str, str]) -> bool:
    return any(
        re.fullmatch(where, error["pointer"]) and re.fullmatch(what, error["message"])
        for where, what in _BEYOND_SCHEMAS.items()
    )


def _is_refused_in_its_line(case: Case, response: Response) -> bool:
    """A bad operation does not spoil its batch: the answer is 200, and its line says what is wrong."""
    if case.path != "/v1/batch" or response.status_code != 200:
        return False
    problems = [line.get("problem", {}) for line in response.json()["results"]]
    return any(problem.get("status") in (400, 422) for problem in problems)


def _is_of_both(case: Case, failure: AllowHeaderMismatch) -> bool:
    """Each service allows its own methods on a path of both: GET is query's, POST is ingest's."""
    other = {"query": ["POST"], "ingest": ["GET"]}[_service_of(case)]
    return failure.missing_methods == other and not failure.undocumented_methods


def _query_of(response: Response) -> dict[str, list[str]]:
    return parse_qs(urlsplit(cast(str, response.request.url)).query, keep_blank_values=True)
