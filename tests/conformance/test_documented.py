"""The examples of docs/live-updates.md for the two clients do what the page says."""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from callers import token
from clients import HERE, NODE
from fixtures import Spine, StartService
from tracking.devstack.service_process import ServiceProcess
from tracking.fleet import MERCHANTS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/live-updates.md").read_text()


def example(heading: str, language: str) -> str:
    """The first block in this language under a heading."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = re.search(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


@asynccontextmanager
async def running(*command: str, **environment: str) -> AsyncIterator[asyncio.StreamReader]:
    """The lines that a program prints."""
    process = await asyncio.create_subprocess_exec(
        *command, env=os.environ | environment, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            yield process.stdout
    finally:
        process.kill()
        await process.wait()


async def until_line(lines: asyncio.StreamReader, pattern: str) -> str:
    """The first line from here on in which the pattern is found."""
    while line := (await lines.readline()).decode():
        if re.search(pattern, line):
            return line
    raise AssertionError(f"it ended without {pattern}")


@pytest.fixture
async def notifier(spine: Spine, start_service: StartService) -> ServiceProcess:
    return await start_service("notifier", PARTITIONS=spine.environment["PARTITIONS"])


async def post(spine: Spine, path: str, **body: object) -> None:
    answer = await spine.caller.post(path, body)
    assert answer.status < 300, answer


async def create(spine: Spine, order_id: str) -> None:
    customer = {"name": "Ada Example", "contact_ref": "crm:17"}
    await post(spine, "/v1/orders", order_id=order_id, merchant_id="acme", customer=customer)


async def test_the_dashboard_shows_orders_live_and_across_a_restart(
    spine: Spine, notifier: ServiceProcess, tmp_path: Path
) -> None:
    page = example("A dashboard in ten minutes", "html")
    script = page.split('<script type="module">')[1].split("</script>")[0]
    client = ROOT / "clients/js"
    for file in (client / "tracking-live.js", client / "package.json", HERE / "page.mjs"):
        shutil.copy(file, tmp_path)
    address = "ws://localhost:8003/v1/stream"
    assert address in script
    (tmp_path / "dashboard.js").write_text(script.replace(address, notifier.stream_url))
    await create(spine, "a")
    page_file, script_file = str(tmp_path / "page.mjs"), str(tmp_path / "dashboard.js")
    async with running(str(NODE), "--import", page_file, script_file, TOKEN=token()) as lines:
        await until_line(lines, r"^#orders a created 20")
        await until_line(lines, r"^#status live")
        await create(spine, "b")
        await until_line(lines, r"^#orders a created \S+ b created")
        await notifier.kill()
        await until_line(lines, r"^#status waiting .*; again at \d")
        await post(spine, "/v1/orders/a/updates", status="cancelled")
        await notifier.start()
        await until_line(lines, r"^#orders b created")


def test_the_token_of_the_dashboard_is_for_a_merchant_of_the_simulated_fleet() -> None:
    section = PAGE.split("\n## A dashboard in ten minutes\n")[1]
    merchant = re.search(r"tracking token .* --merchants (\S+)", section)
    assert merchant
    assert merchant[1] in MERCHANTS


async def test_the_python_example_prints_what_happens(spine: Spine, notifier: ServiceProcess) -> None:
    await create(spine, "a")
    program = example("Python client", "python")
    environment = {"STREAM_URL": notifier.stream_url, "TOKEN": token()}
    async with running(sys.executable, "-u", "-c", program, **environment) as lines:
        await until_line(lines, r"^Snapshot\(reason=None\)")
        await until_line(lines, r"^Status\(.*LIVE")
        await post(spine, "/v1/orders/a/updates", status="picked_up")
        await until_line(lines, r"^a picked_up 1$")
