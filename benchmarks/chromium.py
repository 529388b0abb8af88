"""The browser of the browser tests and benchmarks: Debian's Chromium, driven by Playwright."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, async_playwright

from benchmarks.load import BenchmarkFailed

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))

ARGUMENTS = ("--no-sandbox",)
"""Chromium has no sandbox for root, which containers usually are; it loads nothing but our own pages."""


def find_browser() -> None:
    """Fails where it is not installed."""
    if not os.access(CHROMIUM, os.X_OK):
        raise BenchmarkFailed(f"{CHROMIUM} is missing: run make browser, or set CHROMIUM to where it is")


@asynccontextmanager
async def open_browser(*arguments: str) -> AsyncIterator[Browser]:
    """A browser without a window, closed at the end. `arguments` are added to its command line."""
    find_browser()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, *arguments])
        try:
            yield browser
        finally:
            await browser.close()
