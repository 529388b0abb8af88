"""The requests of `docs/api.md`: they are run here in their order, and answer as it is printed there."""

import asyncio
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from fixtures import Spine, StartService
from tracking.devstack.tokens import mint_token

PAGE = Path(__file__).parents[2] / "docs/api.md"

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="the requests use curl")

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BETWEEN = "-- the next one --"

CHANGING = [
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?(Z|[+-]\d\d:\d\d)", "TIME"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "UPDATE-ID"),
    (r"\b[0-9a-f]{32}\b", "TRACE-ID"),
    (r"\b00-TRACE-ID-[0-9a-f]{16}-\d\d\b", "TRACE"),
]
MEASURED = frozenset({"p50", "p90", "p99"})
OPAQUE = frozenset({"cursor", "next_cursor", "sequence", "partition", "traceparent"})


def requests() -> list[tuple[str, str]]:
    """Each request of the page, with the answer that is printed below it (empty: none)."""
    found = FENCE.findall(PAGE.read_text())
    followed = zip(found, [*found[1:], ("", "")], strict=True)
    return [
        (program, "" if language == "sh" else answer)
        for (kind, program), (language, answer) in followed
        if kind == "sh" and "curl" in program
    ]


async def answers(programs: list[str], folder: Path, **environment: str) -> list[str]:
    """What each of them prints. One shell runs them all, so they know each other's variables."""
    script = f"\necho; echo '{BETWEEN}'\n".join(programs)
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", script, stdout=asyncio.subprocess.PIPE, cwd=folder, env=os.environ | environment
    )
    output, _ = await process.communicate()
    return output.decode().split(f"\n{BETWEEN}\n")


def shape(text: str) -> Any:
    """The answer without what is another at each run."""
    try:
        return masked(json.loads(text))
    except ValueError:
        return [masked(line.strip()) for line in text.strip().splitlines()]


def masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: name if name in OPAQUE else masked_member(name, inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [masked(inner) for inner in value]
    if isinstance(value, str):
        for pattern, name in CHANGING:
            value = re.sub(pattern, name, value)
    return value


def masked_member(name: str, value: Any) -> Any:
    return type(value).__name__ if name in MEASURED else masked(value)


async def test_every_request_of_the_page_answers_as_it_is_printed(
    spine: Spine, start_service: StartService, tmp_path: Path
) -> None:
    query = await start_service("query")
    secret = spine.environment["JWT_SECRET"]
    scope = "orders:write orders:read orders:correct"
    token = mint_token(secret, subject="acme-shop", scope=scope, merchants=["acme"])
    asked = requests()
    assert len(asked) > 25
    programs = [
        program.replace("localhost:8001", spine.ingest.url).replace("localhost:8002", query.url)
        for program, _ in asked
    ]
    headers = {"AUTH": f"Authorization: Bearer {token}", "JSON": "Content-Type: application/json"}
    found = await answers(programs, tmp_path, **headers)
    assert len(found) == len(asked)
    for (program, printed), answer in zip(asked, found, strict=True):
        assert printed, f"no answer is printed below {program}"
        assert shape(answer) == shape(printed), program
        assert "internal-error" not in answer
