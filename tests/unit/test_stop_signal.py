"""Which signals end a service, and the stack."""

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
