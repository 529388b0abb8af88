"""The entity tags of `If-Match`: what they are, and what is refused."""

import re

import pytest
from starlette.datastructures import Headers

from tracking_ingest.api.requests import version_asked_for
from tracking_shared.contracts.problems import ProblemError
from tracking_shared.http.headers import IF_MATCH_PATTERN, tags_of


@pytest.mark.parametrize(
    ("fields", "tags"),
    [
        (["*"], None),
        (['"1-0123456789ab"'], ['"1-0123456789ab"']),
        (['"a" , W/"b"', '""'], ['"a"', 'W/"b"', '""']),
        (['"with, comma"'.replace(" ", "")], ['"with,comma"']),
    ],
)
def test_the_tags_of_all_fields_are_one_list(fields: list[str], tags: list[str] | None) -> None:
    assert tags_of(fields) == tags
    assert re.search(IF_MATCH_PATTERN, ",".join(fields))


@pytest.mark.parametrize("field", ["", " ", ",", "4Vsl", '"a', 'a"b"', '"a" "b"', '*, "a"', 'w/"a"', '"a",'])
def test_what_is_neither_tags_nor_an_asterisk_is_refused(field: str) -> None:
    with pytest.raises(ProblemError) as refused:
        tags_of([field])
    assert refused.value.problem.slug == "validation-failed"
    with pytest.raises(ProblemError) as refused:
        version_asked_for(Headers({"if-match": field}), None)
    assert refused.value.problem.slug == "validation-failed"


@pytest.mark.parametrize("tag", ['"0-0123456789ab"', '"00-0123456789ab"', '"x"', 'W/"1-0123456789ab"'])
def test_a_tag_of_no_version_of_any_order_fails_as_a_condition(tag: str) -> None:
    with pytest.raises(ProblemError) as refused:
        version_asked_for(Headers({"if-match": tag}), None)
    assert refused.value.problem.slug == "precondition-failed"


def test_a_tag_asks_for_its_version() -> None:
    assert version_asked_for(Headers({"if-match": '"12-0123456789ab"'}), None) == 12
