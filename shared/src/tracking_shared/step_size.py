"""The size of the steps of a long piece of work that others must not wait for. Pure."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class StepSize:
    """The number of items of the next step, chosen so that a step lasts about `target_seconds`."""

    items: int
    least: int
    """Even if fewer would last long enough: each step has a cost that does not depend on its size."""
    most: int
    target_seconds: float

    def after(self, items: int, seconds: float) -> "StepSize":
        """The size once a step of so many items has lasted so long. It changes by a factor of two at most,
        since one step may have waited for something else.
        """
        fitting = int(items * self.target_seconds / max(seconds, 1e-6))
        if items < self.items and seconds < self.target_seconds and fitting <= self.items:
            return self  # the rest of a list, which says little
        near = min(max(fitting, self.items // 2), 2 * self.items)
        return replace(self, items=min(max(near, self.least), self.most))
