"""One browser and one stack for all browser tests of a process; each test has a merchant of its own."""

from collections.abc import AsyncIterator

import pytest
from benchmarks.chromium import open_browser
from desk import Desk, open_desk
from playwright.async_api import Browser

from servers import Broker, new_environment


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """A Chromium."""
    async with open_browser() as browser:
        yield browser


@pytest.fixture(scope="session")
async def desk(
    browser: Browser, broker_node: Broker, mongodb_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Desk]:
    """A stack that serves the console."""
    environment = await new_environment(broker_node, mongodb_url)
    async with open_desk(environment, tmp_path_factory.mktemp("desk"), browser) as running:
        yield running
