"""Which signals end a service, and the stack."""

import socket
import subprocess
import sys

import pytest

_PROGRAM = """
import asyncio, os, signal
from tracking_shared.serving import stop_signal

signal.signal(signal.SIGHUP, signal.{before})

async def main():
    async with stop_signal() as stop:
        os.kill(os.getpid(), signal.{sent})
        await asyncio.wait_for(stop.wait(), {seconds})

asyncio.run(main())
"""


def exit_code(*, before: str = "SIG_DFL", sent: str, seconds: float = 20) -> int:
    """Of a program that waits for its stop, 1 if that does not come; the negative signal that killed it."""
    program = _PROGRAM.format(before=before, sent=sent, seconds=seconds)
    return subprocess.run([sys.executable, "-c", program], stderr=subprocess.DEVNULL, check=False).returncode


@pytest.mark.parametrize("sent", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_asks_for_the_stop(sent: str) -> None:
    assert exit_code(sent=sent) == 0


def test_a_hangup_that_was_ignored_at_the_start_stays_ignored() -> None:
    assert exit_code(before="SIG_IGN", sent="SIGHUP", seconds=0.5) == 1


_SERVICE = """
import asyncio, os, signal
from fastapi import FastAPI
from tracking_shared.http.service_app import install_plumbing
from tracking_shared.serving import serve_http
from tracking_shared.settings import Settings

async def main():
    stopped = []
    app = FastAPI()
    install_plumbing(app, settings := Settings(amqp_url="amqp://x", mongodb_url="mongodb://x"), dict)
    asyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), signal.SIGTERM)
    await serve_http(
        app, settings, {port}, starts_with=asyncio.Event(), on_stop=lambda: stopped.append(True)
    )
    assert stopped

asyncio.run(main())
"""


def test_a_service_that_is_stopped_before_it_listens_does_not_listen_any_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:  # listening there would fail
        port = taken.getsockname()[1]
        program = _SERVICE.format(port=port)
        ended = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
        )

    assert (ended.returncode, ended.stderr) == (0, "")
