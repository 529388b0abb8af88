"""What one run of a load gave, and what it cost."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Usage:
    """Processor time while a load ran, in seconds."""

    seconds: float
    """By the clock."""
    cores: int
    processes: dict[str, float]
    """Of each part of the system (its children and threads with it), and of the load itself."""
    others: float
    """Of everything else on the machine: were this large, the figures would not be the system's."""
    idle: float
    """Of all cores, waiting for the disk included."""
    stolen: float
    """Taken by the host of a virtual machine."""


@dataclass(frozen=True)
class Measurement:
    """The values that a load reported: `updates`, `seconds` and others of its own, named with their unit."""

    name: str
    values: dict[str, float]
    usage: Usage

    def cpu_ms_per_update(self, process: str) -> float | None:
        """Milliseconds of processor time an update, which is seconds per 1,000; None if it is not ours."""
        seconds = self.usage.processes.get(process)
        return None if seconds is None else seconds * 1000 / self.values["updates"]
