"""Runs the commands of `docs/tour.md` and the client of `docs/live-updates.md` and compares the answers."""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from callers import eventually
from fixtures import Spine, StartService
from tracking.devstack.tokens import mint_token

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="the commands of the tour use curl")

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

CHANGING = [
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "TIME"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "UPDATE-ID"),
    (r"\b[0-9a-f]{32}\b", "TRACE-ID"),
    (r"content-length: \d+", "content-length: N"),
    (r"date: .* GMT", "date: DATE"),
]


@pytest.fixture
def token(spine: Spine) -> str:
    """The token that the tour makes."""
    secret = spine.environment["JWT_SECRET"]
    return mint_token(secret, subject="acme-shop", scope="orders:write orders:read", merchants=["acme"])


async def run(program: str, **environment: str) -> str:
    process = await asyncio.create_subprocess_shell(
        program, stdout=asyncio.subprocess.PIPE, env=os.environ | environment, executable="/bin/bash"
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, program
    return output.decode()


def masked(text: str) -> str:
    for pattern, name in CHANGING:
        text = re.sub(pattern, name, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def steps() -> list[tuple[str, str | None]]:
    """The tour's calls, each with the answer that is printed below it, if there is one."""
    found = FENCE.findall((ROOT / "docs/tour.md").read_text())
    followed = zip(found, [*found[1:], ("", "")], strict=True)
    return [
        (program, answer if answer.startswith(("{", "HTTP/")) else None)
        for (language, program), (_, answer) in followed
        if language == "sh" and "curl" in program
    ]


async def test_the_tour_answers_as_the_page_prints(
    spine: Spine, token: str, start_service: StartService
) -> None:
    query = await start_service("query")
    here = {"localhost:8001": spine.ingest.url, "localhost:8002": query.url}
    assert len(steps()) >= 5
    for program, printed in steps():
        for there, url in here.items():
            program = program.replace(there, url)  # noqa: PLW2901 - the same program, elsewhere
        output = await run(program, TOKEN=token)
        if printed and "idempotent-replayed" in printed:  # "send this twice"
            output = await run(program, TOKEN=token)
        if printed:
            assert masked(output) == masked(printed)
        assert "internal-error" not in output


@asynccontextmanager
async def minimal_client(url: str, token: str) -> AsyncIterator[asyncio.StreamReader]:
    """The lines that the client of the docs prints."""
    page = (ROOT / "docs/live-updates.md").read_text()
    program = next(body for language, body in FENCE.findall(page) if language == "python")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-u",
        "-c",
        program,
        env=os.environ | {"STREAM_URL": url, "TOKEN": token},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.kill()
        await process.wait()


async def test_the_minimal_client_follows_the_orders_across_a_restart(
    spine: Spine, token: str, start_service: StartService
) -> None:
    notifier = await start_service("notifier")

    async def post(path: str, body: str) -> None:
        command = f"curl -sf {spine.ingest.url}{path} -H 'Authorization: Bearer {token}'"
        await run(f"{command} -H 'Content-Type: application/json' -d '{body}'")

    async def has_snapshot() -> bool:
        return "tracking_stream_snapshot_orders_total 1.0" in await run(f"curl -sf {notifier.url}/metrics")

    customer = '{"name": "Ada Example", "contact_ref": "crm:17"}'
    await post("/v1/orders", f'{{"order_id": "a", "merchant_id": "acme", "customer": {customer}}}')
    async with minimal_client(notifier.stream_url, token) as lines, asyncio.timeout(30):
        await eventually(has_snapshot)
        await post("/v1/orders/a/updates", '{"status": "picked_up"}')
        assert (await lines.readline()).endswith(b" a picked_up\n")
        await notifier.kill()
        await post("/v1/orders/a/updates", '{"status": "in_transit"}')
        await notifier.start()
        assert (await lines.readline()).endswith(b" a in_transit\n")
        await post("/v1/orders/a/updates", '{"status": "delivered"}')
        assert (await lines.readline()).endswith(b" a delivered\n")
