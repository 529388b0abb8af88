"""The machine that the figures belong to."""

import os
import platform
import re
from pathlib import Path
from tempfile import TemporaryFile
from time import perf_counter

from benchmarks.load import percentile

SYNC_SAMPLES = 100
SYNC_BYTES = 4096


def describe_machine(data: Path) -> str:
    """The facts that a reader needs for a comparison, in a line. Takes a moment for the syncs in `data`."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    above = [(mount, kind) for mount, kind in mounts if data.resolve().is_relative_to(mount)]
    return (
        f"{os.cpu_count()} cores ({model[1] if model else platform.machine()}), {memory:.0f} GiB, "
        f"Linux {platform.release()}, Python {platform.python_version()}, "
        f"data on {max(above, key=lambda mount: len(mount[0]))[1]}, 4 KiB synced in {_sync_ms(data):.2f} ms, "
        f"load average at the start {os.getloadavg()[0]:.2f}"
    )


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
