"""The machine that the figures belong to."""

import os
import platform
import re
from pathlib import Path
from tempfile import TemporaryFile
from time import perf_counter
from typing import Any

from benchmarks.load import percentile

SYNC_SAMPLES = 100
SYNC_BYTES = 4096


def this_machine(data: Path) -> dict[str, Any]:
    """The facts that a reader needs for a comparison. Takes a moment for the syncs in `data`."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "cores": os.cpu_count() or 1,
        "processor": model[1] if model else platform.machine(),
        "memory_gib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "filesystem": _filesystem(data),
        "sync_ms": _sync_ms(data),
        "load_at_start": os.getloadavg()[0],
    }


def describe(machine: dict[str, Any]) -> str:
    """The facts in one line."""
    return (
        "{cores} cores ({processor}), {memory_gib:.0f} GiB, Linux {kernel}, Python {python}, "
        "data on {filesystem}, 4 KiB synced in {sync_ms:.2f} ms, "
        "load average at the start {load_at_start:.2f}"
    ).format(**machine)


def _filesystem(path: Path) -> str:
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    above = [(mount, kind) for mount, kind in mounts if path.resolve().is_relative_to(mount)]
    return max(above, key=lambda mount: len(mount[0]))[1]


def _sync_ms(folder: Path) -> float:
    """The median of writing 4 KiB and having it on disk: a floor of every durable write."""
    times = []
    with TemporaryFile(dir=folder) as file:
        for _ in range(SYNC_SAMPLES):
            started = perf_counter()
            os.write(file.fileno(), bytes(SYNC_BYTES))
            os.fdatasync(file.fileno())
            times.append(perf_counter() - started)
    return percentile(sorted(times), 0.5) * 1000
