"""What the system must reach, and how a measurement stands against it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.measurement import Measurement


@dataclass(frozen=True)
class Target:
    """A bound for one value of a measurement, and the floors to see it beside."""

    title: str
    value: str
    unit: str
    bound: float
    floors: tuple[str, ...]
    larger_is_better: bool = True


TARGETS: Mapping[str, Target] = {
    "latency": Target(
        "idle, from POST to the event in a client, median", "p50_ms", "ms", 12, ("pass-idle",), False
    ),
    "single": Target("single updates, synchronous, 64 callers", "rate", "updates/s", 2000, ("pass-busy",)),
    "batches": Target(
        "batches of 500, committed and announced",
        "rate",
        "updates/s",
        8000,
        ("transactions-1", "transactions-4"),
    ),
}


@dataclass(frozen=True)
class Figure:
    """A measured value with its target and its floor. Of several floors, the best."""

    target: Target
    measured: float
    floor: float

    @property
    def is_reached(self) -> bool:
        """Whether it meets the target."""
        if self.target.larger_is_better:
            return self.measured >= self.target.bound
        return self.measured <= self.target.bound

    @property
    def ratio(self) -> float:
        """The measured value in units of the floor."""
        return self.measured / self.floor


def figure_of(measurement: Measurement, floors: Mapping[str, Measurement]) -> Figure:
    """How a measurement stands against the target of its name."""
    target = TARGETS[measurement.name]
    best = max if target.larger_is_better else min
    floor = best(floors[name].values[target.value] for name in target.floors)
    return Figure(target, measurement.values[target.value], floor)
