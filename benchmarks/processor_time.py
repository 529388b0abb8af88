"""Processor time and memory by process, from /proc (proc(5))."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from benchmarks.load_process import LoadFailed
from benchmarks.measurement import Usage
from tracking.processes import descendants

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Reading:
    """Seconds since each process, and the machine, started."""

    at: float
    processes: dict[str, float]
    busy: float
    idle: float
    stolen: float
    memory: dict[str, int]
    """Resident bytes of each process, without its children."""


class Meter:
    """Reads some processes (ids by name)."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids

    def read(self) -> Reading:
        """The times by now.

        Raises:
            LoadFailed: a process has ended, so that what was measured is not the system at work.
        """
        processes = {name: _family_seconds(name, pid) for name, pid in self._pids.items()}
        memory = {name: _resident_bytes(pid) for name, pid in self._pids.items()}
        return Reading(perf_counter(), processes, *_machine_seconds(), memory)


def usage_between(before: Reading, after: Reading) -> Usage:
    """What was used from one reading to a later one of the same processes."""
    processes = {name: after.processes[name] - before.processes[name] for name in after.processes}
    return Usage(
        seconds=after.at - before.at,
        cores=os.cpu_count() or 1,
        processes=processes,
        others=max(after.busy - before.busy - sum(processes.values()), 0.0),
        idle=after.idle - before.idle,
        stolen=after.stolen - before.stolen,
        memory={name: after.memory[name] - before.memory[name] for name in after.memory},
    )


def _family_seconds(name: str, pid: int) -> float:
    own = _seconds(pid)
    if own is None:
        raise LoadFailed(f"{name} (process {pid}) ended during the measurement")
    return own + sum(_seconds(child) or 0.0 for child, _ in descendants(pid))


def _seconds(pid: int) -> float | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return _in_seconds(fields[11:13])


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES


def _machine_seconds() -> tuple[float, float, float]:
    user, nice, system, idle, iowait, irq, softirq, steal = (
        Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]
    )
    busy = _in_seconds((user, nice, system, irq, softirq))
    return busy, _in_seconds((idle, iowait)), _in_seconds((steal,))


def _in_seconds(ticks: Iterable[str]) -> float:
    return sum(map(int, ticks)) / _TICKS_PER_SECOND
