"""The browser of the browser tests and benchmarks: Debian's Chromium, driven by Playwright."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, async_playwright

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))

ARGUMENTS = ("--no-sandbox",)
"""Chromium has no sandbox for root, which containers usually are; it loads nothing but our own pages."""


class BrowserMissing(Exception):
    """There is no browser here. The message says what to do."""


def find_browser() -> None:
    """Looks whether it is there.

    Raises:
        BrowserMissing: it is not.
    """
    if not os.access(CHROMIUM, os.X_OK):
        raise BrowserMissing(f"{CHROMIUM} is missing: run make browser, or set CHROMIUM to where it is")


@asynccontextmanager
async def open_browser(*arguments: str) -> AsyncIterator[Browser]:
    """A browser without a window, closed at the end. `arguments` are added to its command line.

    Raises:
        BrowserMissing: it is not installed.
    """
    find_browser()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, *arguments])
        try:
            yield browser
        finally:
            await browser.close()
