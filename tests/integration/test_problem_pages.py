"""The pages of the error catalogue, as query serves them."""

import base64
import hashlib
import re
from collections.abc import AsyncIterator

import pytest
from query_stack import QueryClient, running_query

from tracking_shared.contracts.problems import CATALOGUE

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture(scope="module")
async def query(mongodb_url: str) -> AsyncIterator[QueryClient]:
    async with running_query(mongodb_url) as client:
        yield client


async def test_the_type_of_a_problem_is_the_path_of_its_page(query: QueryClient) -> None:
    refused = await query.get("/v1/orders/o-1")
    assert refused.status == 401
    page = await query.get(refused.json["type"])
    assert (page.status, page.headers["content-type"]) == (200, "application/json")
    assert (page.json["status"], page.json["title"]) == (401, refused.json["title"])
    assert page.json["example"].keys() == refused.json.keys()


async def test_every_problem_has_a_page_for_people_and_one_for_programs(query: QueryClient) -> None:
    listed = (await query.get("/problems")).json["problems"]
    assert [problem["type"] for problem in listed] == [f"/problems/{slug}" for slug in CATALOGUE]
    for problem in listed:
        document = (await query.get(problem["type"])).json
        page = await query.get(problem["type"], headers=BROWSER)
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert f"<h1>{document['title']}</h1>" in page.body.decode()


async def test_a_page_needs_nothing_from_elsewhere_and_runs_no_script(query: QueryClient) -> None:
    for path in ("/problems", "/problems/invalid-transition"):
        page = await query.get(path, headers=BROWSER)
        html = page.body.decode()
        assert "<script" not in html
        assert not re.search(r"(src|href)=\"(https?:|//|/)", html)
        (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        policy = page.headers["content-security-policy"]
        assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
        assert len(page.headers.getall("content-security-policy")) == 1  # type: ignore[attr-defined]
        assert page.headers["vary"] == "Accept"


async def test_what_is_no_problem_has_no_page(query: QueryClient) -> None:
    assert (await query.get("/problems/of-mine")).slug == "not-found"
    assert (await query.get("/problems/", headers=BROWSER)).slug == "not-found"
    assert (await query.get("/problems", headers={"Accept": "image/png"})).slug == "not-acceptable"
