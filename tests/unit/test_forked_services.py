"""A forked process is like a started one: its environment, its session, its output, its end."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from forked_services import ForkedChild, ForkServer
from tracking.devstack.processes import ChildProcess, wait_until

SAYS = """
import os, sys
print(__name__, sys.argv[0], os.environ.get("WANTED"), os.environ.get("HOME"), os.getsid(0) == os.getpid())
sys.exit(78)
"""
WAITS = """
import time
print("waits", flush=True)
time.sleep(60)
"""
SECONDS = 30


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    """One that has imported as good as nothing."""
    server = ForkServer("json")
    yield server
    server.end()


@pytest.fixture
async def run(server: ForkServer, tmp_path: Path) -> type:
    """Starts a module with this text."""

    async def has_imported() -> bool:
        return server.is_ready()

    await wait_until(has_imported, seconds=SECONDS, what="the fork server")

    def start(text: str) -> ChildProcess:
        (tmp_path / "forked_module.py").write_text(text)
        environment = {"PYTHONPATH": str(tmp_path), "WANTED": "yes"}
        return ForkedChild(
            server, "forked", ["forked_module"], environment=environment, log_path=tmp_path / "log"
        )

    return start


async def waits(process: ChildProcess) -> None:
    async def has_said_so() -> bool:
        return process.last_line() == "waits"

    await wait_until(has_said_so, seconds=SECONDS, what="the module")


async def test_it_runs_as_a_program_of_its_own_and_reports_its_exit_code(run, tmp_path: Path) -> None:
    process = run(SAYS)
    assert await process.wait() == 78
    module = tmp_path / "forked_module.py"
    assert process.last_line() == f"__main__ {module} yes None True"


async def test_an_exception_is_in_its_log(run) -> None:
    process = run("raise ValueError('no')")
    assert await process.wait() == 1
    assert process.last_line() == "ValueError: no"


async def test_a_signal_ends_it_and_is_reported(run) -> None:
    process = run(WAITS)
    await waits(process)
    assert process.exit_code is None
    await process.kill()
    assert process.exit_code == -signal.SIGKILL


async def test_it_has_no_file_of_the_server_and_of_other_copies(run) -> None:
    other = run(WAITS)
    await waits(other)
    process = run("import os; print(*os.listdir('/proc/self/fd'))")
    assert await process.wait() == 0
    assert len(process.last_line().split()) == 4  # and the folder itself
    await other.kill()


async def test_it_ends_with_its_server(tmp_path: Path) -> None:
    server = ForkServer("json")

    async def has_imported() -> bool:
        return server.is_ready()

    await wait_until(has_imported, seconds=SECONDS, what="the fork server")
    (tmp_path / "forked_module.py").write_text(WAITS)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    process = ForkedChild(
        server, "forked", ["forked_module"], environment=environment, log_path=tmp_path / "log"
    )
    await waits(process)
    server.end()
    assert await process.wait() == -signal.SIGKILL
