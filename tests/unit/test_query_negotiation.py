"""Which representation a caller gets, by the rules of RFC 9110."""

import pytest

from tracking_query.api.negotiation import preferred_type, prefers_gzip

JSON, CSV, NDJSON = OFFERED = ("application/json", "text/csv", "application/x-ndjson")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("text/csv", CSV),
        ("TEXT/CSV", CSV),
        ("text/csv; charset=utf-8", CSV),
        ("text/*", CSV),
        ("application/*", JSON),
        ("application/x-ndjson", NDJSON),
        ("text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8", JSON),
        ("text/csv;q=0.5, application/x-ndjson;q=0.9", NDJSON),
        ("text/csv;q=0.5, application/x-ndjson;q=0.5", CSV),
        ("application/json;q=0.1, text/csv ; q=0.2", CSV),
        ("application/json;q=0, */*;q=0.1", CSV),
        ("application/json;q=0, application/*;q=0.3", NDJSON),
        ("text/csv;q=0", None),
        ("text/html", None),
        ("*/*;q=0", None),
        ("text/csv;q=inf", None),
        ("text/csv;q=nan", None),
        ("text/csv;q=", None),
        ("text/csv;q=-1", None),
        ("text/csv;q=9", CSV),
        ("text", None),
        (",;,=", None),
        (", ".join(["a/b"] * 5000 + ["text/csv"]), None),
    ],
)
def test_the_most_welcome_type_is_chosen(accept: str | None, chosen: str | None) -> None:
    assert preferred_type(accept, OFFERED) == chosen


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("deflate, gzip, br, zstd", True),
        ("*", True),
        ("x-gzip", True),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("*;q=0", False),
        ("br", False),
        ("identity", False),
        ("identity, gzip;q=0.5", False),
        ("identity;q=0.5, gzip;q=0.5", True),
    ],
)
def test_gzip_is_used_where_it_is_wanted(accept: str | None, wanted: bool) -> None:
    assert prefers_gzip(accept) is wanted
