"""The machine that the figures belong to."""

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from time import perf_counter

from benchmarks.percentiles import percentile

SYNC_SAMPLES = 100
SYNC_BYTES = 4096


@dataclass(frozen=True)
class Machine:
    """What a reader needs to compare."""

    cores: int
    processor: str
    memory_gib: float
    kernel: str
    python: str
    filesystem: str
    """Of the data folder."""
    sync_ms: float
    """Median of writing 4 KiB there and having it on disk: a floor of every durable write."""
    load_at_start: float
    """Load average over one minute, before anything was started; near 0 on a quiet machine."""

    def describe(self) -> str:
        """One line."""
        return (
            f"{self.cores} cores ({self.processor}), {self.memory_gib:.0f} GiB, Linux {self.kernel}, "
            f"Python {self.python}, data on {self.filesystem}, {SYNC_BYTES // 1024} KiB synced in "
            f"{self.sync_ms:.2f} ms, load average at the start {self.load_at_start:.2f}"
        )


def this_machine(data: Path) -> Machine:
    """The facts. Takes a moment for the syncs in `data`."""
    return Machine(
        cores=os.cpu_count() or 1,
        processor=_field(Path("/proc/cpuinfo"), "model name") or platform.machine(),
        memory_gib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        kernel=platform.release(),
        python=platform.python_version(),
        filesystem=_filesystem(data),
        sync_ms=_sync_ms(data),
        load_at_start=os.getloadavg()[0],
    )


def _field(path: Path, name: str) -> str | None:
    match = re.search(rf"^{name}\s*:\s*(.+)$", path.read_text(), re.MULTILINE)
    return match[1] if match else None


def _filesystem(path: Path) -> str:
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    holding = [(mount, kind) for mount, kind in mounts if path.resolve().is_relative_to(mount)]
    return max(holding, key=lambda mount: len(mount[0]))[1]


def _sync_ms(folder: Path) -> float:
    times = []
    with TemporaryFile(dir=folder) as file:
        for _ in range(SYNC_SAMPLES):
            started = perf_counter()
            os.write(file.fileno(), bytes(SYNC_BYTES))
            os.fdatasync(file.fileno())
            times.append(perf_counter() - started)
    return percentile(sorted(times), 0.5) * 1000
