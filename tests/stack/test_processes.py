"""Child processes end, and everything that they started with them."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tracking.devstack.processes import (
    ChildProcess,
    DeadlineExceeded,
    ProcessEnded,
    descendants,
    free_port,
    is_port_free,
    is_running,
    ready,
    wait_until,
)

STUBBORN = "trap '' TERM INT HUP; sleep 300 & echo started; while :; do sleep 300; done"
"""A shell that ignores polite signals, with a child that would outlive it."""


def _shell(tmp_path: Path, script: str) -> ChildProcess:
    return ChildProcess(
        "shell", ["sh", "-c", script], environment=os.environ, log_path=tmp_path / "shell.log"
    )


async def _wrote(process: ChildProcess, line: str) -> None:
    async def wrote() -> bool:
        return process.last_line() == line

    await wait_until(wrote, seconds=30, what=f"the line {line!r}")


def test_a_port_is_given_to_one_process_even_before_it_listens() -> None:
    two = random.sample([port for port in range(12_000, 12_100) if is_port_free(port)], 2)
    first = free_port(two)
    program = f"from tracking.devstack.processes import free_port; print(free_port({two}))"
    other = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    assert {first, int(other.stdout)} == set(two)


async def test_a_process_that_ignores_sigterm_is_killed_with_its_children(tmp_path: Path) -> None:
    process = _shell(tmp_path, STUBBORN)
    await _wrote(process, "started")
    family = descendants(process.pid)
    assert family

    await process.stop(grace_seconds=0.3)

    assert process.exit_code == -signal.SIGKILL
    assert not any(map(is_running, family))


async def test_a_stopped_process_can_still_be_ended_politely(tmp_path: Path) -> None:
    process = _shell(tmp_path, "trap 'exit 7' TERM; echo started; while :; do sleep 0.05; done")
    await _wrote(process, "started")
    process.signal(signal.SIGSTOP)

    await process.stop(grace_seconds=30)

    assert process.exit_code == 7


async def test_what_ends_before_it_is_ready_is_told_with_its_last_words(tmp_path: Path) -> None:
    process = _shell(tmp_path, "echo first; echo 'no such thing'; exit 3")

    async def never() -> bool:
        return False

    with pytest.raises(ProcessEnded, match=r"shell ended \(code 3: no such thing"):
        await ready(process, never, seconds=30)


async def test_what_never_gets_ready_is_told_in_time(tmp_path: Path) -> None:
    process = _shell(tmp_path, "exec sleep 300")

    async def never() -> bool:
        return False

    with pytest.raises(DeadlineExceeded, match=r"shell was not ready within 0\.3 s"):
        await ready(process, never, seconds=0.3)
    await process.kill()


async def test_children_end_when_their_starter_is_killed(tmp_path: Path) -> None:
    starter = f"""
import os, pathlib, time
from tracking.devstack.processes import ChildProcess
child = ChildProcess("child", ["sleep", "300"], environment=os.environ,
                     log_path=pathlib.Path({str(tmp_path / "child.log")!r}))
print("started", flush=True)
time.sleep(300)
"""
    process = ChildProcess(
        "starter", [sys.executable, "-c", starter], environment=os.environ, log_path=tmp_path / "starter.log"
    )
    await _wrote(process, "started")
    family = descendants(process.pid)
    assert len(family) == 1

    process.signal(signal.SIGKILL)
    await process.wait()

    async def gone() -> bool:
        return not any(map(is_running, family))

    await wait_until(gone, seconds=30, what="the end of the child", every=0.02)
