"""The receiver of `docs/webhooks.md`, run against a real sender."""

import asyncio
import importlib.util
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from socket import socket

import pytest
import uvicorn
from aiohttp import ClientSession
from webhook_stack import WebhookWorld, webhook_world

from tracking_query.webhooks.changes import secret_text

PAGE = Path(__file__).parents[2] / "docs/webhooks.md"
PROGRAM = re.compile(r"Save this as `receiver\.py`.*?```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
async def world(mongodb_url: str) -> AsyncIterator[WebhookWorld]:
    async with webhook_world(mongodb_url) as made:
        yield made


@asynccontextmanager
async def serving(path: Path, listener: socket) -> AsyncIterator[None]:
    spec = importlib.util.spec_from_file_location("receiver_of_the_page", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server = uvicorn.Server(uvicorn.Config(module.app, log_config=None, lifespan="off", ws="none"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await task


async def test_the_receiver_takes_what_is_signed_once_and_refuses_the_rest(
    world: WebhookWorld,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    [program] = PROGRAM.findall(PAGE.read_text())
    path = tmp_path / "receiver.py"
    path.write_text(program)
    listener = socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/tracking-events"
    webhook_id, key = await world.register(url)
    monkeypatch.setenv("WEBHOOK_SECRET", secret_text(key))
    await world.add("a", "b", "a")

    async with serving(path, listener), ClientSession() as session:
        await world.start_sender()
        await world.deliver_twice(webhook_id)
        async with session.post(url, data=b"{}") as forged:
            status = forged.status
        await world.close()

    assert sorted(capsys.readouterr().out.split("\n")) == ["", "a created", "a in_transit", "b created"]
    assert status == 401
