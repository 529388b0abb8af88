"""Whatever the OpenAPI documents let a caller send, and what they do not: no fault of ours, and no answer
that they do not show. `fuzz_hooks` has the exceptions.
"""

import asyncio
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

import pytest

from callers import Caller, token
from fixtures import Spine, StartService
from openapi_checks import SERVICES, Service, document_of
from openapi_fuzz import REFERENCED, fuzz

EVERYTHING = "orders:read orders:write orders:admin"
SEED = "20260302"

Urls = Mapping[Service, str]


@pytest.fixture
async def urls(spine: Spine, start_service: StartService) -> Urls:
    """Ingest and query of one installation."""
    query = await start_service("query")
    order = REFERENCED | {"customer": {"name": "Ada Example", "contact_ref": "crm:17"}}
    async with Caller([spine.ingest.url]) as caller:
        assert (await caller.post("/v1/orders", order)).status in (201, 409)  # 409: of the test before
    return {"ingest": spine.ingest.url, "query": query.url}


def operations(*, open_to_all: bool) -> set[str]:
    """Those that need a token, or those that need none, like `GET /v1/orders`."""
    return {
        f"{method.upper()} {path}"
        for service in SERVICES
        for path, methods in document_of(service)["paths"].items()
        for method, operation in methods.items()
        if bool(operation["security"]) is not open_to_all
    }


OF_WEBHOOKS = "/v1/webhooks"
OF_ONE_WEBHOOK = "/v1/webhooks/{webhook_id}/"
"""Made-up ids meet none of them; `test_webhook_api` asks these with real ones."""


PARTS = {"reports": "^/v1/reports", "merchants": "^/v1/(merchants|batch)", "others": "^/"}
"""Paths, each in the first part that matches it. Together they would take more than a minute."""

LINKED = "others"
"""The part whose answers have links to operations of the same part."""


def part_of(path: str) -> str:
    return next(name for name, pattern in PARTS.items() if re.match(pattern, path))


@pytest.mark.parametrize("part", PARTS)
async def test_nothing_that_is_sent_gets_an_answer_beside_the_documents(
    part: str, urls: Urls, tmp_path: Path
) -> None:
    every_one = operations(open_to_all=True) | operations(open_to_all=False)
    wanted = {one for one in every_one if OF_WEBHOOKS not in one and part_of(one.split()[1]) == part}
    paths = "|".join(re.escape(path) for path in sorted({one.split()[1] for one in wanted}))
    options = ("--seed", SEED, "--max-examples", "3", "--include-path-regex", f"^({paths})$")
    if part != LINKED:
        options += ("--phases", "examples,coverage,fuzzing")
    report = await fuzz(urls, tmp_path / "all", token(scope=EVERYTHING), *options)
    assert report.requests > 500
    assert report.accepted == wanted


async def test_nothing_that_is_sent_of_webhooks_gets_an_answer_beside_the_documents(
    urls: Urls, tmp_path: Path
) -> None:
    options = ("--seed", SEED, "--max-examples", "3", "--include-path-regex", OF_WEBHOOKS)
    report = await fuzz(urls, tmp_path / "webhooks", token(scope=EVERYTHING), *options)
    every_one = {operation for operation in operations(open_to_all=False) if OF_WEBHOOKS in operation}
    assert report.accepted >= {operation for operation in every_one if OF_ONE_WEBHOOK not in operation}


async def test_a_narrow_token_and_none_get_no_answer_beside_the_documents(urls: Urls, tmp_path: Path) -> None:
    options = ("--seed", SEED, "--max-examples", "3", "--phases", "examples,fuzzing")
    narrow = token(merchants=["acme"], orders=["acme-1001"])
    narrowly, unknown = await asyncio.gather(
        fuzz(urls, tmp_path / "narrow", narrow, *options), fuzz(urls, tmp_path / "none", None, *options)
    )
    assert unknown.accepted == operations(open_to_all=True)
    assert narrowly.accepted > unknown.accepted
    assert "GET /v1/audit" not in narrowly.accepted


@pytest.mark.slow
@pytest.mark.timeout(0)  # it ends by itself
async def test_nothing_is_found_in_a_longer_search(
    urls: Urls, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    seed = pytestconfig.getoption("--fuzz-seed") or str(secrets.randbits(32))
    seconds = str(pytestconfig.getoption("--fuzz-seconds"))
    print(f"--fuzz-seed {seed}")
    await fuzz(urls, tmp_path / "all", token(scope=EVERYTHING), "--seed", seed, "--max-time", seconds)
