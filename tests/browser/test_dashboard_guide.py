"""The dashboard of docs/live-updates.md in a browser: as the page tells it, and with its origin refused."""

import os
import re
import shlex
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from desk import PATIENCE_SECONDS, Desk, new_merchant
from playwright.async_api import Browser, ConsoleMessage, Page, expect

from callers import token
from tracking.devstack.processes import ChildProcess, free_port, is_port_free, ready

ROOT = Path(__file__).parents[2]
GUIDE = (
    (ROOT / "docs/live-updates.md")
    .read_text()
    .split("\n## A dashboard in ten minutes\n")[1]
    .split("\n## ")[0]
)
START, PREPARE, SERVE = re.findall(r"^```sh\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
(PAGE,) = re.findall(r"^```html\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
STREAM = "ws://localhost:8003/v1/stream"


def at_port(text: str, port: int) -> str:
    """The guide's words for another port than its own, which may be in use here."""
    assert "8080" in text
    return text.replace("8080", str(port))


def demo_arguments(port: int) -> list[str]:
    """What the guide gives to the demonstration."""
    make, target, arguments = shlex.split(START)
    assert (make, target) == ("make", "demo")
    return shlex.split(at_port(arguments.removeprefix("ARGS="), port))


@asynccontextmanager
async def running(folder: Path, ready_at: Sequence[int], command: str) -> AsyncIterator[ChildProcess]:
    """A command in this folder, from when something listens on these ports."""
    name = "-".join(["command", *map(str, ready_at)])
    arguments = ["bash", "-c", f"cd {shlex.quote(str(folder))} && exec {command}"]
    environment = os.environ | {"TRACKING_DATA": str(folder / "data")}
    process = ChildProcess(name, arguments, environment=environment, log_path=folder / f"{name}.log")

    async def listens() -> bool:
        return not any(map(is_port_free, ready_at))

    try:
        await ready(process, listens, seconds=50)
        yield process
    finally:
        await process.stop()


@asynccontextmanager
async def opened(browser: Browser, warnings: list[str]) -> AsyncIterator[Page]:
    """An empty page, and what its console is warned of."""
    context = await browser.new_context(locale="en-GB")
    context.set_default_timeout(PATIENCE_SECONDS * 1000)

    def said(message: ConsoleMessage) -> None:
        if message.type == "warning":
            warnings.append(message.text)

    context.on("console", said)
    try:
        yield await context.new_page()
    finally:
        await context.close()


async def test_the_dashboard_of_the_guide_is_live_from_its_own_origin(
    browser: Browser, tmp_path: Path
) -> None:
    ingest, query, notifier, own = (free_port() for _ in range(4))
    for name in (".venv", "clients"):
        (tmp_path / name).symlink_to(ROOT / name)
    ports = f"--ingest-port {ingest} --query-port {query} --notifier-port {notifier}"
    demo = f".venv/bin/tracking demo {ports} {shlex.join(demo_arguments(own))}"
    async with running(tmp_path, [notifier, ingest], demo):
        async with running(tmp_path, [], f"sh -ec {shlex.quote(PREPARE)}") as prepared:
            assert await prepared.wait() == 0, prepared.last_line()
        assert STREAM in PAGE
        page_text = PAGE.replace(STREAM, f"ws://localhost:{notifier}/v1/stream")
        (tmp_path / "dashboard/index.html").write_text(page_text)
        async with running(tmp_path, [own], at_port(SERVE, own)), opened(browser, []) as page:
            await page.goto(f"http://localhost:{own}")
            await expect(page.locator("#status")).to_contain_text("live")
            await expect(page.locator("#orders tr").first).to_be_visible()


@asynccontextmanager
async def served(folder: Path, stream: str, bearer: str) -> AsyncIterator[str]:
    """The guide's page, for this stream, at an origin of its own. It needs to be served: Chromium keeps pages
    that are made up from calling this machine.
    """
    (folder / "index.html").write_text(PAGE.replace(STREAM, stream))
    (folder / "token").write_text(bearer)
    shutil.copy(ROOT / "clients/js/tracking-live.js", folder)
    port = free_port()
    command = at_port(SERVE, port).replace("--directory dashboard", "--directory .")
    async with running(folder, [port], command):
        yield f"http://localhost:{port}"


async def test_a_page_whose_origin_is_not_allowed_is_told_so_once_in_the_console(
    desk: Desk, browser: Browser, tmp_path: Path
) -> None:
    warnings: list[str] = []
    stream, bearer = desk.services["notifier"].stream_url, token(merchants=[new_merchant()])
    async with served(tmp_path, stream, bearer) as origin, opened(browser, warnings) as page:
        await page.goto(origin)
        await expect(page.locator("#status")).to_contain_text(
            re.compile(rf"waiting .*refuses the connection: is {origin} in its ALLOWED_ORIGINS")
        )
        async with page.expect_websocket():  # it tries again
            pass
        await expect(page.locator("#status")).to_contain_text("waiting")
        told = [text for text in warnings if "ALLOWED_ORIGINS" in text]
        assert len(told) == 1
        assert origin in told[0]


async def test_a_page_without_a_server_is_not_told_of_origins(browser: Browser, tmp_path: Path) -> None:
    warnings: list[str] = []
    stream = f"ws://127.0.0.1:{free_port()}/v1/stream"
    async with served(tmp_path, stream, token()) as origin, opened(browser, warnings) as page:
        await page.goto(origin)
        await expect(page.locator("#status")).to_contain_text("waiting no server answers")
        assert warnings == []
