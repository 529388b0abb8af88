"""What one run of a load gave, and what it cost."""

from dataclasses import dataclass, replace


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
    memory: dict[str, float]
    """Bytes by which the resident memory of each process grew."""


@dataclass(frozen=True)
class Measurement:
    """The values that a load reported: `seconds`, what it did in that time (`updates`, `deliveries`), and
    others of its own, named with their unit.
    """

    name: str
    values: dict[str, float]
    usage: Usage

    def cpu_ms_per_update(self, process: str) -> float | None:
        """Milliseconds of processor time an update, which is seconds per 1,000; None if it is not ours."""
        seconds = self.usage.processes.get(process)
        return None if seconds is None else seconds * 1000 / self.values["updates"]

    def with_cost_of(self, server: str, unit: str) -> "Measurement":
        """The same with `server_us` and `clients_us`: microseconds of processor time for one of `unit`."""
        number = self.values[unit]
        costs = {
            "server_us": self.usage.processes[server] * 1e6 / number,
            "clients_us": self.usage.processes["generator"] * 1e6 / number,
        }
        return replace(self, values=self.values | costs)

    def with_memory_of(self, server: str) -> "Measurement":
        """The same with `client_kb`: by how many KB (1,000 bytes) each client made the server grow."""
        grown = self.usage.memory[server] / self.values["clients"] / 1000
        return replace(self, values=self.values | {"client_kb": grown})
